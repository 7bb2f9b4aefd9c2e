// The ledger as an auditor reads it through JetStream's own API, after a start, a stop and a crash. Protocol §3.

import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { groupMembers, type RemudaProcess, startRemuda } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { type Added, type Asking, asking, type Event, type Lease, lax, type Stored, sha256 } from "./wire.ts";

const pools = ["default", "shop", "shut"];
const passwords = Array.from({ length: 4 }, () => `hush-${randomBytes(12).toString("hex")}`);
const odd = `${passwords[3]}@:/%`;
const entries = [
  `http://ann:${passwords[0]}@10.9.0.1:8080`,
  `10.9.0.2:1080:bob:${passwords[1]}`,
  { url: `socks5://cy:${passwords[2]}@10.9.0.3:1080`, labels: { country: "DE" } },
  `https://eve:${encodeURIComponent(odd)}@10.9.0.4:443`,
  "10.9.0.5:80",
  "gate.example.com:80",
];
const unreadable = [
  `http://ann:${passwords[0]}@10.9.0.6:99999`,
  `10.9.0.7:0:bob:${passwords[1]}`,
  { url: `http://ann:${passwords[0]}@10.9.0.8:80`, limits: { nope: 1 } },
];

describe("a service that is stopped and started again", () => {
  let dataDir: string;
  let remuda: RemudaProcess;
  let wire: Asking;
  let firstOutput: string;
  let stopped: { code: number | null; ms: number; left: string[]; ran: string[] };
  let kept: Lease;
  let before: Awaited<ReturnType<typeof whole>>;
  let after: Awaited<ReturnType<typeof whole>>;

  /** Everything that a client can read of the open pools. The parts that a start itself changes are kept apart. */
  async function whole() {
    const open = [];
    for (const pool of ["default", "shop"]) {
      const { sequence: _, at: __, commits, leader, ...counts } = await wire.stats(pool);
      open.push({ stats: counts, commits, term: leader.term, picture: await wire.picture(pool) });
    }
    return open;
  }

  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), "ledger-test-"));
    remuda = await startRemuda({ dataDir, env: { REMUDA_LOG_LEVEL: "trace" } });
    wire = asking(await connectRaw(remuda.natsUrl), await connectRaw(remuda.natsUrlAs("auditor")));
    await history();
    kept = await wire.lease("shop", { requestId: "kept-through-a-restart", uses: 4, exclude: [] });
    await wire.report("shop", { leaseId: kept.leaseId, n: 2, status: 200 });
    // Refusals are recorded within a second. Two pictures agree only after that.
    await eventually(async () => expect((await wire.stats("shop")).refused["no-match"]).toBe(2));
    before = await whole();
    const ran = processesOf(dataDir);
    const { code, ms } = await remuda.interrupt();
    stopped = { code, ms, left: processesOf(dataDir), ran };
    await wire.nats.close();
    firstOutput = remuda.output();
    expect(groupMembers(remuda.pid)).toEqual([]);
    remuda = await startRemuda({ dataDir, env: { REMUDA_LOG_LEVEL: "trace" } });
    wire = asking(await connectRaw(remuda.natsUrl), await connectRaw(remuda.natsUrlAs("auditor")));
    after = await whole();
  });

  afterAll(async () => {
    await wire.nats.close();
    await remuda.interrupt();
    await remuda.stop();
    await rm(dataDir, { recursive: true, force: true });
  });

  /** A few commands of every kind. */
  async function history(): Promise<void> {
    await wire.ok<Added>("proxies.add", "default", { proxies: [...entries, ...unreadable] });
    await wire.lease("default", { uses: 2, ttlMs: 100, holder: "h", labels: { country: "DE" } });
    const backoff = { kind: "exponential", baseMs: 30_000, maxMs: 300_000, jitterMs: 1000, jitterShare: 0.2 };
    await wire.open("shop", { ...lax, backoff, usage: { limit: 20, restMs: 600_000 } });
    await wire.ok<Added>("proxies.add", "shop", { proxies: [...entries, ...unreadable] });
    const ids = new Map((await wire.proxies("shop")).map(({ host, id }) => [host, id]));
    const only = (host: string) => [...ids].filter(([other]) => other !== host).map(([, id]) => id);
    await wire.ok("pool.policy", "shop", { policy: { concurrency: 4 } });
    const labelled = { url: entries[4], labels: { country: "FR" }, limits: { concurrency: 3 } };
    await wire.ok("proxies.add", "shop", { proxies: [labelled] });
    // Used up: its exit rests.
    const all = await wire.lease("shop", { uses: 20, exclude: only("10.9.0.1") });
    await wire.ok("renew", "shop", { leaseId: all.leaseId, ttlMs: 120_000 });
    await wire.report("shop", {
      leaseId: all.leaseId,
      n: 1,
      status: 200,
      target: "https://x:y@shop.example.com/cart?k=v",
    });
    await wire.ok("release", "shop", { leaseId: all.leaseId });
    // Failed: its rest contains a random part.
    const failing = await wire.lease("shop", { uses: 3, exclude: only("10.9.0.2") });
    await wire.publish("shop", { leaseId: failing.leaseId, n: 1, error: "ECONNREFUSED" }, `${failing.leaseId}:1`);
    await eventually(async () => expect((await wire.stats("shop")).outcomes.failed).toBe(1));
    await wire.publish("shop", [{ leaseId: failing.leaseId, n: 2, status: 500, final: true }, "garbage", null]);
    await eventually(async () => expect((await wire.stats("shop")).outcomes.ignored).toBe(2));
    // A manual rest.
    const rested = ids.get("10.9.0.3") ?? "";
    await wire.ok("proxies.rest", "shop", { ids: [rested], forMs: 600_000, reason: "look" });
    await wire.ok("proxies.revive", "shop", { ids: [rested] });
    const held = await wire.lease("shop", { exclude: only("10.9.0.4") });
    await wire.ok("proxies.retire", "shop", { ids: [held.proxyId], reason: "sold" });
    await wire.lease("shop", { ttlMs: 50, exclude: only("10.9.0.5"), schemes: ["http"] });
    await eventually(async () => expect((await wire.stats("shop")).leases.expired).toBe(1));
    for (let n = 0; n < 2; n++) await wire.refused("lease", "shop", { labels: { no: "such" } }, "no-match");
    await eventually(async () => expect((await wire.stats("default")).leases.expired).toBe(1));
    await wire.open("shut", lax, [entries[0]]);
    await wire.ok("pool.close", "shut");
  }

  test("an interrupt ends everything within two seconds, the broker too", () => {
    expect(stopped.ran.filter((command) => command.includes("nats-server"))).not.toEqual([]);
    expect(stopped).toMatchObject({ code: 0, left: [] });
    expect(stopped.ms).toBeLessThan(2000);
  });

  test("keeps its state, except for one more claim", () => {
    expect(after.map(({ picture }) => picture)).toEqual(before.map(({ picture }) => picture));
    expect(after.map(({ stats }) => stats)).toEqual(before.map(({ stats }) => stats));
    expect(after.map(({ term }) => term)).toEqual(before.map(({ term }) => term + 1));
    expect(after.map(({ commits }) => commits)).toEqual(before.map(({ commits }) => commits + 1));
  });

  test("keeps a closed pool closed", async () => {
    await wire.noResponders("lease", "shut");
  });

  test("gives the same lease for the same requestId, with credentials, and the lease goes on", async () => {
    const { leftMs, ...again } = await wire.lease("shop", { requestId: "kept-through-a-restart", uses: 4 });
    expect({ ...again, leftMs: kept.leftMs }).toEqual(kept);
    expect(leftMs).toBeLessThan(kept.leftMs);
    const other = { requestId: "kept-through-a-restart", uses: 5 };
    await wire.refused("lease", "shop", other, "invalid-request");
    expect(await wire.report("shop", { leaseId: kept.leaseId, n: 2, status: 200 })).toMatchObject({ accepted: 0 });
    await wire.publish("shop", { leaseId: kept.leaseId, n: 1, status: 200 });
    await eventually(async () => expect((await wire.get("shop", kept.proxyId)).totals.succeeded).toBeGreaterThan(1));
    expect(await wire.ok("release", "shop", { leaseId: kept.leaseId, used: 2 })).toMatchObject({ returned: 2 });
  });

  test("keeps the ids of entries and the password of a lease", async () => {
    const ids = before.map(({ picture }) => picture.proxies.map(({ id }) => id));
    expect(await wire.ok<Added>("proxies.add", "default", { proxies: entries })).toMatchObject({
      added: 0,
      already: 6,
    });
    expect((await wire.proxies("default")).map(({ id }) => id)).toEqual(ids[0]);
    for (const id of ids.flat()) expect(id).toMatch(/^p_.{16}$/);
    await wire.open("late", lax, entries);
    expect((await wire.proxies("late")).map(({ id }) => id)).toEqual(ids[0]);
    const eve = await wire.proxyAt("default", "10.9.0.4");
    const others = (await wire.proxies("default")).filter(({ id }) => id !== eve.id).map(({ id }) => id);
    const lease = await wire.lease("default", { exclude: others });
    expect(lease).toMatchObject({ username: "eve", password: odd });
    expect(lease.url).toBe(`https://eve:${encodeURIComponent(odd)}@10.9.0.4:443`);
  });

  describe.each(pools)("the ledger of %s", (pool) => {
    let ledger: Stored[];
    let events: Event[];
    beforeAll(async () => {
      ledger = await wire.ledger(pool);
      events = ledger.flatMap(({ commit }) => commit.events);
    });

    test("is stored in files, in a stream found by its subject", async () => {
      const stream = await wire.streamOf(`remuda.ledger.${pool}`);
      expect(stream).toMatch(/^REMUDA_LEDGER/);
      const { config } = await wire.api<{ config: { storage: string } }>(`STREAM.INFO.${stream}`, {});
      expect(config.storage).toBe("file");
      expect(new Set(ledger.map(({ subject }) => subject))).toEqual(new Set([`remuda.ledger.${pool}`]));
    });

    test("numbers its commits from 1 without a gap, each chained to the bytes of the previous one", () => {
      expect(ledger.length).toBeGreaterThan(2);
      expect(ledger.map(({ commit }) => commit.n)).toEqual(ledger.map((_, index) => index + 1));
      expect(ledger.map(({ commit }) => commit.prev)).toEqual([
        "",
        ...ledger.slice(0, -1).map(({ bytes }) => sha256(bytes)),
      ]);
    });

    test("gives each commit a version, a term, a time, a cursor, events, and its own name in the header", () => {
      const names = ledger.map(({ header }) => /^Remuda-Commit: (\S+)\r?$/m.exec(header)?.[1]);
      expect(names).not.toContain(undefined);
      expect(new Set(names).size).toBe(names.length);
      for (const { commit } of ledger) {
        const { chance, ...head } = commit;
        expect(head).toEqual({
          v: 2,
          n: expect.any(Number),
          prev: expect.any(String),
          term: expect.any(Number),
          at: expect.any(Number),
          cursor: { seq: expect.any(Number), at: expect.any(Number) },
          events: expect.any(Array),
        });
        if (chance !== undefined) expect(chance).toMatch(/\S/);
        expect(commit.events).not.toEqual([]);
        for (const whole of [commit.term, commit.at, commit.cursor.seq, commit.cursor.at]) {
          expect(Number.isSafeInteger(whole)).toBe(true);
        }
      }
    });

    test("never goes back in time, term or cursor, and begins each term with its claim", () => {
      for (const field of ["at", "term"] as const) {
        const values = ledger.map(({ commit }) => commit[field]);
        expect(values).toEqual([...values].sort((a, b) => a - b));
      }
      for (const field of ["seq", "at"] as const) {
        const values = ledger.map(({ commit }) => commit.cursor[field]);
        expect(values).toEqual([...values].sort((a, b) => a - b));
      }
      for (const [index, { commit }] of ledger.entries()) {
        const claims = commit.events.filter(({ type }) => type === "LeaderClaimed");
        expect(claims).toHaveLength(commit.term === ledger[index - 1]?.commit.term ? 0 : 1);
        for (const claim of claims) expect(claim.term).toBe(commit.term);
      }
      expect(new Set(ledger.map(({ commit }) => commit.term)).size).toBe(pool === "shut" ? 1 : 2);
    });

    test("contains only events of the contract, with the contract's fields", () => {
      for (const event of events) expect(event).toMatchObject(shapes[event.type] ?? { type: "one of the contract" });
      for (const { cursor } of ledger.map(({ commit }) => commit)) expect(cursor.at === 0).toBe(cursor.seq === 0);
    });

    test("folds, by the state that each event leads to, into the state that the pool reports", async () => {
      const states = new Map<string, string>();
      const from: Record<string, RegExp> = {
        ProxyAdded: /^(none|retired)$/,
        ProxyRetired: /^(available|in-use|cooling|exhausted)$/,
        RestBegan: /^(available|in-use|cooling|exhausted)$/,
        RestEnded: /^(cooling|exhausted)$/,
        LeaseGranted: /^(available|in-use)$/,
        LeaseClosed: /^(in-use|cooling|exhausted|retired)$/,
      };
      for (const { type, proxyId, state } of events) {
        if (state === undefined) continue;
        expect(states.get(String(proxyId)) ?? "none").toMatch(from[type] ?? /^nothing moves a proxy here$/);
        states.set(String(proxyId), String(state));
      }
      if (pool === "shut") return;
      const told = (await wire.proxies(pool)).map(({ id, state }) => [id, state] as const);
      expect(new Map(told)).toEqual(new Map([...states].filter(([id]) => told.some(([known]) => known === id))));
      const { leases, outcomes } = await wire.stats(pool);
      const count = (type: string) => events.filter((event) => event.type === type).length;
      expect(leases.expired).toBe(events.filter(({ how }) => how === "expired").length);
      if (pool === "shop") {
        expect(leases).toMatchObject({
          granted: count("LeaseGranted"),
          open: count("LeaseGranted") - count("LeaseClosed"),
        });
        expect(outcomes.succeeded + outcomes.failed + outcomes.neutral).toBe(count("UseReported"));
      }
    });
  });

  test("contains every kind of event", async () => {
    const types = new Set((await Promise.all(pools.map((pool) => wire.events(pool)))).flat().map(({ type }) => type));
    expect([...types].sort()).toEqual(Object.keys(shapes).sort());
  });

  test("keeps only the host of a target", async () => {
    const targets = (await wire.events("shop")).flatMap(({ target }) => (target === undefined ? [] : [target]));
    expect(targets).toEqual(["shop.example.com"]);
  });

  test("no password is in any stream, any file, or any output", async () => {
    const hidden = [...passwords, odd].flatMap(encodings);
    const found = (text: Buffer | string) => hidden.filter((secret) => text.includes(secret));
    let names = 0;
    for (const [user, streams] of Object.entries({
      ledger: ["REMUDA_LEDGER", "KV_remuda-secrets"],
      follower: ["REMUDA_OUTCOMES"],
    })) {
      const reader = await connectRaw(remuda.natsUrlAs(user));
      for (const stream of streams) {
        const stored = await asking(reader).messages(">", stream);
        expect(stored.length).toBeGreaterThan(0);
        for (const { bytes, header, subject } of stored) {
          if (bytes.includes('"username":"…"')) names++;
          expect(bytes.includes('"ann"')).toBe(false);
          for (const text of [bytes, header, subject]) expect(found(text)).toEqual([]);
        }
      }
      await reader.close();
    }
    expect(names).toBeGreaterThan(2); // A masked user name is found, so a password would have been found too.
    const files = readdirSync(dataDir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    let ledgers = 0;
    for (const file of files) {
      const path = join(file.parentPath, file.name);
      const content = await readFile(path);
      if (content.includes("remuda.ledger.shop")) ledgers++;
      expect([path, found(content)]).toEqual([path, []]);
    }
    expect(ledgers).toBeGreaterThan(0);
    for (const said of [firstOutput, remuda.output()]) expect(found(said)).toEqual([]);
  });
});

