// `remuda watch`: its output, its filters, and that it continues over restarts: nothing twice, nothing lost.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { eventLine } from "../../cli/event-line.ts";
import { readBrokerRecord } from "../../runtime/broker/record.ts";
import { deadPort } from "../client/lab.ts";
import { runCommand } from "../kit/command.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { serviceForAll } from "../kit/service.ts";

const root = new URL("../..", import.meta.url).pathname;
let dataDir: string;
let service: RemudaProcess;

serviceForAll((started) => {
  ({ dataDir, service } = started);
});

const children: ReturnType<typeof spawn>[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

interface Watch {
  child: ReturnType<typeof spawn>;
  out: () => string;
  err: () => string;
  lines: () => { n: number; at: number; sequence: number; type: string; event: Record<string, unknown> }[];
  ended: Promise<number | null>;
}

function watch(args: string[], env: NodeJS.ProcessEnv = {}): Watch {
  const child = spawn(process.execPath, ["cli/main.ts", "watch", ...args], {
    cwd: root,
    env: { ...process.env, NO_COLOR: undefined, FORCE_COLOR: undefined, REMUDA_DATA_DIR: dataDir, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  const text = { out: "", err: "" };
  child.stdout.on("data", (chunk) => (text.out += chunk));
  child.stderr.on("data", (chunk) => (text.err += chunk));
  return {
    child,
    out: () => text.out,
    err: () => text.err,
    lines: () =>
      text.out
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line)),
    ended: once(child, "exit").then(([code]) => code as number | null),
  };
}

async function api<T>(method: string, path: string, body?: string): Promise<T> {
  const init = { method, ...(body === undefined ? {} : { body }) };
  const response = await fetch(`${service.httpUrl}/v1/pools/${path}`, init);
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as T;
}

async function open(pool: string, ...proxies: string[]): Promise<void> {
  await api("PUT", pool);
  if (proxies.length > 0) await api("POST", `${pool}/proxies`, JSON.stringify(proxies));
}

const granted = (lines: ReturnType<Watch["lines"]>): unknown[] =>
  lines.filter(({ type }) => type === "LeaseGranted").map(({ event }) => event["leaseId"]);

interface Lease {
  leaseId: string;
  proxyId: string;
}

async function leaseAndReport(pool: string, status: number): Promise<Lease> {
  const lease = await api<Lease>("POST", `${pool}/leases`);
  await api("POST", `${pool}/outcomes`, JSON.stringify({ leaseId: lease.leaseId, status }));
  return lease;
}

describe("from the beginning", () => {
  test("prints each event as a line with its time, its proxy's address, its reasons and until when", async () => {
    await open("lines", "192.0.2.1:80", "bobby-key:hush@192.0.2.2:80");
    const { leaseId } = await leaseAndReport("lines", 407);
    const { out, child, ended } = watch(["--pool", "lines", "--from", "1"]);
    await eventually(() => expect(out()).toMatch(/RestBegan/));
    const instant = String.raw`\d{4}-\d\d-\d\dT[\d:.]+Z`;
    for (const line of [
      `^${instant}  PoolOpened +lines, policy version 1 by http$`,
      `^${instant}  ProxyAdded +192\\.0\\.2\\.1:80 +available exit 192\\.0\\.2\\.1 by http$`,
      `^${instant}  ProxyAdded +bob…@192\\.0\\.2\\.2:80 +available exit`,
      `^${instant}  LeaseGranted +\\S*192\\.0\\.2\\.[12]:80 +${leaseId} 1 use until ${instant} \\(1 m 30 s\\)$`,
      `^${instant}  UseReported +\\S*192\\S+ +${leaseId} use 1 proxy-auth \\(407\\) score -1$`,
      `^${instant}  RestBegan +\\S*192\\S+ +cooling until ${instant} \\(\\S+ m \\S+ s\\): backoff$`,
    ]) {
      expect(out()).toMatch(new RegExp(line, "m"));
    }
    expect(out()).not.toMatch(/hush|bobb/);
    expect(out()).not.toContain("\u001b");
    child.kill("SIGINT");
    expect(await ended).toBe(0);
  });

  test("with --json an event is an object with its commit's number, time and sequence, gapless; --type and --proxy filter", async () => {
    await open("json", "192.0.2.1:80");
    const { proxyId, leaseId } = await leaseAndReport("json", 200);
    await open("json", "192.0.2.9:80");
    const all = watch(["--pool", "json", "--json", "--from", "0"]);
    await eventually(() =>
      expect(all.lines().at(-1)).toMatchObject({ type: "ProxyAdded", event: { host: "192.0.2.9" } }),
    );
    const numbers = [...new Set(all.lines().map(({ n }) => n))];
    expect(numbers).toEqual(numbers.map((_, i) => i + 1));
    for (const { at, sequence, type, event } of all.lines()) {
      expect([Number.isInteger(at), Number.isInteger(sequence), event["type"]]).toEqual([true, true, type]);
    }
    const some = watch(["--pool", "json", "--json", "--from", "1h", "--type", "LeaseGranted", "ProxyAdded"]);
    await eventually(() => expect(some.lines()).toHaveLength(3));
    expect(some.lines().map(({ type }) => type)).toEqual(["ProxyAdded", "LeaseGranted", "ProxyAdded"]);
    const one = watch(["--pool", "json", "--json", "--from", "1", "--proxy", proxyId]);
    await eventually(() => expect(one.lines()).toHaveLength(4));
    expect(one.lines().map(({ type }) => type)).toEqual(["ProxyAdded", "LeaseGranted", "UseReported", "LeaseClosed"]);
    const { sequence } = one.lines()[1]!; // There are four.
    const later = watch(["--pool", "json", "--json", "--from", String(sequence), "--proxy", proxyId]);
    await eventually(() => expect(later.lines()).toHaveLength(3));
    expect(later.lines()[0]).toMatchObject({ sequence, event: { leaseId } });
    expect(watchedSince(all.lines(), sequence)).toEqual(later.lines());

    function watchedSince(lines: { sequence: number; event: Record<string, unknown> }[], from: number) {
      return lines.filter((each) => each.sequence >= from && each.event["proxyId"] === proxyId);
    }
  });

  test("shows nothing earlier than the given instant", async () => {
    await open("instant", "192.0.2.1:80");
    const { sequence } = await api<{ sequence: number }>("GET", "instant/stats");
    const first = watch(["--pool", "instant", "--json", "--from", String(sequence)]);
    await eventually(() => expect(first.lines()).toHaveLength(1));
    // After the events shown, and before new ones, by the machine's clock and by the pool's own.
    const since = Math.max(first.lines()[0]!.at, Date.now()) + 50; // There is one.
    await eventually(async () => {
      const { at } = await api<{ at: number }>("GET", "instant/stats");
      expect(Math.min(at, Date.now())).toBeGreaterThan(since + 50);
    });
    await leaseAndReport("instant", 200);
    const second = watch(["--pool", "instant", "--json", "--from", new Date(since).toISOString()]);
    await eventually(() => expect(second.lines().map(({ type }) => type)).toContain("LeaseClosed"));
    expect(second.lines()[0]).toMatchObject({ type: "LeaseGranted" });
  });
});

describe("from now on", () => {
  test("loses and repeats nothing over a restart of the broker, and of everything at another address", async () => {
    await open("restart", "192.0.2.1:80");
    await api("PATCH", "restart", JSON.stringify({ policy: { rate: null, usage: null } })); // The proxy is leased often here.
    const { lines, err } = watch(["--pool", "restart", "--json"]);
    // It is ready when it shows an event that was made after it began.
    await eventually(async () => {
      await leaseAndReport("restart", 200);
      expect(lines().length).toBeGreaterThan(0);
    });
    const broker = readBrokerRecord(join(dataDir, "nats", "broker.json"));
    process.kill(broker!.pid, "SIGKILL"); // It runs, because it has just answered.
    const grantedAfter = await eventually(async () => (await leaseAndReport("restart", 200)).leaseId, {
      timeoutMs: 20_000,
    });
    await eventually(() => expect(granted(lines())).toContain(grantedAfter));

    await service.interrupt();
    await eventually(() => expect(err()).toContain("the connection is lost"));
    service = await startRemuda({ dataDir });
    const { leaseId } = await eventually(() => leaseAndReport("restart", 200), { timeoutMs: 20_000 });
    await eventually(() => expect(granted(lines())).toContain(leaseId), { timeoutMs: 20_000 });
    expect(err()).toContain("connected again");
    const seen = lines().map(({ n, event }) => `${n} ${JSON.stringify(event)}`);
    expect(new Set(seen).size).toBe(seen.length);
    const numbers = [...new Set(lines().map(({ n }) => n))];
    expect(numbers).toEqual(numbers.map((_, i) => numbers[0]! + i)); // There is a first.
  });

  test("ends when its reader goes away, even without new events", async () => {
    // It exits after it has written everything.
    const shell = `"${process.execPath}" cli/main.ts watch --from 1 | { head -1; sleep 1; }`;
    const env = { ...process.env, REMUDA_DATA_DIR: dataDir };
    const child = spawn("sh", ["-c", shell], { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
    children.push(child);
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (text += chunk));
    await once(child, "close");
    expect(text).toMatch(/^\S+Z {2}\w+ [^\n]*\n$/);
  });
});

describe("invalid uses", () => {
  test("refuses a pool without a ledger, and gives exit code 3 without a service", async () => {
    expect(await runCommand(["watch", "--pool", "nowhere"], { dataDir })).toEqual({
      code: 1,
      stdout: "",
      stderr:
        'remuda: unknown-pool: The pool nowhere has no ledger. Open it with "npx remuda pool open --pool nowhere".\n',
    });
    const env = { REMUDA_NATS_URL: `nats://127.0.0.1:${await deadPort()}` };
    expect(await runCommand(["watch"], { dataDir, env })).toMatchObject({ code: 3, stdout: "" });
  });

  test("tells a user without rights to read ledgers so in a sentence", async () => {
    const elsewhere = await mkdtemp(join(tmpdir(), "watch-test-"));
    onTestFinished(() => rm(elsewhere, { recursive: true, force: true }));
    const env = { REMUDA_NATS_URL: service.natsUrl };
    expect(await runCommand(["watch"], { dataDir: elsewhere, env })).toEqual({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(
        /^remuda: NATS at \S+ does not allow this user to use \$JS\.API\.STREAM\.NAMES\. [^\n]+\n$/,
      ),
    });
  });

  test("rejects a type that no event has, and names the nearest", async () => {
    const { code, stdout, stderr } = await runCommand(["watch", "--type", "RestBegan", "LeaseGrant"], { dataDir });
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toBe("remuda: --type: LeaseGrant is not an event's type. Did you mean LeaseGranted?\n");
  });

  test("rejects an invalid place as wrong usage", async () => {
    const { code, stderr } = await runCommand(["watch", "--from", "yesterday"], { dataDir });
    expect(code).toBe(2);
    expect(stderr).toContain("It must be a sequence, an instant, or a duration such as 10m.");
  });
});

test("shows an event of a later version with its fields, without control characters", () => {
  const event = { type: "ProxyPraised", proxyId: "p_1", words: "well\u001b[2J done", times: 2 };
  expect(eventLine({ at: 0 }, event, (id) => id)).toBe(
    "1970-01-01T00:00:00.000Z  ProxyPraised     p_1                    words=well\uFFFD[2J done times=2",
  );
});

describe("a refusal", () => {
  const line = (event: object): string =>
    eventLine({ at: 0 }, { type: "RequestsRefused", ...event }, (id) => id).slice(66);

  test("shows the refused request, the last one of several", () => {
    const request = { uses: 10, minUses: 2, labels: { country: "DE", city: "Berlin" }, schemes: ["http", "socks5"] };
    const more = { session: "cart-1", exclude: ["p_1", "p_2"], holder: "worker-7", token: true, target: "example.com" };
    expect(
      line({ code: "pool-exhausted", count: 3, limitedBy: { rate: 2, rest: 0 }, request: { ...request, ...more } }),
    ).toBe(
      "pool-exhausted ×3 (held back by rate 2) the last requested: 10 uses (at least 2) http or socks5 country=DE city=Berlin " +
        "without 2 excluded in session cart-1 with a token to example.com for worker-7",
    );
    expect(line({ code: "no-match", count: 1, request: { proxyId: "p_1" } })).toBe(
      "no-match ×1 requested: 1 use of p_1",
    );
    expect(line({ code: "invalid-request", count: 2 })).toBe("invalid-request ×2");
  });

  test("is shown as it happens", async () => {
    await open("refusals", "192.0.2.1:80");
    const { out } = watch(["--pool", "refusals", "--from", "1", "--type", "RequestsRefused"]);
    const request = JSON.stringify({ labels: { country: "XX" }, holder: "me" });
    await fetch(`${service.httpUrl}/v1/pools/refusals/leases`, { method: "POST", body: request });
    await eventually(() => expect(out()).toMatch(/RequestsRefused +no-match ×1 requested: 1 use country=XX for me\n/));
  });
});
