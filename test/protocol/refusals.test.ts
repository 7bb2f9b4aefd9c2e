// Which requests are refused, with which code, and that a refusal changes nothing. Protocol §1: the codes, their
// numbers, the service-error headers; replies go to inboxes only.

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { connectRaw, type RawMessage } from "../kit/raw-nats.ts";
import { type Added, deepJson, type Lease, lax, refusalIn, startWire, type Wire } from "./wire.ts";

let wire: Wire;
let lease: Lease;
beforeAll(async () => {
  wire = await startWire();
  await wire.open("busy", lax, ["10.7.0.1:80", { url: "socks5://ann:hush@10.7.0.2:80", labels: { country: "DE" } }]);
  lease = await wire.lease("busy", { uses: 5, requestId: randomUUID() });
  await wire.report("busy", { leaseId: lease.leaseId, n: 1, status: 200 });
});
afterAll(() => wire.stop());

/** Every subject that reads its request, with a request that would be accepted. */
const accepted = (): Record<string, object> => ({
  lease: {},
  renew: { leaseId: lease.leaseId },
  release: { leaseId: lease.leaseId },
  report: { outcomes: [{ leaseId: lease.leaseId, n: 2, status: 403 }] },
  "proxies.add": { proxies: ["10.7.0.9:80"] },
  "proxies.list": {},
  "proxies.get": { id: lease.proxyId },
  "proxies.retire": { ids: [lease.proxyId] },
  "proxies.rest": { ids: [lease.proxyId], forMs: 60_000 },
  "proxies.revive": { ids: [lease.proxyId] },
  "leases.list": {},
  "pool.open": { policy: { concurrency: 1 } },
  "pool.policy": { policy: { concurrency: 1 } },
  "pool.close": {},
});
const verbs = [
  "lease",
  "renew",
  "release",
  "report",
  "proxies.add",
  "proxies.list",
  "proxies.get",
  "proxies.retire",
  "proxies.rest",
  "proxies.revive",
  "leases.list",
  "pool.open",
  "pool.policy",
  "pool.close",
];

test("answers the sender even if an unknown field has a very long name", async () => {
  const long = "x".repeat(400_000);
  for (const [verb, body] of [
    ["pool.policy", { policy: { [long]: 1 } }],
    ["lease", { labels: { [long]: "DE" } }],
  ] as const) {
    const refusal = await wire.refused(verb, "busy", body, "invalid-request");
    expect(refusal.field).toMatch(/^(policy|labels)\.x{100,200}…$/);
    expect(refusal.message.length).toBeLessThan(400);
  }
});

describe("answers invalid-request to a body that is not a valid request, and changes nothing", () => {
  test.each(verbs)("%s", async (verb) => {
    const bodies: (string | Uint8Array)[] = [
      "not json",
      "{",
      '{"a":}',
      "{}{}",
      "null",
      "true",
      "5",
      '"text"',
      "[]",
      "[{}]",
      Buffer.from([0xff, 0xfe, 0x00, 0x80]),
      "\u0000",
      "[".repeat(200_000),
      "[".repeat(100_000) + "]".repeat(100_000),
    ];
    await wire.changesNothing("busy", async () => {
      for (const body of bodies) refusalIn(await wire.ask(verb, "busy", body), "invalid-request");
    });
  });
});

