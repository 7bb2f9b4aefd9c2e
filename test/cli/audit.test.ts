// The audit as a user sees it: commands and HTTP, against a running service.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import { eventually } from "../kit/poll.ts";
import { type Lease, type Proxy, startWire, type Wire } from "../protocol/wire.ts";

let wire: Wire;
let before: { seq: number; at: number; proxies: Proxy[] };
let resting: string;

beforeAll(async () => {
  wire = await startWire();
  await wire.ok("proxies.add", "default", { proxies: ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"] });
  for (let i = 0; i < 5; i++) {
    const lease = await wire.lease("default");
    await wire.report("default", { leaseId: lease.leaseId, status: 200 });
  }
  const last = (await wire.ledger("default")).at(-1)!;
  before = { seq: last.seq, at: last.commit.at, proxies: await wire.proxies("default") };
  resting = before.proxies[0]!.id;
  await wire.ok("proxies.rest", "default", { ids: [resting], forMs: 600_000, reason: "a test" });
  await wire.ok("pool.policy", "default", { policy: { rate: { limit: 20 } } });
});
afterAll(() => wire.stop());

const cli = (...args: string[]) => runCommand(["audit", ...args], { dataDir: wire.dataDir });

async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await cli(...args, "--json");
  expect(stderr).toBe("");
  expect(code).toBe(0);
  return JSON.parse(stdout) as T;
}

test("verify ends with a summary that a person can sign, and with exit code 0", async () => {
  const { code, stdout, stderr } = await cli("verify");
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  for (const line of [
    /^ledger +pool default$/m,
    /^range +commits 1 to \d+, sequences \d+ to \d+$/m,
    /^leases +5 granted/m,
    /^rests +1 manual$/m,
    /^outcomes +5 success$/m,
    /^Nothing is wrong\.$/m,
  ]) {
    expect(stdout).toMatch(line);
  }
  expect(stdout).toMatch(/^maxima +192\.0\.2\.\d: \d of 30 in 60000 ms/m);
  const report = await json<{ leases: { granted: number }; findings: unknown[]; isWell: boolean }>("verify");
  expect(report).toMatchObject({ isWell: true, findings: [], leases: { granted: 5 } });
});

test("state shows the pool at a sequence and at a time, as it was reported then", async () => {
  const strip = (proxies: Proxy[]) => proxies.map(({ leasableAt: _, ...proxy }) => proxy);
  const bySequence = await json<{ proxies: Proxy[]; at: number; sequence: number }>(
    "state",
    "--at",
    String(before.seq),
  );
  expect(bySequence).toMatchObject({ sequence: before.seq, at: before.at });
  expect(strip(bySequence.proxies)).toEqual(strip(before.proxies));
  const byTime = await json<{ proxies: Proxy[] }>("state", "--at", new Date(before.at).toISOString());
  expect(byTime.proxies).toEqual(bySequence.proxies);
  const now = await json<{ proxy: Proxy }>("state", "--proxy", resting);
  expect(now.proxy).toMatchObject({ id: resting, state: "cooling", reasons: ["manual"] });
  const unknown = await cli("state", "--proxy", "p_nobody");
  expect(unknown).toMatchObject({ code: 1, stderr: expect.stringContaining("remuda: unknown-proxy:") });
});

test("rejects moments of unknown form or in the future, with a sentence", async () => {
  const wrong = await cli("state", "--at", "yesterday");
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain("ISO 8601");
  const late = await cli("state", "--at", "9999999");
  expect(late).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^remuda: pool default ends at sequence \d+, before 9999999\.\n$/),
  });
  const missing = await cli("verify", "--pool", "missing");
  expect(missing).toMatchObject({ code: 2, stderr: expect.stringContaining("the pool missing has no ledger here") });
});

