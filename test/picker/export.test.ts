// An exported pool can be imported again unchanged, with its logins: through a leader on a ledger in memory, the
// list that the command line writes, and the importer.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formats } from "../../cli/export.ts";
import { exported, type Format, ListWriter } from "../../cli/list-writer.ts";
import { proxyFromParts, proxyUrl } from "../../lists/address.ts";
import { parseProxyLine } from "../../lists/line.ts";
import { readList, toSend } from "../../lists/list.ts";
import type { AddReply, ExportReply, ProxyEntry, ProxyReply } from "../../protocol/proxy.ts";
import type { LeaderVerb, PoolVerb } from "../../protocol/verbs.ts";
import { systemClock } from "../../runtime/clock.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { proxyIdOf } from "../../services/picker/entries.ts";
import { Requests } from "../../services/picker/requests.ts";
import { foldedLeader } from "../kit/leader.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { loopbackAllowed } from "../kit/outbound.ts";

const key = keyOf(Buffer.alloc(32, 7).toString("base64url"), "test");

class Pool {
  readonly logins = new Map<string, string>();
  readonly ledger = new MemoryLedger();
  #requests: Requests | undefined;

  static async open(): Promise<Pool> {
    const pool = new Pool();
    const feed = { follow: () => {}, last: async () => undefined, stop: () => {} };
    const secrets = {
      ...noSecrets,
      put: async (some: ReadonlyMap<string, string>) => {
        for (const [id, login] of some) pool.logins.set(id, login);
      },
      get: (id: string) => pool.logins.get(id),
    };
    const ports = { pool: "test", id: "leader", ledger: pool.ledger, feed, clock: systemClock, key, secrets };
    const leader = await foldedLeader({ ...ports, tell: () => {} });
    pool.#requests = new Requests({
      outbound: loopbackAllowed,
      leader,
      secrets,
      key,
      newLeaseId: () => `l_${"a".repeat(22)}`,
    });
    const opening = new Promise((resolve) => pool.#requests?.open({}, resolve));
    await leader.lead();
    await opening;
    return pool;
  }

  ask<Reply>(verb: Exclude<LeaderVerb | PoolVerb, "pool.open">, body: object = {}): Promise<Reply> {
    return new Promise((resolve) => this.#requests?.handle(verb, body, (answer) => resolve(answer as Reply)));
  }

  add(proxies: readonly unknown[]): Promise<AddReply> {
    return this.ask("proxies.add", { proxies });
  }

  async list(): Promise<ProxyReply[]> {
    return (await this.ask<{ proxies: ProxyReply[] }>("proxies.list", { limit: 1000 })).proxies;
  }

  async export(format: Format): Promise<string> {
    const { proxies, next } = await this.ask<ExportReply>("proxies.export");
    expect(next).toBeUndefined();
    const writer = new ListWriter(format);
    return proxies.map((each) => writer.entry(exported(each))).join("") + writer.end();
  }
}

/** In the form that the importer sends. */
function sent(list: string): (ProxyEntry | { rejected: string })[] {
  return [...readList(list)].map((entry) => (entry.ok ? toSend(entry) : { rejected: entry.why }));
}

const whole = ({ id, labels, limits, exit }: ProxyReply) => ({ id, labels, limits, exit });

/** Values that a list might handle wrongly. */
const odd = fc.constantFrom(
  ...[
    "%",
    "%41",
    ":",
    "@",
    "/",
    "?",
    "#",
    "[",
    "]",
    '"',
    "'",
    ",",
    ";",
    "\\",
    "=1+1",
    "-2",
    "\u00e9",
    "e\u0301",
    "密码",
  ],
  ...[
    "😀",
    "\uFFFD",
    "\uFEFF",
    "\u2028",
    "\u202e",
    "{",
    "}",
    "<",
    ">",
    "|",
    "`",
    "$(x)",
    "port",
    "host,ip",
    "__proto__",
    "&amp;",
  ],
);
const credential = fc.oneof(
  fc
    .array(fc.oneof(odd, fc.string({ unit: "grapheme" })), { minLength: 1, maxLength: 4 })
    .map((parts) => parts.join("")),
  fc.string({ unit: "binary" }),
);
const labelName = fc.oneof(
  fc.constantFrom("country", "city", "exit", "tier", "constructor", "labels", "port"),
  fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.:-]{0,8}$/),
);
const labelText = fc.oneof(
  fc.constantFrom(
    "US",
    "us",
    "New York",
    "",
    " a ",
    "a,b",
    "1.2.3.4:80",
    "::FFFF:192.0.2.1",
    "a\r\nb",
    "\ud800",
    "CC",
    "Host",
  ),
  credential,
);
const limits = fc.constantFrom(
  {},
  { concurrency: 3 },
  { concurrency: null },
  { rate: null, usage: { limit: 5, restMs: 60_000 } },
  {
    rate: [
      { limit: 3, windowMs: 1000 },
      { windowMs: 60_000, limit: 30 },
    ],
  },
);
const address = fc
  .record({
    scheme: fc.constantFrom("http", "https", "socks4", "socks4a", "socks5", "socks5h", "socks"),
    host: fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain(), fc.constantFrom("squid", "localhost", "::ffff:192.0.2.9")),
    port: fc.integer({ min: 1, max: 65_535 }),
    username: fc.option(credential, { nil: undefined }),
    password: fc.option(credential, { nil: undefined }),
  })
  .map((parts) => proxyFromParts(parts))
  .filter((made) => made.ok)
  .map(({ proxy: { labels: _, ...rest } }) => rest);
