// `remuda user`: users are added and removed while the service runs. Their logins are in a file that only its owner can
// read.
import { copyFile, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openBroker } from "../../runtime/broker/broker.ts";
import { findTestBinary } from "../kit/broker.ts";
import { runCommand } from "../kit/command.ts";
import { loginAs, usersIn } from "../kit/login.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";

let dataDir: string;
let remuda: RemudaProcess;

beforeAll(async () => {
  dataDir = await folder();
  remuda = await startRemuda({ dataDir });
}, 150_000);
afterAll(async () => {
  await stopAllRemudas();
  await Promise.all(folders.map((each) => rm(each, { recursive: true, force: true, maxRetries: 20 })));
});

const folders: string[] = [];
async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "user-test-"));
  folders.push(made);
  return made;
}

const user = (args: string, where = dataDir) => runCommand(["user", ...args.split(" ")], { dataDir: where });
const modeOf = async (path: string): Promise<number> => (await stat(join(dataDir, path))).mode & 0o777;

async function variablesOf(args: string): Promise<Record<string, string>> {
  const { code, stdout, stderr } = await user(`${args} --json`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
}

describe("the first start", () => {
  test("creates users with long random passwords, in files that only their owner can read", async () => {
    for (const path of ["users.json", "nats/users.conf", "nats/nats.conf", "address.json", "key"]) {
      expect([path, await modeOf(path)]).toEqual([path, 0o600]);
    }
    const users = usersIn(dataDir).filter(({ role, name }) => role === name);
    const names = [
      "audit",
      "auditor",
      "client",
      "events",
      "follower",
      "front",
      "gateway",
      "guest-token",
      "guest-token-events",
      "http",
      "ledger",
      "operator",
      "peers",
      "sources",
      "sources-front",
    ];
    expect(users.map(({ name }) => name).sort()).toEqual(names);
    const secrets = users.flatMap(({ password, key }) => [password, ...(key === undefined ? [] : [key])]);
    for (const secret of secrets) expect(secret).toMatch(/^[\w-]{43,}$/);
    expect(new Set(secrets).size).toBe(secrets.length);
  });

  test("stores keys as hashes, and gives the NATS server hashes of passwords", async () => {
    const conf = await readFile(join(dataDir, "nats/users.conf"), "utf8");
    const file = await readFile(join(dataDir, "users.json"), "utf8");
    const users = usersIn(dataDir);
    expect(conf.match(/password: "\$2b\$04\$[./\w]{53}"/g)).toHaveLength(users.length);
    expect(conf.match(/password:/g)).toHaveLength(users.length);
    expect(users.filter(({ password }) => conf.includes(password))).toEqual([]);
    const { stdout } = await runCommand(["env", "--as", "client", "--json"], { dataDir });
    const { REMUDA_HTTP_KEY: key } = JSON.parse(stdout);
    expect(usersIn(dataDir).find(({ name }) => name === "client")?.key).toBe(key);
    expect(file).not.toContain(key);
  });

  test("prints no password, and leaves none in a readable place", async () => {
    const secrets = usersIn(dataDir).flatMap(({ password, key }) => [password, key ?? password]);
    const said = remuda.output() + (await readFile(join(dataDir, "address.json"), "utf8"));
    const log = await readFile(join(dataDir, "nats/nats.log"), "utf8");
    expect(secrets.filter((secret) => (said + log).includes(secret))).toEqual([]);
  });
});

describe("a user", () => {
  test("can lease as soon as it is added, receives only its own inboxes, and is cut off when removed", async () => {
    const variables = await variablesOf("add alice");
    expect(variables).toEqual({
      REMUDA_NATS_URL: loginAs(dataDir, remuda.bareNatsUrl, "alice"),
      REMUDA_HTTP_URL: remuda.httpUrl,
      REMUDA_GATEWAY_URL: remuda.gatewayUrl,
      REMUDA_HTTP_KEY: expect.stringMatching(/^[\w-]{43}$/),
    });
    const url = variables["REMUDA_NATS_URL"] ?? "";
    const standing = await connectRaw(remuda.natsUrl);
    const alice = await connectRaw(url);
    expect(alice.inbox).toMatch(/^_INBOX\.alice\./);
    expect((await alice.request("remuda.pool.get.default")).json()).toMatchObject({ pool: "default" });
    alice.subscribe("_INBOX.client.>", () => {});
    await alice.flush();
    expect(alice.errors.join()).toContain("Permissions Violation for Subscription");

    expect(await user("add alice")).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/^remuda: invalid-request: The user alice exists/),
    });
    expect((await runCommand(["env", "--as", "alice", "--json"], { dataDir })).stdout).toBe(
      `${JSON.stringify(variables)}\n`,
    );
    expect((await user("list")).stdout).toMatch(/^alice +worker +all$/m);

    expect(await user("remove alice")).toEqual({ code: 0, stdout: "alice is removed\n", stderr: "" });
    await eventually(() => expect(alice.request("remuda.pool.get.default")).rejects.toMatchObject({ code: "closed" }));
    await expect(connectRaw(url)).rejects.toMatchObject({ message: "Authorization Violation" });
    expect((await user("list")).stdout).not.toContain("alice");
    expect(await user("remove alice")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("There is no user alice"),
    });
    // Users that were connected before stay connected.
    expect((await standing.request("remuda.pool.get.default")).json()).toMatchObject({ pool: "default" });
    await standing.close();
  });

  test("comes and goes without disturbing others: a waiting request is served, and a ledger's reader goes on", async () => {
    const worker = await connectRaw(remuda.natsUrlAs("operator"));
    const hangUp = new AbortController();
    const { body } = await fetch(`${remuda.httpUrl}/v1/pools/default/events`, { signal: hangUp.signal });
    let followed = "";
    void (async () => {
      for await (const chunk of body ?? []) followed += Buffer.from(chunk).toString();
    })().catch(() => {}); // Ends with the abort.
    await worker.request("remuda.proxies.add.default", '{"proxies":["192.0.2.77:80"]}');
    await eventually(() => expect(followed).toContain("192.0.2.77"));
    const rested = (await worker.request("remuda.proxies.list.default")).json<{ proxies: { id: string }[] }>();
    const ids = rested.proxies.map(({ id }) => id);
    await worker.request("remuda.proxies.rest.default", JSON.stringify({ ids, forMs: 600_000 }));
    const waiting = worker.request("remuda.lease.default", '{"waitMs":20000}', { timeoutMs: 25_000 });
    await user("add passing");
    await user("remove passing");
    await worker.request("remuda.proxies.revive.default", JSON.stringify({ ids }));
    const { leaseId } = (await waiting).json<{ leaseId: string }>();
    expect(leaseId).toMatch(/^l_/);
    await eventually(() => expect(followed).toContain(leaseId), { timeoutMs: 10_000 });
    hangUp.abort();
    await worker.close();
  });

  test("gets another login when added again", async () => {
    const first = await variablesOf("add bob");
    await user("remove bob");
    const second = await variablesOf("add bob");
    expect(second["REMUDA_NATS_URL"]).not.toBe(first["REMUDA_NATS_URL"]);
    expect(second["REMUDA_HTTP_KEY"]).not.toBe(first["REMUDA_HTTP_KEY"]);
    await expect(connectRaw(first["REMUDA_NATS_URL"] ?? "")).rejects.toMatchObject({ code: "refused" });
    await (await connectRaw(second["REMUDA_NATS_URL"] ?? "")).close();
  });

  test("is not lost when many are added at the same time", async () => {
    const names = Array.from({ length: 6 }, (_, i) => `many-${i}`);
    const added = await Promise.all(names.map((name) => user(`add ${name}`)));
    expect(added.map(({ code }) => code)).toEqual(names.map(() => 0));
    for (const name of names) await (await connectRaw(remuda.natsUrlAs(name))).close();
  });

  test.each(["ledger", "operator", "client", "auditor", "health", "Alice", "-a", "a.b", "a*", "a".repeat(33)])(
    "cannot be called %s",
    async (name) => {
      const before = usersIn(dataDir);
      const { code, stderr } = await runCommand(["user", "add", "--", name], { dataDir });
      expect([code, stderr]).toEqual([2, expect.stringMatching(/It must be|belongs to the installation|health check/)]);
      expect(usersIn(dataDir)).toEqual(before);
    },
  );

  test("can be added and removed while nothing runs, and exists after the start", async () => {
    const where = await folder();
    expect((await user("add early", where)).code).toBe(0);
    expect((await user("add never", where)).code).toBe(0);
    expect((await user("remove never", where)).code).toBe(0);
    const started = await startRemuda({ dataDir: where });
    await (await connectRaw(started.natsUrlAs("early"))).close();
    const never = started.bareNatsUrl.replace("://", "://never:x@");
    await expect(connectRaw(never)).rejects.toMatchObject({ code: "refused" });
    await started.interrupt();
    await started.stop();
  });

  test("keeps its login when the broker is restarted after a kill", async () => {
    const { REMUDA_NATS_URL: url = "" } = await variablesOf("add lasting");
    const record = JSON.parse(await readFile(join(dataDir, "nats/broker.json"), "utf8"));
    process.kill(record.pid, "SIGKILL");
    await eventually(async () => await (await connectRaw(url)).close(), { timeoutMs: 10_000 });
  });
});