test.each([
  [["state", "--at", "2099-01-01"], "2099-01-01T00:00:00.000Z is in the future. Give a past moment."],
  [["explain", "2099-01-01"], "is in the future. Give a past moment."],
  [["explain", "yesterday"], "Give a proxy's id, a lease's id, or a sequence"],
  [["diff", "--from", "-1m", "--to", "-2m"], "--from is later than --to."],
  [["verify", "--from", "9", "--to", "2"], "--from is later than --to."],
  [["verify", "--from", "9999999"], "has no commit in that range."],
  [["events", "--from", "9", "--to", "2"], "--from is later than --to."],
  [["events", "--type", "LeasGranted"], "It must be an event's type: PoolOpened, "],
  [["sql", "select 1", "--csv", "--json"], "cannot be used with option"],
  [["explain", "--att", "-5m"], "argument"],
])("rejects audit %j as wrong usage, and says why", async (args, why) => {
  const { code, stdout, stderr } = await cli(...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(why);
});

test("uses the present without a moment, even if nothing was committed for a while", async () => {
  const now = await json<{ at: number; pool: { pool: string } }>("state");
  expect(now.at).toBeGreaterThan(Date.now() - 60_000);
  expect(now.at).toBeGreaterThan((await wire.ledger("default")).at(-1)!.commit.at);
  expect(now.pool.pool).toBe("default");
  const difference = await json<{ from: { at: number }; to: { at: number } }>("diff", "--from", "now");
  expect(difference.to.at).toBeGreaterThanOrEqual(difference.from.at);
  // Until the pool is a second old.
  await eventually(async () => expect(await cli("explain", "-1s")).toMatchObject({ code: 0, stderr: "" }));
  expect((await cli("explain", "-1s")).stdout).toMatch(/^At .* the pool was open: /);
});

test("diff names the changes between two moments", async () => {
  const difference = await json<{
    policy: unknown[];
    proxies: { changed: { id: string; changes: { field: string }[] }[]; added: string[] };
  }>("diff", "--from", String(before.seq));
  expect(difference.policy).toEqual([{ field: "rate.limit", before: 30, after: 20 }]);
  expect(difference.proxies).toMatchObject({ added: [], changed: [{ id: resting }] });
  expect(difference.proxies.changed[0]!.changes.map(({ field }) => field)).toEqual(
    expect.arrayContaining(["state", "until", "reasons", "epoch"]),
  );
});

test("a range without commits has no events, and does not count as verified", async () => {
  const range = ["--from", "2001-01-01", "--to", "2001-01-02"];
  for (const command of [["events"], ["export"], ["sql", "select * from leases", "--json"]])
    expect(await cli(...command, ...range)).toEqual({ code: 0, stdout: "", stderr: "" });
  for (const command of [
    ["verify"],
    ["what-if", "--policy", "{}"],
    ["report", "--html", join(wire.dataDir, "none.html")],
    ["seal", "--output", join(wire.dataDir, "none.ndjson")],
  ]) {
    const stderr = expect.stringContaining("has no commit in that range.");
    expect(await cli(...command, ...range)).toMatchObject({ code: 2, stdout: "", stderr });
  }
});

test("shows instants in a diff as times, and with --json as they are", async () => {
  const { stdout } = await cli("diff", "--from", String(before.seq));
  expect(stdout).toMatch(new RegExp(`^${resting} until: – → 2\\d{3}-\\d\\d-\\d\\dT[\\d:.]+Z$`, "m"));
});

test("filters events by type, proxy, lease and range", async () => {
  const lines = async (...args: string[]) => {
    const { stdout, code } = await cli("events", "--json", ...args);
    expect(code).toBe(0);
    return stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { type: string; proxyId?: string; leaseId?: string; sequence: number });
  };
  const granted = await lines("--type", "LeaseGranted");
  expect(granted).toHaveLength(5);
  expect(new Set((await lines("--type", "LeaseGranted", "UseReported")).map(({ type }) => type))).toEqual(
    new Set(["LeaseGranted", "UseReported"]),
  );
  const { leaseId = "" } = granted[2]!;
  expect((await lines("--lease", leaseId)).map(({ type }) => type)).toEqual([
    "LeaseGranted",
    "UseReported",
    "LeaseClosed",
  ]);
  expect((await lines("--proxy", resting)).every(({ proxyId }) => proxyId === resting)).toBe(true);
  expect((await lines("--from", String(before.seq + 1))).map(({ type }) => type)).toEqual([
    "RestBegan",
    "PolicyChanged",
  ]);
  expect((await lines("--to", String(before.seq))).some(({ type }) => type === "PolicyChanged")).toBe(false);
  const { stdout } = await cli("events", "--type", "RestBegan");
  expect(stdout).toMatch(
    /^\d{4}-\S+Z {2}RestBegan +p_\S+ +cooling until \S+ \(10 m 0 s\): manual \(a test\) by operator\n$/,
  );
});

test("prints events as they happen, until the reader has had enough", async () => {
  const args = ["cli/main.ts", "audit", "events", "--follow", "--json", "--type", "RestEnded", "RestBegan"];
  const env = { ...process.env, REMUDA_DATA_DIR: wire.dataDir };
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit"] });
  try {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    expect(JSON.parse((await lines.next()).value ?? "")).toMatchObject({ type: "RestBegan", proxyId: resting });
    const other = before.proxies[1]!.id;
    await wire.ok("proxies.rest", "default", { ids: [other], forMs: 1000 });
    expect(JSON.parse((await lines.next()).value ?? "")).toMatchObject({ type: "RestBegan", proxyId: other });
    await wire.ok("proxies.revive", "default", { ids: [other] });
    expect(JSON.parse((await lines.next()).value ?? "")).toMatchObject({
      type: "RestEnded",
      proxyId: other,
      how: "revived",
    });
  } finally {
    child.kill("SIGINT");
    await once(child, "exit");
  }
});

