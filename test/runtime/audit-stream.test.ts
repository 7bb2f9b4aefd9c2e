// Ledgers on a real JetStream stream, some of them manipulated, and sealed files made from one.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { callJs } from "../../runtime/jetstream-api.ts";
import { hashOf } from "../../runtime/loop.ts";
import { loadSigningKey, readPublicKey } from "../../runtime/signing-key.ts";
import { openFileSource } from "../../services/audit/file-source.ts";
import { seal } from "../../services/audit/seal.ts";
import { startAudit } from "../../services/audit/service.ts";
import { openStreamSource } from "../../services/audit/stream-source.ts";
import { type Asked, type Report, verify } from "../../services/audit/verify.ts";
import { findEvent, forge, makeLedger } from "../audit/ledgers.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { log } from "../kit/picker.ts";

let broker: TestBroker;
let bus: Bus;
let folder: string;
let ledger: Buffer[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "audit-test-"));
  broker = await startTestBroker();
  bus = await openBus(broker.url, "test");
  await callJs(bus, "STREAM.CREATE.REMUDA_LEDGER", {
    name: "REMUDA_LEDGER",
    subjects: ["remuda.ledger.*"],
    storage: "file",
    allow_direct: true,
  });
  ledger = makeLedger(400, { chaos: 0, policy: { backoff: { kind: "fixed", restMs: 500, jitterMs: 0 } } });
});
afterAll(async () => {
  await bus.close();
  await broker.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Stores commits as the ledger of a pool, each after a commit of another pool, so that sequences have gaps. */
async function store(pool: string, commits: readonly Buffer[]): Promise<{ seqs: number[] }> {
  // In order, because they leave over one connection.
  const acks = commits.map((bytes) => {
    void bus.nc.publish("remuda.ledger.elsewhere", "{}");
    return bus.nc.request(`remuda.ledger.${pool}`, bytes, { timeout: 20_000 });
  });
  const seqs = (await Promise.all(acks)).map((ack) => ack.json<{ seq: number }>().seq);
  return { seqs };
}

/** The ledger, as it would be for this pool. */
function ledgerOf(pool: string): Buffer[] {
  return forge(ledger, 0, ({ events }) => {
    for (const event of events as { pool?: string }[]) if (event.pool !== undefined) event.pool = pool;
  });
}

async function verified(pool: string, asked: Asked = {}): Promise<Report> {
  const source = await openStreamSource(broker.url, pool);
  try {
    return await verify(source, asked);
  } finally {
    await source.close();
  }
}

async function verifiedFile(path: string, asked: Asked = {}): Promise<Report> {
  const source = await openFileSource(path);
  try {
    return await verify(source, asked);
  } finally {
    await source.close();
  }
}

test("verifies a ledger on a stream by sequence, from end to end", async () => {
  const whole = ledgerOf("whole");
  const { seqs } = await store("whole", whole);
  const report = await verified("whole");
  expect(report).toMatchObject({
    isWell: true,
    commits: 400,
    findings: [],
    first: { n: 1, sequence: seqs[0] },
    last: { n: 400, sequence: seqs[399] },
  });
  expect(report.head).toBe(hashOf(whole[399]!));
});

test("names a ledger stored under another pool's name", async () => {
  await store("moved", ledger.slice(0, 20));
  expect((await verified("moved")).findings).toMatchObject([
    { rule: "pool", n: 1, what: expect.stringContaining("called default, not moved") },
  ]);
});

test.each<[string, string, (commits: Buffer[]) => Buffer[], string, number]>([
  ["a deleted commit", "deleted", (commits) => commits.toSpliced(200, 1), "number", 200],
  ["a swapped pair", "swapped", (commits) => commits.with(200, commits[201]!).with(201, commits[200]!), "number", 200],
  [
    "a forged commit",
    "forged",
    (commits) => commits.toSpliced(200, 0, Buffer.from(commits[200]!.toString().replace('"n":201', '"n":200'))),
    "number",
    200,
  ],
  [
    "a changed byte",
    "changed",
    (commits) => commits.with(200, Buffer.from(commits[200]!.toString().replace(/"at":(\d+)\d,/, '"at":$19,'))),
    "chain",
    200,
  ],
])("names %s on a stream with its sequence", async (_what, pool, change, rule, index) => {
  const whole = ledgerOf(pool);
  const spoilt = change(whole);
  expect(spoilt).not.toEqual(whole);
  const { seqs } = await store(pool, spoilt);
  const report = await verified(pool);
  expect(report.isWell).toBe(false);
  expect(report.findings.find((finding) => finding.rule === rule)?.sequence).toBe(seqs[index]);
});

test("names a lease on a resting proxy on a stream with its sequence", async () => {
  const { index, place } = findEvent(ledger, (event) => event["type"] === "RestBegan", 100);
  const { seqs } = await store(
    "resting",
    forge(ledgerOf("resting"), index, (commit) => {
      const { proxyId, epoch } = commit.events[place] as { proxyId: string; epoch: number };
      const lease = {
        type: "LeaseGranted",
        leaseId: "l_forged_0000000000000000",
        proxyId,
        state: "in-use",
        request: {},
        uses: 1,
      };
      commit.events.push({ ...lease, epoch, expiresAt: commit.at + 90_000, strategy: "best", ranked: {} });
    }),
  );
  expect((await verified("resting")).findings[0]).toMatchObject({ rule: "rest", n: index + 1, sequence: seqs[index] });
});

test("detects a truncated tail against a head", async () => {
  const whole = ledgerOf("cut");
  await store("cut", whole.slice(0, 300));
  const head = { n: 400, hash: hashOf(whole[399]!) };
  expect((await verified("cut", { head })).findings).toMatchObject([{ rule: "tail", n: 300 }]);
});

test("reports only the commits of a range in the middle, but checks from the beginning", async () => {
  const { seqs } = await store("range", ledgerOf("range"));
  const report = await verified("range", { from: { sequence: seqs[99]! }, to: { sequence: seqs[199]! } });
  expect(report).toMatchObject({
    isWell: true,
    commits: 101,
    decisionsChecked: true,
    first: { n: 100 },
    last: { n: 200 },
  });
  const at = JSON.parse(ledger[149]!.toString()).at as number;
  expect((await verified("range", { from: { at } })).first?.n).toBeLessThanOrEqual(150);
});

test("gives a clear error for a pool that never existed", async () => {
  await expect(openStreamSource(broker.url, "missing")).rejects.toThrow("the pool missing has no ledger here");
});

test("verifies a sealed file without a stream, and detects any changed byte", async () => {
  const whole = ledgerOf("sealed");
  await store("sealed", whole);
  const key = loadSigningKey(folder);
  expect(loadSigningKey(folder).id).toBe(key.id);
  const source = await openStreamSource(broker.url, "sealed");
  const output = join(folder, "sealed.ndjson");
  const manifest = await seal(source, { pool: "sealed", output, key, now: 1_700_000_000_000 });
  const half = join(folder, "half.ndjson");
  const middle = (
    await seal(source, { pool: "sealed", output: half, from: { sequence: manifest.first.sequence + 400 }, key, now: 1 })
  ).first.n;
  await source.close();

  const publicKey = readPublicKey(key.publicKey, "the key");
  expect(manifest).toMatchObject({ commits: 400, keyId: publicKey.id, prev: "" });
  expect(await verifiedFile(output, { publicKey })).toMatchObject({
    isWell: true,
    commits: 400,
    decisionsChecked: true,
    seal: { isValid: true, isSigned: "by this key", keyId: key.id },
  });
  expect((await verifiedFile(output)).seal?.isSigned).toBe("not checked");
  expect(middle).toBeGreaterThan(100);
  expect(await verifiedFile(half, { publicKey })).toMatchObject({
    isWell: true,
    decisionsChecked: false,
    first: { n: middle },
    seal: { isValid: true },
  });

  // The lines are the raw commits: any reader can compute the chain.
  const lines = readFileSync(output, "utf8").split("\n");
  expect(lines.slice(0, 400)).toEqual(whole.map(String));

  const bytes = readFileSync(output);
  const spoilt = join(folder, "spoilt.ndjson");
  const manifestStart = bytes.lastIndexOf("\n", bytes.length - 2) + 1;
  const places = [
    0,
    40,
    5000,
    bytes.length >> 1,
    manifestStart - 2,
    manifestStart - 1,
    manifestStart + 3,
    manifestStart + 60,
    bytes.length - 20,
    bytes.length - 3,
  ];
  for (const place of places) {
    const changed = Buffer.from(bytes);
    changed[place]! ^= 1;
    writeFileSync(spoilt, changed);
    const report = await verifiedFile(spoilt, { publicKey });
    expect(report.isWell, `byte ${place} of ${bytes.length}`).toBe(false);
  }

  // The last commit left out, and the manifest kept.
  writeFileSync(spoilt, [...lines.slice(0, 399), lines[400]].join("\n"));
  expect((await verifiedFile(spoilt, { publicKey })).findings.map(({ rule }) => rule)).toContain("seal");

  // Signed with another key.
  const other = readPublicKey(loadSigningKey(mkdtempSync(join(folder, "other-"))).publicKey, "another key");
  expect((await verifiedFile(output, { publicKey: other })).findings).toMatchObject([
    { rule: "seal", what: expect.stringContaining(`signed by ${key.id}`) },
  ]);
  // A file without its manifest is not sealed, whatever its contents.
  writeFileSync(spoilt, lines.slice(0, 400).join("\n"));
  expect((await verifiedFile(spoilt, { publicKey })).findings).toMatchObject([{ rule: "seal" }]);
});

test("answers questions about the past from a thread, so that a fold holds up nothing else of its process", async () => {
  await store("asked", ledgerOf("asked"));
  let threads = 0;
  const count = (): void => void threads++;
  process.on("worker", count);
  onTestFinished(() => void process.off("worker", count));
  const { url: natsUrl } = broker;
  const folders = { folder: join(folder, "states"), archiveFolder: join(folder, "archive") };
  const audit = await startAudit({ frontUrl: natsUrl, natsUrl, caFile: undefined, ...folders, log });
  onTestFinished(() => audit.stop());
  const ask = async (pool: string, body: object) =>
    (await bus.nc.request(`remuda.audit.proxies.${pool}`, JSON.stringify(body), { timeout: 20_000 })).json();
  expect(await ask("asked", { at: 1, sequence: 1 })).toMatchObject({ code: "invalid-request", field: "at" });
  expect(threads).toBe(0);
  const { at } = JSON.parse(ledger[99]?.toString() ?? "");
  expect(await ask("asked", { at })).toMatchObject({ at, proxies: expect.any(Array) });
  expect(await ask("never", { at })).toMatchObject({ code: "unknown-pool" });
  expect(await ask("asked", { at: Date.now() + 1e9 })).toMatchObject({ code: "invalid-request", field: "at" });
  expect(threads).toBe(1);
}, 60_000);