test("reports a wrong login with the remedy and without the password", async () => {
  const env = { REMUDA_NATS_URL: remuda.bareNatsUrl.replace("://", "://operator:hush-hush@") };
  for (const args of [["lease"], ["run", "picker"], ["run", "api"]]) {
    const { code, stderr } = await runCommand(args, { dataDir, env });
    expect([code, stderr]).toEqual([
      2,
      expect.stringMatching(
        /^remuda: NATS at \S+ does not accept the login of the user "operator"\. Set REMUDA_NATS_URL/,
      ),
    ]);
    expect(stderr).not.toContain("hush-hush");
  }
});

test("keeps all rights of the commands here when a client's login is in the environment, as in the README", async () => {
  const env = { REMUDA_NATS_URL: loginAs(dataDir, remuda.bareNatsUrl, "client") };
  expect(await runCommand(["proxies", "export"], { dataDir, env })).toMatchObject({ code: 0, stderr: "" });
  const { code, stdout } = await runCommand(["doctor", "--json"], { dataDir, env });
  expect(code).toBe(0);
  expect(stdout).not.toContain("could not be looked at");
  // Elsewhere than beside the users file it is only a client.
  const { code: elsewhere, stderr } = await runCommand(["proxies", "export"], { dataDir: await folder(), env });
  expect([elsewhere, stderr]).toEqual([
    2,
    expect.stringContaining("does not allow this user to use remuda.proxies.export"),
  ]);
});