const entry = fc.oneof(
  fc.record(
    { url: address.map(proxyUrl), labels: fc.dictionary(labelName, labelText, { maxKeys: 5 }), limits },
    { requiredKeys: ["url"] },
  ),
  address.map(({ host, port, username = "", password = "" }) =>
    [host.includes(":") ? `[${host}]` : host, port, username, password].join(":"),
  ),
  address.chain((each) =>
    fc.constantFrom(...["", ",US", ":de", ",FR,Paris", ",US,New York"].map((after) => proxyUrl(each) + after)),
  ),
);

describe("exports whatever a pool accepts, and imports it unchanged", () => {
  test.each(formats)("as %s", async (format) => {
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 4 }), async (entries) => {
        const pool = await Pool.open();
        await pool.add(entries);
        const before = await pool.list();
        const list = await pool.export(format);
        const commits = pool.ledger.commits.length;
        const again = sent(list);
        expect(again.length).toBe(before.length);
        expect(again.filter((each) => "rejected" in each)).toEqual([]);
        expect(await pool.add(again)).toMatchObject({ added: 0, updated: 0, already: before.length, rejectedCount: 0 });
        expect(pool.ledger.commits.length).toBe(commits);
        const copy = await Pool.open();
        await copy.add(again);
        const after = await copy.list();
        expect(after.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
        if (format === "lines") return; // A line cannot hold limits, nor most labels.
        expect(after.map(whole)).toEqual(before.map(whole));
        expect(copy.logins).toEqual(pool.logins);
        expect(await copy.export(format)).toBe(list);
      }),
      { numRuns: 150 },
    );
  });

  test("exports an entry again as the importer reads it from a line", () => {
    const piece = fc.oneof(
      odd,
      fc.constantFrom("192.0.2.1:80", "user", "http://", ":", "@", "p:1", "[::1]:8", ",DE"),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
        for (const read of parseProxyLine(pieces.join(""))) {
          if (!read.ok) continue;
          const { labels, ...rest } = read.proxy;
          for (const format of formats) {
            const writer = new ListWriter(format);
            const list = writer.entry(exported({ url: proxyUrl(rest), labels })) + writer.end();
            expect([...readList(list)]).toMatchObject([{ ok: true, proxy: format === "lines" ? rest : read.proxy }]);
          }
        }
      }),
      { numRuns: 3000 },
    );
  });
});

test("reads any bytes as a list without throwing, and accepts only whole entries", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc
      .array(fc.oneof(odd, fc.constantFrom("\n", "\r", ",", '"', "{", "[", "ip,port\n", '{"url":"', "192.0.2.1:80")), {
        maxLength: 40,
      })
      .map((parts) => Buffer.from(parts.join(""))),
  );
  fc.assert(
    fc.property(bytes, fc.constantFrom("utf8" as const, "latin1" as const, "utf16le" as const), (raw, encoding) => {
      for (const read of readList(Buffer.from(raw).toString(encoding))) {
        if (!read.ok) continue;
        const { labels: _, ...rest } = read.proxy;
        expect(parseProxyLine(proxyUrl(rest))).toMatchObject([{ ok: true, proxy: rest }]);
      }
    }),
    { numRuns: 3000 },
  );
});