describe("answers invalid-request to a field of a wrong type or out of range, names it, and changes nothing", () => {
  const long = "x".repeat(5000);
  test.each<[string, string, unknown[]]>([
    ["lease", "uses", [0, -1, "1", [], {}, true, 1e9]],
    ["lease", "minUses", [0, -1, "1"]],
    ["lease", "ttlMs", [0, -5, "90000", 3_600_001]],
    ["lease", "waitMs", [-1, 60_001, "0"]],
    ["lease", "labels", ["DE", [], 5, { country: 5 }, { country: { a: 1 } }]],
    ["lease", "schemes", ["http", [], ["ftp"], [5]]],
    ["lease", "exclude", ["p_0123456789abcdef", [5], Array.from({ length: 1001 }, () => "p_0123456789abcdef")]],
    ["lease", "holder", [5, {}, long]],
    ["lease", "token", ["yes", 1]],
    ["renew", "leaseId", [undefined, 5, null, [], {}]],
    ["renew", "ttlMs", [0, -1, "5", 3_600_001]],
    ["release", "leaseId", [undefined, 5, null]],
    ["release", "used", [-1, "1", 6]],
    ["report", "outcomes", [undefined, null, {}, "x", 5]],
    ["proxies.add", "proxies", [undefined, null, {}, "10.7.0.3:80", 5]],
    ["proxies.list", "limit", [0, -1, 1001, "10"]],
    ["proxies.list", "state", ["leasable", "", 5]],
    ["proxies.list", "labels", ["DE", [], { country: 5 }]],
    ["proxies.list", "after", [5, {}]],
    ["proxies.get", "id", [undefined, 5, null, {}]],
    ["proxies.retire", "ids", [undefined, "p_0123456789abcdef", [5], null, {}]],
    ["proxies.rest", "ids", [undefined, "p_0123456789abcdef", [null]]],
    ["proxies.rest", "forMs", [undefined, 0, -1, "60000", null]],
    ["proxies.revive", "ids", [undefined, "p_0123456789abcdef", [{}]]],
    ["leases.list", "limit", [0, 1001, "5"]],
    ["leases.list", "holder", [5]],
    ["pool.open", "policy", [[], "x", 5]],
    ["pool.policy", "policy", [undefined, null, [], "x", 5]],
    ["pool.policy", "ifVersion", [0, -1, "1", 99]],
    ["pool.close", "drain", ["yes", 1]],
  ])("%s: %s", async (verb, field, values) => {
    await wire.changesNothing("busy", async () => {
      for (const value of values) {
        const body = { ...accepted()[verb], [field]: value };
        const refusal = await wire.refused(verb, "busy", body, "invalid-request");
        expect(`${refusal.field}.`).toMatch(new RegExp(`^${field}\\.`));
      }
    });
  });

  test("the message contains the bounds", async () => {
    const messageOf = async (request: object) =>
      (await wire.refused("lease", "busy", request, "invalid-request")).message;
    expect(await messageOf({ uses: 1001 })).toContain("1000");
    expect(await messageOf({ ttlMs: 3_600_001 })).toContain("3600000");
    expect(await messageOf({ waitMs: 60_001 })).toContain("60000");
    await wire.open("bounds", { rate: { limit: 7, windowMs: 1000 }, usage: { limit: 5, restMs: 1000 } }, [
      "10.7.0.4:80",
    ]);
    const refusal = await wire.refused("lease", "bounds", { uses: 6 }, "invalid-request");
    expect(refusal).toMatchObject({ field: "uses", message: expect.stringContaining("5") });
    expect((await wire.lease("bounds", { uses: 5 })).uses).toBe(5);
  });

  test("refuses a minimum of uses above the maximum", async () => {
    await wire.changesNothing("busy", async () => {
      const refusal = await wire.refused("lease", "busy", { uses: 2, minUses: 3 }, "invalid-request");
      expect(refusal.field).toBe("minUses");
    });
  });

  test("ignores unknown fields of a request", async () => {
    const extra = { nonsense: 1, __proto__x: {}, policy: { nope: true } };
    for (const verb of ["proxies.list", "leases.list"]) await wire.ok(verb, "busy", extra);
    await wire.open("extra", lax, ["10.7.0.5:80"]);
    await wire.lease("extra", { ...extra, uses: 1 });
    await wire.ok("pool.open", "extra", { nonsense: 1 });
  });
});

describe("the error codes, with their numbers", () => {
  test("answers too-large on every subject, and changes nothing", async () => {
    await wire.changesNothing("busy", async () => {
      for (const verb of verbs) {
        const twoMegabytes = JSON.stringify({ ...accepted()[verb], padding: "x".repeat(2 << 20) });
        await wire.refused(verb, "busy", twoMegabytes, "too-large");
      }
      await wire.refused("lease", "busy", "x".repeat(512 * 1024 + 1), "too-large");
      await wire.refused("pool.stats", "busy", "x".repeat(600_000), "too-large");
    });
    expect(wire.nats.errors).toEqual([]);
    // A body just within the bound is read.
    const body = JSON.stringify({ padding: "x".repeat(512 * 1024 - 14) });
    expect(Buffer.byteLength(body)).toBe(512 * 1024);
    await wire.ok("proxies.list", "busy", body);
  });

  test("no-token-source", async () => {
    await wire.changesNothing("busy", async () => {
      await wire.refused("token.get", "busy", {}, "no-token-source");
      await wire.refused("token.get", "busy", { proxyId: lease.proxyId, waitMs: 10 }, "no-token-source");
      await wire.refused("token.reject", "busy", { tokenId: "t" }, "no-token-source");
      await wire.refused("lease", "busy", { token: true }, "no-token-source");
    });
    expect(await wire.lease("busy", { token: false })).not.toHaveProperty("token");
  });

  test("no-match, unknown-lease, unknown-proxy, unknown-pool and pool-exhausted change nothing", async () => {
    const ids = (await wire.proxies("busy")).map(({ id }) => id);
    await wire.changesNothing("busy", async () => {
      await wire.refused("lease", "busy", { labels: { no: "such" } }, "no-match");
      await wire.refused("lease", "busy", { exclude: ids }, "pool-exhausted");
      await wire.refused("renew", "busy", { leaseId: "l_0123456789012345678901" }, "unknown-lease");
      await wire.refused("release", "busy", { leaseId: "l_0123456789012345678901" }, "unknown-lease");
      await wire.refused("proxies.get", "busy", { id: "p_0123456789abcdef" }, "unknown-proxy");
    });
    await wire.refused("pool.get", "elsewhere", {}, "unknown-pool");
  });

  test("counts refused requests by their code", async () => {
    await wire.open("counting", { ...lax, waiting: { max: 0 }, concurrency: 1 }, ["10.7.0.6:80"]);
    await wire.lease("counting");
    for (let n = 0; n < 3; n++) await wire.refused("lease", "counting", { uses: 0 }, "invalid-request");
    for (let n = 0; n < 2; n++) await wire.refused("lease", "counting", {}, "pool-exhausted");
    await wire.refused("lease", "counting", { waitMs: 50 }, "overloaded");
    await wire.refused("lease", "counting", { labels: { no: "such" } }, "no-match");
    const refused = { "invalid-request": 3, "pool-exhausted": 2, overloaded: 1, "no-match": 1 };
    await eventually(async () => expect((await wire.stats("counting")).refused).toEqual(refused));
    const counted = (await wire.events("counting")).filter(({ type }) => type === "RequestsRefused");
    expect(counted.reduce((sum, { count }) => sum + Number(count), 0)).toBe(7);
  });
});