test("names a damaged users file in its error message", async () => {
  const where = await folder();
  await user("add someone", where);
  await rm(join(where, "users.json"));
  await writeFile(join(where, "users.json"), '{"users": [{"name": 1, "password": "hush"}]}', { mode: 0o600 });
  for (const args of [["up"], ["user", "list"], ["env"]]) {
    const { code, stderr } = await runCommand(args, { dataDir: where });
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^remuda: the users file \S+users\.json is damaged/)]);
    expect(stderr).not.toContain("hush");
  }
});

test("keeps the data of an installation without users when users are added", async () => {
  const where = await folder();
  const open = { dataDir: where, host: "127.0.0.1", port: 0, binary: () => findTestBinary(), say: () => {} };
  const broker = await openBroker(open);
  const earlier = await startRemuda({ dataDir: where, env: { REMUDA_NATS_URL: broker.url } });
  const nats = await connectRaw(broker.url);
  await nats.request("remuda.proxies.add.default", '{"proxies":["ann:secret@192.0.2.1:80"]}');
  const lease = (await nats.request("remuda.lease.default", '{"uses":2}')).json<{ leaseId: string; url: string }>();
  await nats.request("remuda.outcome.default", JSON.stringify({ leaseId: lease.leaseId, n: 1, status: 200 }));
  await nats.close();
  await earlier.interrupt();
  await broker.stop();
  await earlier.stop();

  const now = await startRemuda({ dataDir: where });
  onTestFinished(() => now.stop());
  const client = await connectRaw(now.natsUrl);
  const body = JSON.stringify({ leaseId: lease.leaseId });
  expect((await client.request("remuda.renew.default", body)).json()).toMatchObject({
    leaseId: lease.leaseId,
    url: lease.url,
  });
  await eventually(async () =>
    expect((await client.request("remuda.pool.stats.default")).json()).toMatchObject({ outcomes: { succeeded: 1 } }),
  );
  await client.close();
});

test("services that run alone log in as their own users, by a users file, on an existing NATS server", async () => {
  const where = await folder();
  const conf = join(where, "users.conf");
  expect(await user(`conf --out ${conf}`, where)).toEqual({ code: 0, stdout: "", stderr: "" });
  expect((await stat(conf)).mode & 0o777).toBe(0o600);
  expect((await user("conf", where)).stdout).toBe(await readFile(conf, "utf8"));
  const broker = await openBroker({
    dataDir: await folder(),
    host: "127.0.0.1",
    port: 0,
    binary: () => findTestBinary(),
    say: () => {},
    users: {
      streamAccounts: {},
      writeConf: async (path) => copyFile(conf, path),
    },
  });
  onTestFinished(() => broker.stop());
  const env = { REMUDA_NATS_URL: broker.url, REMUDA_NATS_USERS: join(where, "users.json") };
  const elsewhere = await folder();
  const picker = await startRemuda({ dataDir: elsewhere, args: ["run", "picker"], env });
  const api = await startRemuda({ dataDir: elsewhere, args: ["run", "api"], env });
  expect(await runCommand(["pool", "open"], { dataDir: elsewhere, env })).toMatchObject({ code: 0, stderr: "" });
  expect((await fetch(`${api.httpUrl}/v1/pools/default`)).status).toBe(200);
  expect((await fetch(`${api.httpUrl}/readyz`)).status).toBe(200);
  const denied = { ...env, REMUDA_NATS_USERS: join(elsewhere, "none.json") };
  expect(await runCommand(["lease"], { dataDir: elsewhere, env: denied })).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^remuda: the users file \S+none\.json does not exist/),
  });
  await Promise.all([picker.stop(), api.stop()]);
});
