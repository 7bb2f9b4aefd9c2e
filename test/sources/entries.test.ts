// Long lists are read in pieces, and a long JSON document by a thread, so that they do not block the process.
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { type ListEntry, readList } from "../../lists/list.ts";
import { entriesIn } from "../../services/sources/entries.ts";
import { textOf } from "../../services/sources/reading.ts";
import { Room } from "../../services/sources/room.ts";
import { digestOfText } from "../../services/sources/seen.ts";

const stopping = new AbortController().signal;
const share = new Room().share("p");

async function read(text: string) {
  let pauses = 0;
  const entries: ListEntry[] = [];
  const pause = async (): Promise<void> => void pauses++;
  for await (const entry of entriesIn(text, { scheme: undefined, pause, share, stopping })) entries.push(entry);
  return { entries, pauses };
}

test("pauses while it reads lines, even if none of them is an entry", async () => {
  const { entries, pauses } = await read(`${"# a comment\n\n".repeat(50_000)}10.0.0.1:80\n`);
  expect(entries).toMatchObject([{ ok: true, at: { line: 100_001 } }]);
  expect(pauses).toBe(400);
});

test.each([
  ["lines", "\uFEFF10.0.0.1:80\r\nuser:pass@10.0.0.2:80\rnone\n\n10.0.0.3:80:DE"],
  ["CSV", 'ip,port,city\n10.0.0.1,80,"New\nYork"\n10.0.0.2,81,Rome'],
  ["JSON lines", '{"ip":"10.0.0.1","port":80}\n{"ip":"10.0.0.2"}\n'],
  ["a short JSON document", '["10.0.0.1:80", {"ip":"10.0.0.2","port":80}]'],
  ["a long JSON document", JSON.stringify(Array.from({ length: 20_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}:80`))],
  ["a long JSON document that is cut off", `["10.0.0.1:80"${`,"${"x".repeat(100)}"`.repeat(3000)}`],
])("reads %s as any other list", async (_name, text) => {
  expect((await read(text)).entries).toEqual([...readList(text)]);
});

test("stops the thread when the source is no longer followed", async () => {
  const text = JSON.stringify(Array.from({ length: 20_000 }, () => "10.0.0.1:80"));
  const ending = new AbortController();
  const entries = entriesIn(text, { scheme: undefined, pause: async () => {}, share, stopping: ending.signal });
  await entries.next();
  ending.abort();
  const remainder = async (): Promise<void> => {
    for await (const _ of entries);
  };
  await expect(remainder()).rejects.toMatchObject({ code: "retry-later" });
});

test("pauses while it digests a long text", async () => {
  let pauses = 0;
  const text = "10.0.0.1:80\n".repeat(500_000);
  const digest = await digestOfText(text, async () => void pauses++);
  expect(digest).toBe(createHash("sha256").update(text).digest("base64url"));
  expect(pauses).toBe(5);
});

test("decodes a long text in pieces, wherever the cuts are", async () => {
  const text = `${"ab€".repeat(500_000)}ä`;
  const whole = Buffer.from(text);
  expect(await textOf([whole])).toBe(text);
  const chunks = Array.from({ length: 7 }, (_, i) => Buffer.from("h€ä\n").subarray(i, i + 1));
  expect(await textOf(chunks)).toBe("h€ä\n");
  const wide = Buffer.from("\uFEFFh€ä\n", "utf16le");
  expect(await textOf([wide.subarray(0, 1), wide.subarray(1, 4), wide.subarray(4)])).toBe("h€ä\n");
  expect(await textOf([])).toBe("");
});
