// Labels of a known proxy that is added again: one rule for every way of adding.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";

import { connectRaw, type RawNats } from "../kit/raw-nats.ts";
import { type Json, type Service, sharedService } from "./http.ts";

let service: Service;
let nats: RawNats;
let pool: string;

beforeAll(async () => {
  service = await sharedService();
  nats = await connectRaw(service.remuda.natsUrl);
  pool = await service.pool("labels");
}, 150_000);
afterAll(async () => {
  await nats.close();
  await service.stop();
});

const known = { country: "DE", tier: "gold", exit: "198.51.100.1" };
const overNats = async (proxies: unknown[]): Promise<Json> =>
  (await nats.request("remuda.proxies.add.labels", JSON.stringify({ proxies }))).json();
const overHttp = async (list: string): Promise<Json> => (await service.call(`POST ${pool}/proxies`, list)).body;
const byCommand = async (list: string): Promise<Json> =>
  JSON.parse(
    (await runCommand(["proxies", "add", "-", "--pool", "labels", "--json"], { ...service, stdin: list })).stdout,
  );
const labels = async () => (await service.call(`GET ${pool}/proxies`)).body.proxies[0].labels;

beforeEach(async () => {
  await overNats([{ url: "192.0.2.1:80", labels: known }]);
  expect(await labels()).toEqual(known);
});

const ways = {
  "over NATS": (line: string) => overNats([line]),
  "over HTTP": overHttp,
  "by the command line": byCommand,
};
const csv = (columns: string, row: string) => `host,port,${columns}\n192.0.2.1,80,${row}\n`;
const json = (entry: object) => JSON.stringify([{ host: "192.0.2.1", port: 80, ...entry }]);

describe.each(Object.entries(ways))("%s", (way, add) => {
  test("merges the labels of a line into the existing ones", async () => {
    expect(await add("192.0.2.1:80:FR")).toMatchObject({ updated: 1 });
    expect(await labels()).toEqual({ ...known, country: "FR" });
    expect(await add("192.0.2.1:80:FR")).toMatchObject({ already: 1, updated: 0 });
    expect(await add("192.0.2.1:80,FR,Paris")).toMatchObject({ updated: 1 });
    expect(await labels()).toEqual({ ...known, country: "FR", city: "Paris" });
  });

  test("changes nothing with a line without labels", async () => {
    expect(await add("192.0.2.1:80")).toMatchObject({ already: 1, updated: 0 });
    expect(await labels()).toEqual(known);
  });

  if (way === "over NATS") return;

  test.each([
    [csv("country", "FR"), { ...known, country: "FR" }],
    [csv("exit_ip", "198.51.100.2"), { ...known, exit: "198.51.100.2" }],
    [json({ country: "FR", city: "Paris" }), { ...known, country: "FR", city: "Paris" }],
  ])("merges columns and fields of a vendor's list into the existing labels: %j", async (list, expected) => {
    expect(await add(list)).toMatchObject({ updated: 1 });
    expect(await labels()).toEqual(expected);
  });

  test.each([
    [csv("labels", '"{""tier"":""tin""}"'), { tier: "tin" }],
    [json({ country: "FR", labels: { tier: "tin" } }), { country: "FR", tier: "tin" }],
    [json({ labels: {} }), {}],
  ])("replaces all labels by a list's labels field: %j", async (list, expected) => {
    expect(await add(list)).toMatchObject({ updated: 1 });
    expect(await labels()).toEqual(expected);
  });
});

test("replaces all labels by a request's labels, and merges moreLabels into the existing ones", async () => {
  const url = "192.0.2.1:80";
  expect(await overNats([{ url }])).toMatchObject({ already: 1 });
  expect(await overNats([{ url, moreLabels: { tier: "tin" } }])).toMatchObject({ updated: 1 });
  expect(await labels()).toEqual({ ...known, tier: "tin" });
  expect(await overNats([{ url: `${url}:FR` }])).toMatchObject({ updated: 1 });
  expect(await labels()).toEqual({ ...known, tier: "tin", country: "FR" });
  expect(await overNats([{ url, moreLabels: { city: "Paris" }, labels: { tier: "tin" } }])).toMatchObject({
    updated: 1,
  });
  expect(await labels()).toEqual({ tier: "tin", city: "Paris" });
  expect(await overNats([{ url, labels: {} }])).toMatchObject({ updated: 1 });
  expect(await labels()).toEqual({});
  const broken = await overNats([{ url, moreLabels: { "a b": "x" } }]);
  expect(broken.rejected).toMatchObject([{ why: expect.stringContaining("moreLabels.a b: ") }]);
});