const text = expect.stringMatching(/\S/);
const whole = expect.any(Number);
const id = expect.stringMatching(/^p_.{16}$/);
const leaseId = expect.stringMatching(/^l_.{20,}$/);
const labels = expect.any(Object);

/** Protocol §3. */
const shapes: Record<string, object> = {
  PoolOpened: { policy: expect.objectContaining({ lease: expect.any(Object) }), version: whole },
  PolicyChanged: { policy: expect.objectContaining({ lease: expect.any(Object) }), version: whole },
  PoolClosed: {},
  LeaderClaimed: { term: whole },
  ProxyAdded: { proxyId: id, state: text, scheme: text, host: text, port: whole, exit: text, labels },
  ProxyChanged: { proxyId: id, labels },
  ProxyRetired: { proxyId: id, state: "retired" },
  RestBegan: {
    proxyId: id,
    state: expect.stringMatching(/^(cooling|exhausted)$/),
    until: whole,
    reasons: expect.arrayContaining([text]),
    epoch: whole,
  },
  RestEnded: { proxyId: id, state: expect.stringMatching(/^(available|in-use)$/) },
  LeaseGranted: {
    leaseId,
    proxyId: id,
    state: "in-use",
    request: expect.any(Object),
    uses: whole,
    epoch: whole,
    expiresAt: whole,
    strategy: "best",
    ranked: expect.any(Object),
  },
  LeaseRenewed: { leaseId, expiresAt: whole },
  UseReported: {
    leaseId,
    n: whole,
    result: expect.stringMatching(/^(success|failure|neutral)$/),
    storedAt: whole,
  },
  LeaseClosed: {
    leaseId,
    proxyId: id,
    state: expect.stringMatching(/^(available|in-use|cooling|exhausted|retired)$/),
    how: expect.stringMatching(/^(completed|released|expired)$/),
    used: whole,
  },
  RequestsRefused: { code: text, count: whole },
  OutcomesIgnored: { why: text, count: whole },
};

function encodings(secret: string): string[] {
  return [
    secret,
    encodeURIComponent(secret),
    Buffer.from(secret).toString("base64").slice(0, -4),
    Buffer.from(secret).toString("hex"),
  ];
}

/** The command lines of all processes that name this directory. Linux only. */
function processesOf(dataDir: string): string[] {
  return readdirSync("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      return command.includes(dataDir) ? [command] : [];
    } catch {
      return []; // It ended between the two looks.
    }
  });
}
