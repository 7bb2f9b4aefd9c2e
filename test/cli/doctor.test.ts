// `remuda doctor`: each finding is provoked, and a healthy setup has none. It changes nothing and always ends.
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, onTestFinished, type TestContext, test } from "vitest";
import type { Finding } from "../../cli/finding.ts";
import { findingsOf, ok } from "../../cli/finding.ts";
import { readNatsUrl } from "../../runtime/nats-url.ts";
import { deadPort } from "../client/lab.ts";
import { startTestBroker } from "../kit/broker.ts";
import { runCommand } from "../kit/command.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";

let dataDir: string;
let service: RemudaProcess;

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), "doctor-test-"));
  service = await startRemuda({ dataDir });
}, 150_000);

afterAll(async () => {
  await service?.interrupt(); // So that its broker has ended too, and writes nothing more.
  await stopAllRemudas();
  rmSync(dataDir, { recursive: true, force: true });
});

interface Report {
  code: number;
  problems: number;
  warnings: number;
  findings: Finding[];
}

async function doctor(given: { dataDir: string; env?: Record<string, string> }): Promise<Report> {
  const startedAt = performance.now();
  const { code, stdout, stderr } = await runCommand(["doctor", "--json"], given);
  expect(performance.now() - startedAt).toBeLessThan(15_000); // Ten seconds of its own, plus Node's start on a busy machine.
  expect(stderr).toBe("");
  return { code, ...JSON.parse(stdout) };
}