test("verifies a seal without a running service, and ends with 1 if it was changed", async () => {
  const output = join(wire.dataDir, "sealed.ndjson");
  await json("seal", "--output", output);
  const pem = (await cli("key")).stdout;
  expect(pem).toContain("BEGIN PUBLIC KEY");
  const key = join(wire.dataDir, "public.pem");
  writeFileSync(key, pem);
  const elsewhere = { dataDir: join(wire.dataDir, "elsewhere"), env: { REMUDA_NATS_URL: "nats://127.0.0.1:1" } };
  const good = await runCommand(["audit", "verify", "--file", output, "--public-key", key], elsewhere);
  expect(good.stdout).toMatch(/^seal +by k_\S+ at \S+, which is the given public key$/m);
  expect(good.code).toBe(0);
  const past = await runCommand(["audit", "state", "--file", output, "--json"], elsewhere);
  expect(JSON.parse(past.stdout)).toMatchObject({ proxies: [{}, {}, {}] });
  writeFileSync(
    output,
    readFileSync(output, "utf8").replace('"result":"success","score":1', '"result":"success","score":2'),
  );
  const bad = await runCommand(["audit", "verify", "--file", output, "--public-key", key], elsewhere);
  expect(bad.code).toBe(1);
  expect(bad.stdout).toMatch(/^ {2}commit \d+, line \d+, \S+: score: the score of p_\S+ becomes 2, not 1$/m);
  expect(bad.stdout).toMatch(/seal: the bytes are not those that were sealed/);
});

test("reports that there is no head to keep if none is signed", async () => {
  expect(await cli("head")).toMatchObject({ code: 1, stderr: expect.stringContaining("No head has been signed yet") });
});

test("HTTP lists the proxies of the past, by time and by sequence, in pages", async () => {
  const get = async (query: string) => {
    const response = await fetch(`${wire.remuda.httpUrl}/v1/pools/default/proxies?${query}`);
    return {
      status: response.status,
      body: (await response.json()) as {
        proxies: Proxy[];
        next?: string;
        code?: string;
        message?: string;
        sequence?: number;
      },
    };
  };
  const bySequence = await get(`at=${before.seq}`);
  expect(bySequence).toMatchObject({ status: 200, body: { sequence: before.seq } });
  expect(bySequence.body.proxies.map(({ state }) => state)).toEqual(["available", "available", "available"]);
  expect((await get(`at=${before.at}`)).body.proxies).toEqual(bySequence.body.proxies);
  const present = await get(`at=${Date.now()}&state=cooling`);
  expect(present.body.proxies.map(({ id }) => id)).toEqual([resting]);
  const page = await get(`at=${before.seq}&limit=2`);
  expect(page.body.proxies).toHaveLength(2);
  const rest = await get(`at=${before.seq}&limit=2&after=${page.body.next}`);
  expect([...page.body.proxies, ...rest.body.proxies]).toEqual(bySequence.body.proxies);
  expect(rest.body.next).toBeUndefined();
  expect(await get("at=9999999")).toMatchObject({
    status: 400,
    body: { code: "invalid-request", message: expect.stringContaining("before 9999999") },
  });
  expect(await get("at=100000000001")).toMatchObject({ status: 400, body: { code: "invalid-request" } });
  expect(await get("at=x")).toMatchObject({ status: 400 });
  const other = await fetch(`${wire.remuda.httpUrl}/v1/pools/missing/proxies?at=5`);
  expect(other.status).toBe(404);
  // The picker still answers for the present.
  expect((await get("state=cooling")).body.proxies.map(({ id }) => id)).toEqual([resting]);
});

test("HTTP explains a proxy and a moment in sentences, without the ids by which leases can be used", async () => {
  const get = async (query: string) => {
    const response = await fetch(`${wire.remuda.httpUrl}/v1/pools/default/explain?${query}`);
    return { status: response.status, body: (await response.json()) as { story: string[]; at: number; code?: string } };
  };
  const { leaseId } = await wire.lease("default");
  const { sequence } = await wire.stats("default");
  const told = await get(`proxyId=${resting}&sequence=${sequence}`);
  expect(told).toMatchObject({ status: 200, body: { at: expect.any(Number), commit: expect.any(Number) } });
  expect(told.body.story[0]).toMatch(new RegExp(`^${resting} is http://`));
  expect(told.body.story[1]).toContain("resting (cooling)");
  const moment = await get(`at=${Date.now()}`);
  expect(moment.body.story.join("\n")).toContain(`${leaseId.slice(0, 8)}… on p_`);
  expect(moment.body.story.join("\n")).not.toContain(leaseId);
  expect(await get("proxyId=p_none&sequence=1")).toMatchObject({ status: 404, body: { code: "unknown-proxy" } });
  expect(await get("proxyId=p_none")).toMatchObject({ status: 400, body: { code: "invalid-request", field: "at" } });
});

test("over NATS, refuses invalid requests for the past in the protocol's words", async () => {
  await wire.refused("audit.proxies", "default", {}, "invalid-request");
  await wire.refused("audit.proxies", "default", { at: 1, sequence: 2 }, "invalid-request");
  await wire.refused("audit.proxies", "default", "{", "invalid-request");
  await wire.refused("audit.proxies", "missing", { sequence: 2 }, "unknown-pool");
  // The field's name goes into a header, which is one line.
  await wire.refused("audit.proxies", "default", { sequence: 2, labels: { "a\r\nb": "x" } }, "invalid-request");
  await wire.refused("audit.proxies", "default", JSON.stringify({ pad: "x".repeat(513 * 1024) }), "too-large");
  const lease = await wire.lease("default");
  expect(lease satisfies Lease).toBeDefined();
});