test.each([
  [{}, "p_K2w9R8UGJAZrWVW8"],
  [{ username: "ZYTE-KEY" }, "p_c3NDfrTB4_P8ZkmI"],
  [{ username: "ZYTE-KEY", password: "secret" }, "p_4xMACIprIcz4mgxb"],
])("a proxy with the login %j has the same id for ever", (login, id) => {
  expect(proxyIdOf({ scheme: "http", host: "192.0.2.1", port: 80, ...login, labels: {} }, key)).toBe(id);
});

describe("proxies.export", () => {
  test("includes the credentials, excludes other labels, and excludes retired proxies unless requested", async () => {
    const pool = await Pool.open();
    await pool.add(["http://u:p%40%2F@192.0.2.1:80,US", "http://u@192.0.2.2:80", "192.0.2.3:80"]);
    const ids = new Map((await pool.list()).map(({ host, id }) => [host, id]));
    await pool.ask("proxies.retire", { ids: [ids.get("192.0.2.3")] });
    const all = await pool.ask<ExportReply>("proxies.export");
    expect(all.proxies).toHaveLength(2);
    expect(all.proxies).toContainEqual({
      id: ids.get("192.0.2.1"),
      url: "http://u:p%40%2F@192.0.2.1:80",
      labels: { country: "US" },
    });
    expect(all.proxies).toContainEqual({ id: ids.get("192.0.2.2"), url: "http://u@192.0.2.2:80", labels: {} });
    expect(all).not.toHaveProperty("lost");
    const retired = await pool.ask<ExportReply>("proxies.export", { state: "retired" });
    expect(retired.proxies.map(({ url }) => url)).toEqual(["http://192.0.2.3:80"]);
    const american = await pool.ask<ExportReply>("proxies.export", { labels: { country: "US" } });
    expect(american.proxies).toHaveLength(1);
  });

  test("reports a login that is lost or another proxy's, and exports the other proxies", async () => {
    const pool = await Pool.open();
    await pool.add(["a:1", "anna", "b:2", "c:3", "d"].map((login, i) => `http://${login}@192.0.2.${i + 1}:80`));
    const ids = new Map((await pool.list()).map(({ host, id }) => [host, id]));
    const idOf = (i: number): string => ids.get(`192.0.2.${i}`) ?? "";
    for (const i of [1, 2]) pool.logins.delete(idOf(i));
    pool.logins.set(idOf(3), "b\nnot 2");
    const reply = await pool.ask<ExportReply>("proxies.export");
    expect(new Set(reply.proxies.map(({ url }) => url))).toEqual(
      new Set(["http://c:3@192.0.2.4:80", "http://d@192.0.2.5:80"]),
    );
    expect(reply.lost?.toSorted((a, b) => (a.url < b.url ? -1 : 1))).toEqual([
      { id: idOf(1), url: "http://192.0.2.1:80", username: "…" },
      { id: idOf(2), url: "http://192.0.2.2:80", username: "a…" },
      { id: idOf(3), url: "http://192.0.2.3:80", username: "…" },
    ]);
  });

  test("bounds its pages in number and in bytes, and misses nothing", async () => {
    const pool = await Pool.open();
    const labels = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`label-${i}`, "密".repeat(256)]));
    await pool.add(Array.from({ length: 15 }, (_, i) => ({ url: `192.0.2.${i}:80`, labels })));
    for (let part = 0; part < 4; part++)
      await pool.add(Array.from({ length: 15 }, (_, i) => ({ url: `198.51.${part}.${i}:80`, labels })));
    const urls: string[] = [];
    let after: string | undefined;
    let pages = 0;
    do {
      const reply = await pool.ask<ExportReply>("proxies.export", { ...(after === undefined ? {} : { after }) });
      expect(Buffer.byteLength(JSON.stringify(reply))).toBeLessThan(512 * 1024);
      urls.push(...reply.proxies.map(({ url }) => url));
      after = reply.next;
      pages++;
    } while (after !== undefined);
    expect(pages).toBeGreaterThan(3);
    expect(new Set(urls).size).toBe(75);
    const few = await pool.ask<ExportReply>("proxies.export", { limit: 2 });
    expect(few.proxies).toHaveLength(2);
    expect(few.next).toBe(few.proxies[1]?.id);
  });

  test("adds no labels from a line to a proxy that has the maximum", async () => {
    const pool = await Pool.open();
    const labels = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`label-${i}`, "x"]));
    await pool.add([{ url: "192.0.2.1:80", labels }]);
    expect(await pool.add(["192.0.2.1:80,US,Miami"])).toMatchObject({ added: 0, rejectedCount: 0 });
    expect(await pool.add(sent(await pool.export("json")))).toMatchObject({ already: 1, rejectedCount: 0 });
  });
});