describe("input that would break a careless reader", () => {
  test("a policy of eighty thousand levels is invalid-request, and the pool goes on", async () => {
    await wire.open("deep", lax, ["10.7.0.7:80"]);
    await wire.refused("pool.policy", "deep", `{"policy":${deepJson(80_000)}}`, "invalid-request");
    await wire.lease("deep");
  });

  test("does not open a pool with such a policy", async () => {
    await wire.refused("pool.open", "deep-unborn", `{"policy":${deepJson(80_000)}}`, "invalid-request");
    await wire.noResponders("lease", "deep-unborn");
  });

  test("deeply nested values in fields that are read separately do no harm", async () => {
    const deep = deepJson(35_000);
    await wire.changesNothing("busy", async () => {
      const added = await wire.ok<Added>("proxies.add", "busy", `{"proxies":[${deep},{"url":${deep}}]}`);
      expect(added).toMatchObject({ added: 0, rejectedCount: 2 });
      await wire.refused("lease", "busy", `{"labels":${deep}}`, "invalid-request");
      const limited = `{"proxies":[{"url":"10.7.0.8:80","limits":${deep}}]}`;
      expect(await wire.ok<Added>("proxies.add", "busy", limited)).toMatchObject({ added: 0, rejectedCount: 1 });
    });
    await wire.refused("report", "busy", `{"outcomes":[${deep}]}`, "invalid-request");
  });

  test("accepts the names of an object's built-in properties like any other name", async () => {
    await wire.open("names", lax, [{ url: "10.7.1.1:80", labels: { constructor: "x", toString: "y" } }, "10.7.1.2:80"]);
    for (const name of ["constructor", "toString", "valueOf", "hasOwnProperty"]) {
      await wire.refused("lease", "names", { labels: { [name]: "z" } }, "no-match");
      expect(await wire.ok("proxies.list", "names", { labels: { [name]: "z" } })).toEqual({ proxies: [] });
      await wire.refused("pool.policy", "names", { policy: { [name]: 1 } }, "invalid-request");
      await wire.refused("pool.policy", "names", { policy: { strategy: { kind: name } } }, "invalid-request");
      await wire.refused("proxies.get", "names", { id: name }, "unknown-proxy");
      await wire.refused("pool.get", name.toLowerCase(), {}, "unknown-pool");
    }
    expect((await wire.lease("names", { labels: { constructor: "x" } })).host).toBe("10.7.1.1");
  });

  test("rejects bytes that are not UTF-8 as invalid JSON", async () => {
    await wire.changesNothing("busy", async () => {
      const body = Buffer.from('{"holder":"\xff\xfe","labels":{"no":"such"}}', "latin1");
      await wire.refused("lease", "busy", body, "invalid-request");
    });
  });
});

