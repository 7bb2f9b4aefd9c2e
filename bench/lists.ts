// The importer: lists of 100 000 lines, CSV, a JSON document of 20 MB on one line, and 1 MB of the most expensive
// input. It measures the CPU time of this process for reading and `toSend` together, then the picker's work on the same
// entries before it decides.

import { Readable } from "node:stream";
import type { Ask } from "../cli/connection.ts";
import { addLists } from "../cli/lists.ts";
import type { AddReply } from "../protocol/proxy.ts";
import { keyOf } from "../runtime/secrets.ts";
import { readEntries } from "../services/picker/entries.ts";
import { outboundWith } from "../transport/outbound.ts";

const count = 100_000;
const hostileBytes = 1_000_000;
/** The goal. */
const perSecondMin = 30_000;
const hostileMsMax = 1000;

const address = (i: number): string => `100.${64 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
const each = (entry: (i: number) => string, separator = "\n"): string =>
  Array.from({ length: count }, (_, i) => entry(i)).join(separator);
const vendor = (i: number): object => ({
  ...{ proxy_address: address(i), port: 10_000 + (i % 5000), username: `user${i}`, password: `pass${i}` },
  ...{ country_code: "US", city_name: "New York", valid: true, created_at: "2026-01-01T00:00:00Z" },
});

const lists: Record<string, () => string> = {
  "lines: host:port": () => each((i) => `${address(i)}:8080`),
  "lines: host:port:user:pass": () => each((i) => `${address(i)}:8080:user${i}:pass${i}`),
  "lines: scheme://user:pass@host:port": () => each((i) => `socks5://user${i}:p%40ss${i}@${address(i)}:1080`),
  "lines: host:port@user:pass": () => each((i) => `${address(i)}:8080@user${i}:${i}`),
  "lines: proxychains": () => each((i) => `socks5\t${address(i)}\t1080\tuser${i}\tpass${i}`),
  "lines: with labels": () => each((i) => `${address(i)}:8080,US,New York`),
  "one line: separated by commas": () => each((i) => `${address(i)}:8080${i % 100 === 99 ? "\n" : ""}`, ","),
  CSV: () =>
    `ip,port,user,pass,protocols,country\n${each((i) => `"${address(i)}","80","u${i}","p${i}","socks5","DE"`)}`,
  "JSON lines": () => each((i) => JSON.stringify(vendor(i))),
  "JSON, one line of 20 MB": () => JSON.stringify(Array.from({ length: count }, (_, i) => vendor(i))),
};

const hostile: readonly string[] = [
  ...["a,1,{,{\n", "a,1,{},{}\n", "[::]\n", "a a:1\n", `${",".repeat(251)}1\n`],
  ...'\n a a\n a:1\n a:1, a@ a@b: : :: ,a@b:1 http:// http://a:b, # \t [ [] {} {}, " "" \\" \u0000 % %25@ 1.1.1.1: 1.1.1.1:1:a:b, [::] ::1: , ; ,\n 🐎'.split(
    " ",
  ),
  "\r",
  " ",
  "socks5 ",
  "a,US,b ",
  "192.0.2.1:80 ",
  "1.1.1.1:1,US,",
];
const wide = `ip,port${",x".repeat(250)}\n`;
const beginnings = [
  "",
  "ip,port\n",
  wide,
  "ip,port,labels,limits\n",
  "ip;port;pass\n",
  "[",
  '{"a":1}\n',
  '["',
  '{"results":[',
  '[{"protocols":[',
];

export async function benchLists(): Promise<void> {
  const key = keyOf(Buffer.alloc(32, 1).toString("base64"), "the benchmark");
  let isSlow = false;
  for (const [name, make] of Object.entries(lists)) {
    const list = make();
    const { read, sent, ms } = await readAll(list);
    const picker = await cpuOf(
      async () =>
        void (await readEntries({ proxies: sent }, { key, outbound: outboundWith({ hosts: [], blocks: [] }) })),
    );
    const rate = Math.round((read / ms) * 1000);
    isSlow ||= rate < perSecondMin || sent.length !== read;
    const megabytes = (list.length / 1e6).toFixed(1);
    console.log(
      `${name.padEnd(38)} ${megabytes} MB, ${sent.length}/${read} read, ${rate} entries/s, picker ${picker} ms`,
    );
  }
  const costs: { what: string; ms: number }[] = [];
  for (const beginning of beginnings) {
    for (const piece of hostile) {
      const list = beginning + piece.repeat(Math.ceil(hostileBytes / piece.length));
      costs.push({ what: JSON.stringify(beginning.slice(-24) + piece.slice(-24)), ms: (await readAll(list)).ms });
    }
  }
  costs.sort((a, b) => b.ms - a.ms);
  console.log(`hostile, 1 MB each, the slowest of ${costs.length}:`);
  for (const { what, ms } of costs.slice(0, 8)) console.log(`  ${what.padEnd(34)} ${ms} ms`);
  if (isSlow || (costs[0]?.ms ?? 0) > hostileMsMax) process.exitCode = 1;
}

async function readAll(list: string): Promise<{ read: number; sent: object[]; ms: number }> {
  const pieces: Buffer[] = [];
  const bytes = Buffer.from(list);
  for (let at = 0; at < bytes.length; at += 65_536) pieces.push(bytes.subarray(at, at + 65_536));
  const sent: object[] = [];
  let read = 0;
  const ask = async (_verb: string, body?: object): Promise<AddReply> => {
    const { proxies } = body as { proxies: object[] }; // As addLists sends it.
    for (const each of proxies) sent.push(each);
    return { added: proxies.length, already: 0, updated: 0, rejected: [], rejectedCount: 0 };
  };
  const stored = { name: "bench", stream: Readable.from(pieces) };
  const ms = await cpuOf(async () => {
    ({ read } = await addLists(ask as Ask, [stored], { tell: () => {}, summarize: false }));
  });
  return { read, sent, ms };
}

async function cpuOf(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return Math.round((user + system) / 1000);
}
