// What the page takes from its URL. Anybody may have written it.
import { afterAll, beforeAll, expect, test, vi } from "vitest";

let placeIn: (search: string) => object;

beforeAll(async () => {
  vi.stubGlobal("location", { search: "?view=pool&pool=web" });
  vi.stubGlobal("addEventListener", () => {});
  ({ placeIn } = (await import(new URL("../../web/place.js", import.meta.url).href)) as { placeIn: typeof placeIn });
});
afterAll(() => {
  vi.unstubAllGlobals();
});

test("reads a place from a URL, and leaves out values that would be more than one word in a command", () => {
  const place = {
    view: "proxy",
    pool: "web-1",
    proxy: "p_a-_0",
    at: "1764565200000",
    text: "it's $HOME",
    constructor: "1",
  };
  expect(placeIn(`?${new URLSearchParams(place)}`)).toEqual(place);
  for (const more of ["; id", "$(id)", "`id`", "\nid", "'", "&forMs=1"]) {
    const written = { view: "proxy", pool: `web${more}`, proxy: `p_a${more}`, at: `1${more}` };
    expect(placeIn(`?${new URLSearchParams(written)}`)).toEqual({ view: "proxy" });
  }
});