describe("a reply subject that is not an inbox", () => {
  /** Waits until everything sent before on this connection has been handled. */
  const settled = async () => {
    await wire.nats.flush();
    await wire.stats("busy");
    await wire.stats("default");
  };

  test("gets no answer, and the request has no effect", async () => {
    const elsewhere = `answers.${randomUUID()}`;
    const heard: RawMessage[] = [];
    const unsubscribe = wire.nats.subscribe(elsewhere, (message) => heard.push(message));
    await wire.changesNothing("busy", async () => {
      for (const [verb, body] of Object.entries(accepted())) {
        wire.nats.publish(`remuda.${verb}.busy`, JSON.stringify(body), { reply: elsewhere });
        wire.nats.publish(`remuda.${verb}.busy`, JSON.stringify(body));
        wire.nats.publish(`remuda.${verb}.busy`, "not json", { reply: elsewhere });
      }
      for (const subject of ["remuda.pool.get.busy", "remuda.pool.stats.busy", "remuda.pool.list.all", "$SRV.PING"]) {
        wire.nats.publish(subject, "", { reply: elsewhere });
      }
      wire.nats.publish("remuda.pool.open.unasked", "{}", { reply: elsewhere });
      await settled();
    });
    await wire.noResponders("lease", "unasked");
    expect(heard).toEqual([]);
    unsubscribe();
  });

  test("cannot make the service write into a ledger", async () => {
    await wire.ok("proxies.add", "default", { proxies: ["10.7.2.1:80"] });
    const before = await wire.ledger("default");
    const requests = { ...accepted(), "pool.get": {}, "pool.stats": {}, "token.get": {} };
    for (const reply of ["remuda.ledger.default", "remuda.outcome.default", "remuda.lease.default"]) {
      for (const [verb, body] of Object.entries(requests)) {
        for (const pool of ["busy", "default"]) {
          wire.nats.publish(`remuda.${verb}.${pool}`, JSON.stringify(body), { reply });
          wire.nats.publish(`remuda.${verb}.${pool}`, "not json", { reply });
        }
      }
      wire.nats.publish("remuda.pool.list.all", "", { reply });
      for (const verb of ["PING", "INFO", "STATS"]) wire.nats.publish(`$SRV.${verb}.remuda`, "", { reply });
    }
    await settled();
    // A foreign message in the ledger would have fenced its leader.
    expect((await wire.stats("default")).leader.term).toBe(1);
    expect((await wire.ledger("default")).map(({ seq }) => seq)).toEqual(before.map(({ seq }) => seq));
    await wire.lease("default");
  });

  test("that no client can subscribe to does no harm", async () => {
    const other = await connectRaw(wire.remuda.natsUrl);
    for (const reply of ["_INBOX.", "_INBOX..x", "_INBOX.>", "_INBOX.*", "_INBOX", "_INBOX.\u0001", "_inbox.x"]) {
      other.publish("remuda.pool.stats.busy", "", { reply });
      other.publish("remuda.lease.busy", '{"uses":0}', { reply });
    }
    await other.flush().catch(() => {}); // The server may have closed the connection.
    await other.close();
    await wire.stats("busy");
  });
});

describe("when the ledger is nearly full", () => {
  let small: Wire;
  beforeAll(async () => {
    small = await startWire({ REMUDA_LEDGER_BYTES_MAX: String(1 << 20) });
  });
  afterAll(() => small.stop());

  test("leases are unavailable, but reports, releases and reads still work", async () => {
    await small.open("filling", lax, ["10.8.0.1:80"]);
    const open = await small.lease("filling", { uses: 3 });
    let refused: RawMessage | undefined;
    const padding = "x".repeat(240);
    for (let batch = 0; batch < 60 && refused === undefined; batch++) {
      const entries = Array.from({ length: 30 }, (_, n) => ({
        url: `10.8.${batch + 1}.${n}:80`,
        labels: { a: padding, b: padding },
      }));
      const { bytes } = (await small.api<{ state: { bytes: number } }>("STREAM.INFO.REMUDA_LEDGER", {})).state;
      // Full enough: now the service must notice it without help.
      if (bytes > 0.91 * (1 << 20)) break;
      const answer = await small.ask("proxies.add", "filling", { proxies: entries });
      if (answer.headers.has("Nats-Service-Error-Code")) refused = answer;
    }
    const message = await eventually(
      async () => {
        const message = await small.ask("lease", "filling", { uses: 1 });
        expect(message.headers.get("Nats-Service-Error-Code")).toBe("503");
        return message;
      },
      { everyMs: 250 },
    );
    refusalIn(message, "unavailable");
    if (refused !== undefined) refusalIn(refused, "unavailable");
    expect(await small.report("filling", { leaseId: open.leaseId, n: 1, status: 200 })).toMatchObject({ accepted: 1 });
    await small.publish("filling", { leaseId: open.leaseId, n: 2, status: 200 });
    await eventually(async () => expect((await small.stats("filling")).outcomes.succeeded).toBe(2));
    expect(await small.ok("renew", "filling", { leaseId: open.leaseId })).toMatchObject({ leaseId: open.leaseId });
    expect(await small.ok("release", "filling", { leaseId: open.leaseId })).toMatchObject({ used: 3 });
    expect((await small.get("filling", open.proxyId)).openLeases).toBe(0);
  });
});