/** Ports chosen by the system are not checked. */
const noPorts = { REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0" };
const here = () => doctor({ dataDir, env: noPorts });

const about = ({ findings }: Report, name: string): Finding[] => findings.filter((finding) => finding.about === name);
const wrong = ({ findings }: Report): Finding[] => findings.filter(({ severity }) => severity !== "ok");

type AtEnd = TestContext["onTestFinished"];

/** @param atEnd of the test, if tests run at the same time; also below. */
function scratch(atEnd: AtEnd = onTestFinished): string {
  const folder = mkdtempSync(join(tmpdir(), "doctor-test-"));
  atEnd(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function listening<T extends Server>(server: T, atEnd: AtEnd = onTestFinished): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  atEnd(() => void server.close());
  return (server.address() as AddressInfo).port; // On TCP.
}

async function api(method: string, path: string, body?: unknown): Promise<unknown> {
  const init = { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
  const response = await fetch(`${service.httpUrl}/v1/pools/${path}`, init);
  expect(response.ok).toBe(true);
  return response.json();
}

describe("a healthy setup", () => {
  test("is reported as healthy in each part, with exit code 0", async () => {
    await api("POST", "default/proxies", ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.2:81"]);
    const report = await here();
    expect(wrong(report)).toEqual([]);
    expect(report).toMatchObject({ code: 0, problems: 0, warnings: 0 });
    for (const name of ["node", "nats-server", "files", "disk", "broker", "fsync", "ledger", "outcomes", "pickers"]) {
      expect(about(report, name)).toEqual([expect.objectContaining({ severity: "ok" })]);
    }
    expect(about(report, "http")[0]?.what).toBe(`answers at ${service.httpUrl}`);
    expect(about(report, "clock")[0]?.what).toMatch(/^the broker's clock is \d+ ms (behind|ahead of) this machine's/);
    expect(about(report, "pool default")[0]?.what).toMatch(
      /^led by picker-\w+, 3 proxies, 3 leasable now, 0 leased\. 2 of them share exits, and so their limits$/,
    );
    const { code, stdout, stderr } = await runCommand(["doctor"], { dataDir, env: noPorts });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^ok +node +\d+\./m);
    expect(stdout).toMatch(/All is well\.\n$/);
    expect(stdout).not.toContain("\u001b");
  });
});

describe("without a service", () => {
  test("says how to start, ends with 1, and creates nothing", async () => {
    const missing = join(scratch(), "data");
    const report = await doctor({
      dataDir: missing,
      env: { REMUDA_NATS_PORT: String(await deadPort()), REMUDA_HTTP_PORT: "0" },
    });
    expect(report).toMatchObject({ code: 1, problems: 1, warnings: 0 });
    expect(wrong(report)).toEqual([
      {
        severity: "problem",
        about: "broker",
        what: expect.stringMatching(/^no NATS server answers at nats:\/\/127\.0\.0\.1:\d+: nothing runs$/),
        todo: 'Start it with "npx remuda up".',
      },
    ]);
    expect(about(report, "files")[0]?.what).toContain("The first start makes it");
    expect(existsSync(missing)).toBe(false);
  });

  test("distinguishes rejected credentials from a missing server", async () => {
    const greeting = `INFO ${JSON.stringify({ server_id: "x", server_name: "x", version: "2.15.0", auth_required: true })}\r\n`;
    const guarded = createServer((socket) => {
      socket.on("error", () => {});
      socket.write(greeting);
      socket.on("data", () => socket.end("-ERR 'Authorization Violation'\r\n"));
    });
    const env = { REMUDA_NATS_URL: `nats://user:hush@127.0.0.1:${await listening(guarded)}`, REMUDA_HTTP_PORT: "0" };
    const report = await doctor({ dataDir: scratch(), env });
    expect(about(report, "broker")).toEqual([
      expect.objectContaining({
        severity: "problem",
        what: expect.stringMatching(
          /^NATS at nats:\S+ does not accept the login of the user "user"\. Set REMUDA_NATS_URL /,
        ),
      }),
    ]);
  });

  test("names a missing certificate file, and does not report the server as away", async () => {
    const env = { REMUDA_NATS_URL: "nats://127.0.0.1:4222", REMUDA_TLS_CA: "/nowhere/ca.pem", REMUDA_HTTP_PORT: "0" };
    const report = await doctor({ dataDir: scratch(), env });
    expect(about(report, "broker")).toEqual([
      {
        severity: "problem",
        about: "broker",
        what: "REMUDA_TLS_CA names /nowhere/ca.pem, which cannot be read (ENOENT)",
      },
    ]);
  });

  test("distinguishes a foreign NATS server, and another Remuda, from ours", async () => {
    const env = { REMUDA_NATS_PORT: new URL(service.natsUrl).port, REMUDA_HTTP_PORT: new URL(service.httpUrl!).port };
    const report = await doctor({ dataDir: scratch(), env });
    expect(about(report, `port ${env.REMUDA_NATS_PORT}`)[0]).toMatchObject({
      severity: "problem",
      what: expect.stringMatching(/^used by another NATS server \(2\.\d+\.\d+\), not of this data directory/),
    });
    expect(about(report, `port ${env.REMUDA_HTTP_PORT}`)[0]?.what).toBe(
      "used by another Remuda, not of this data directory",
    );
    const ours = await doctor({ dataDir, env });
    expect(about(ours, `port ${env.REMUDA_NATS_PORT}`)).toEqual([
      ok(`port ${env.REMUDA_NATS_PORT}`, "used by the NATS server of this data directory"),
    ]);
  });
});

// Each of them lasts until the doctor gives up.
describe.concurrent("without an answer", () => {
  test("gives up in time on a server that never answers, and shows no password", async ({ onTestFinished }) => {
    const mute = await listening(
      createServer(() => {}),
      onTestFinished,
    );
    const env = { REMUDA_NATS_URL: `nats://user:hush@127.0.0.1:${mute}`, REMUDA_HTTP_PORT: "0" };
    const report = await doctor({ dataDir: scratch(onTestFinished), env });
    expect(about(report, "broker")).toEqual([expect.objectContaining({ severity: "problem" })]);
    expect(report.code).toBe(1);
    expect(JSON.stringify(report)).not.toContain("hush");
  });

  test("names the processes that hold our ports", async ({ onTestFinished }) => {
    const [nats, http] = [
      await listening(createServer(), onTestFinished),
      await listening(
        createHttpServer((_, r) => void r.end("hi")),
        onTestFinished,
      ),
    ];
    const env = { REMUDA_NATS_PORT: String(nats), REMUDA_HTTP_PORT: String(http) };
    const report = await doctor({ dataDir: scratch(onTestFinished), env });
    expect(about(report, `port ${nats}`)).toEqual([
      {
        severity: "problem",
        about: `port ${nats}`,
        what: expect.stringMatching(`^used by another process, not of this data directory: process ${process.pid} `),
        todo: "Stop it, or set REMUDA_NATS_PORT to another port (0: any free port).",
      },
    ]);
    expect(about(report, `port ${http}`)[0]).toMatchObject({
      severity: "problem",
      what: expect.stringContaining(`used by another process: process ${process.pid}`),
    });
  });
});

describe("files", () => {
  test("names files that others may read, with the command that fixes them, and changes nothing", async () => {
    const folder = scratch();
    writeFileSync(join(folder, "key"), `${"A".repeat(43)}\n`, { mode: 0o644 });
    writeFileSync(join(folder, "address.json"), "{}\n", { mode: 0o600 });
    writeFileSync(join(folder, "owner.lock"), "", { mode: 0o644 });
    mkdirSync(join(folder, "nats"));
    chmodSync(join(folder, "nats"), 0o755);
    chmodSync(folder, 0o750);
    const report = await doctor({ dataDir: folder, env: noPorts });
    expect(about(report, "files")).toEqual([
      {
        severity: "warning",
        about: "files",
        what: expect.stringContaining("(mode 0750)"),
        todo: `chmod 700 ${folder}`,
      },
      {
        severity: "problem",
        about: "files",
        what: expect.stringContaining("(mode 0644)"),
        todo: `chmod 600 ${folder}/key`,
      },
      {
        severity: "problem",
        about: "files",
        what: expect.stringContaining("(mode 0755)"),
        todo: `chmod 700 ${folder}/nats`,
      },
    ]);
    expect(statSync(join(folder, "key")).mode & 0o777).toBe(0o644);
    expect(readdirSync(folder).sort()).toEqual(["address.json", "key", "nats", "owner.lock"]);
  });

  test("reports an invalid key, and a missing key with an existing store", async () => {
    const folder = scratch();
    mkdirSync(join(folder, "nats", "store"), { recursive: true, mode: 0o700 });
    const gone = about(await doctor({ dataDir: folder, env: noPorts }), "files");
    expect(gone).toEqual([
      expect.objectContaining({ severity: "problem", what: expect.stringContaining("key is missing") }),
    ]);
    writeFileSync(join(folder, "key"), "short\n", { mode: 0o600 });
    const broken = about(await doctor({ dataDir: folder, env: noPorts }), "files");
    expect(broken).toEqual([expect.objectContaining({ what: expect.stringContaining("does not hold a key") })]);
    expect(JSON.stringify(broken)).not.toContain("short");
  });
});

describe("an external broker", () => {
  test("without picker or streams: reports both, and that its fsync cannot be checked from here", async () => {
    const broker = await startTestBroker();
    onTestFinished(() => broker.stop());
    const report = await doctor({ dataDir: scratch(), env: { REMUDA_NATS_URL: broker.url, REMUDA_HTTP_PORT: "0" } });
    expect(about(report, "nats-server")[0]?.what).toContain("not started here");
    expect(about(report, "fsync")).toEqual([
      expect.objectContaining({ severity: "warning", what: expect.stringMatching(/^unknown: /) }),
    ]);
    expect(about(report, "pickers")).toEqual([expect.objectContaining({ severity: "problem" })]);
    expect(about(report, "ledger")[0]).toMatchObject({ severity: "warning", what: "there is no ledger yet" });
    expect(report.code).toBe(1);
  });

  test("with a ledger that forgets or is nearly full: reports a problem", async () => {
    const broker = await startTestBroker();
    onTestFinished(() => broker.stop());
    const nc = await connect(readNatsUrl(broker.url));
    onTestFinished(() => nc.close());
    const config = { name: "REMUDA_LEDGER", subjects: ["remuda.ledger.*"], storage: "memory", max_bytes: 10_000 };
    const made = await nc.request("$JS.API.STREAM.CREATE.REMUDA_LEDGER", JSON.stringify({ ...config, max_age: 1e12 }));
    expect(made.json()).not.toHaveProperty("error");
    await nc.request("remuda.ledger.x", "x".repeat(9_200));
    const report = await doctor({ dataDir: scratch(), env: { REMUDA_NATS_URL: broker.url, REMUDA_HTTP_PORT: "0" } });
    const found = about(report, "ledger").map(({ severity, what }) => `${severity}: ${what}`);
    expect(found).toContainEqual(expect.stringMatching(/^problem: .* has storage "memory"\. Ledgers need "file"$/));
    expect(found).toContainEqual(expect.stringMatching(/^problem: .* has max_age 1000000000000/));
    expect(found).toContainEqual(expect.stringMatching(/^problem: .* has discard "old"\. Ledgers need "new"$/));
    expect(found).toContainEqual(expect.stringMatching(/^problem: .* in 1 commits, 9\d % of 0 MiB$/));
  });
});

describe("streams", () => {
  test("names a stream with wrong limits and the cure, while /readyz answers 503", async () => {
    const nc = await connect(readNatsUrl(service.natsUrlAs("ledger")));
    onTestFinished(() => nc.close());
    const call = async (name: string, body: object = {}) =>
      (await nc.request(`$JS.API.${name}`, JSON.stringify(body))).json<{ config: object }>();
    const { config } = await call("STREAM.INFO.REMUDA_LEDGER");
    const ready = async (): Promise<{ status: number; text: string }> => {
      const answer = await fetch(`${service.httpUrl}/readyz`);
      return { status: answer.status, text: await answer.text() };
    };
    const wrong = /REMUDA_LEDGER has max_msgs 1000000, and Remuda needs -1/;
    await call("STREAM.UPDATE.REMUDA_LEDGER", { ...config, max_msgs: 1_000_000 });
    try {
      await eventually(async () =>
        expect(await ready()).toMatchObject({ status: 503, text: expect.stringMatching(wrong) }),
      );
      const report = await here();
      expect(report.code).toBe(1);
      expect(about(report, "stream REMUDA_LEDGER")).toMatchObject([
        { severity: "problem", what: expect.stringMatching(/needs -1\. Change it: nats stream edit REMUDA_LEDGER/) },
      ]);
    } finally {
      await call("STREAM.UPDATE.REMUDA_LEDGER", config);
    }
    await eventually(async () => expect(await ready()).toMatchObject({ status: 200 }));
  });
});

describe("pools", () => {
  test("notes exits shared by two pools that may fetch from one site, and reports possible sharing behind one gateway as a warning", async () => {
    await api("PUT", "shop-a");
    await api("PUT", "shop-b");
    await api("POST", "shop-a/proxies", ["198.51.100.7:80", "198.51.100.8:80"]);
    await api("POST", "shop-b/proxies", ["198.51.100.7:81", "u:p@gate.example.com:80", "u2:p@gate.example.com:80"]);
    const report = await here();
    expect(about(report, "exits")).toEqual([
      {
        severity: "note",
        about: "exits",
        what: expect.stringMatching(/^1 exit is in several pools \(shop-a, shop-b\): 198\.51\.100\.7\. /),
        todo: expect.stringContaining("set hosts in their policies"),
      },
    ]);
    expect(wrong(report).filter((finding) => finding.about === "pool shop-b")).toEqual([
      expect.objectContaining({
        severity: "warning",
        what: expect.stringMatching(/^2 proxies have the host gate\.example\.com, and their exits are unknown/),
      }),
    ]);
    expect(report.code).toBe(0);
    await api("PATCH", "shop-a", { policy: { hosts: ["a.example.com"] } });
    await api("PATCH", "shop-b", { policy: { hosts: ["*.example.com"] } });
    expect(about(await here(), "exits")).toHaveLength(1); // The second pool fetches from the first one's site as well.
    await api("PATCH", "shop-b", { policy: { hosts: ["example.com", "b.example.com"] } });
    expect(about(await here(), "exits")).toEqual([]);
    await api("DELETE", "shop-b");
  });

  test("reports empty pools, full rest, no success, unreported uses, and ignored outcomes", async () => {
    await api("PUT", "sorry", { policy: { rate: null, concurrency: null } });
    expect(wrong(await here()).find((finding) => finding.about === "pool sorry")?.what).toBe("the pool has no proxies");
    await api("POST", "sorry/proxies", ["203.0.113.1:80"]);
    const leases = await Promise.all(Array.from({ length: 30 }, () => api("POST", "sorry/leases")));
    const [first, second] = leases as { leaseId: string }[];
    const failed = { leaseId: first!.leaseId, status: 407 };
    await api("POST", "sorry/outcomes", [failed, { leaseId: "l_nobody-has-this-one-ever", n: 1, result: "success" }]);
    await api("POST", "sorry/outcomes", [{ ...failed, leaseId: second!.leaseId }]);
    for (const { leaseId } of leases as { leaseId: string }[]) await api("DELETE", `sorry/leases/${leaseId}`);
    const report = await here();
    const found = wrong(report)
      .filter((finding) => finding.about === "pool sorry")
      .map(({ what }) => what);
    expect(found).toEqual([
      expect.stringMatching(/^no proxy is available: 1 proxy rests \(backoff\)\. The first rest ends in \d+ m/),
      expect.stringMatching(/^1 of the 1 proxies that were used have never succeeded \(p_\S+\)$/),
      "1 of 3 outcomes were ignored",
      "28 of 30 uses were never reported, so bad proxies cannot be recognised",
    ]);
    expect(report.findings.filter(({ what }) => what.includes("no proxy is available")).length).toBe(1);
  });

  test("reports a rule that can never fire, and outcomes for a pool that was never opened", async () => {
    await api("PUT", "idle", { policy: { rate: { limit: 2, windowMs: 60_000 } } });
    await api("POST", "idle/proxies", ["203.0.113.9:80"]);
    const nc = await connect(readNatsUrl(service.natsUrl));
    onTestFinished(() => nc.close());
    await nc.request("remuda.outcome.tyop", JSON.stringify({ leaseId: "l_x", status: 200 }));
    const report = await here();
    expect(about(report, "pool idle")).toContainEqual(
      expect.objectContaining({
        severity: "warning",
        what: expect.stringMatching(/^its policy: failures: at most \d+ uses fit/),
      }),
    );
    expect(about(report, "outcomes").map(({ what }) => what)).toContain(
      "1 outcome was published for the pool tyop, which is not open, so it does not count",
    );
  });

  test("reports nothing for a closed pool", async () => {
    await api("PUT", "closed");
    await api("DELETE", "closed");
    expect((await here()).findings.filter((finding) => finding.about === "pool closed")).toEqual([]);
  });
});

test("reports a check that hangs or throws, and goes on", async () => {
  const hung = await findingsOf("slow", () => new Promise<Finding[]>(() => {}), 50);
  expect(hung).toMatchObject([{ severity: "warning", about: "slow", what: "the check did not end within 0.05 s" }]);
  const failed = await findingsOf(
    "odd",
    () => {
      throw new Error("no way");
    },
    50,
  );
  expect(failed).toEqual([{ severity: "warning", about: "odd", what: "the check failed: no way" }]);
});
