// A lease belongs to the user who took it. Others do not learn its id, and cannot use it. It stays so after a failover.
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import { loginAs, usersIn } from "../kit/login.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

let dataDir: string;
let remuda: RemudaProcess;
let nats: Record<"operator" | "ann" | "bob" | "vera" | "auditor", RawNats>;

const users = { ann: "--role worker", bob: "--pool mine", vera: "--role viewer" };
const env = { REMUDA_HTTP_KEYS: "always" };

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "owned-leases-"));
  remuda = await startRemuda({ dataDir, env });
  for (const [name, options] of Object.entries(users))
    expect(await runCommand(["user", "add", name, ...options.split(" ")], { dataDir })).toMatchObject({ code: 0 });
  await connectAll();
  const source = { url: "https://example.com/secret-path", headers: { authorization: "hush-hush" } };
  const policy = { concurrency: null, rate: null, token: { source: { ...source, value: { header: "x-guest" } } } };
  expect((await ask("operator", "remuda.pool.open.mine", { policy })).code).toBeUndefined();
  await ask("operator", "remuda.proxies.add.mine", { proxies: ["192.0.2.1:80"] });
}, 150_000);
afterAll(async () => {
  await Promise.all(Object.values(nats ?? {}).map((each) => each.close()));
  await remuda?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

async function connectAll(): Promise<void> {
  const names = ["operator", "ann", "bob", "vera", "auditor"] as const;
  const each = names.map(async (name) => [name, await connectRaw(remuda.natsUrlAs(name))] as const);
  nats = Object.fromEntries(await Promise.all(each)) as typeof nats;
}

type Name = keyof typeof nats;
// biome-ignore lint/suspicious/noExplicitAny: each test knows which reply it reads
type Reply = any;
const ask = async (name: Name, subject: string, body = {}, headers: Record<string, string> = {}): Promise<Reply> =>
  (await nats[name].request(subject, JSON.stringify(body), { headers })).json();

async function call(line: string, name: string, body?: object) {
  const [method = "", path = ""] = line.split(" ");
  const key = usersIn(dataDir).find((each) => each.name === name)?.key;
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await fetch(`${remuda.httpUrl}${path}`, {
    method,
    headers: { authorization: `Bearer ${key}` },
    ...sent,
  });
  return { status: response.status, body: (await response.json()) as Reply };
}

const unknown = { code: "unknown-lease" };

describe("another user's lease", () => {
  test("is unknown over NATS: it cannot be renewed, released or reported on", async () => {
    const { leaseId } = await ask("ann", "remuda.lease.mine", { uses: 3 });
    expect(await ask("bob", "remuda.renew.mine", { leaseId })).toMatchObject(unknown);
    expect(await ask("bob", "remuda.release.mine", { leaseId })).toMatchObject(unknown);
    const outcomes = [{ leaseId, n: 1, status: 200 }];
    expect(await ask("bob", "remuda.report.mine", { outcomes })).toMatchObject({
      accepted: 0,
      ignored: [{ leaseId, n: 1, why: "unknown-lease" }],
    });
    expect(await ask("ann", "remuda.report.mine", { outcomes })).toMatchObject({ accepted: 1 });
    expect(await ask("ann", "remuda.release.mine", { leaseId, used: 1 })).toMatchObject({ used: 1 });
    expect(await ask("bob", "remuda.release.mine", { leaseId })).toMatchObject(unknown);
  });

  test("is unknown over HTTP, and is the user's own over NATS and HTTP alike", async () => {
    const { status, body: lease } = await call("POST /v1/pools/mine/leases", "ann", { uses: 2 });
    expect(status).toBe(201);
    expect(await call(`POST /v1/pools/mine/leases/${lease.leaseId}/renew`, "bob", {})).toMatchObject({ status: 404 });
    expect(await call(`DELETE /v1/pools/mine/leases/${lease.leaseId}`, "bob")).toMatchObject({ status: 404 });
    expect(await ask("ann", "remuda.renew.mine", { leaseId: lease.leaseId })).toMatchObject({ leaseId: lease.leaseId });
    expect(await call(`DELETE /v1/pools/mine/leases/${lease.leaseId}?used=0`, "ann")).toMatchObject({ status: 200 });
  });

  test("is known to an administrator", async () => {
    const { leaseId } = await ask("ann", "remuda.lease.mine");
    expect(await ask("operator", "remuda.renew.mine", { leaseId })).toMatchObject({ leaseId });
    expect(await ask("operator", "remuda.release.mine", { leaseId, used: 0 })).toMatchObject({ used: 0 });
  });

  test("is not given to a request with the same requestId", async () => {
    const request = { requestId: "0f5c7f6e-one-request-of-two" };
    const { leaseId } = await ask("ann", "remuda.lease.mine", request);
    expect(await ask("ann", "remuda.lease.mine", request)).toMatchObject({ leaseId });
    expect(await ask("bob", "remuda.lease.mine", request)).toMatchObject({
      code: "invalid-request",
      field: "requestId",
    });
    await ask("ann", "remuda.release.mine", { leaseId, used: 0 });
  });

  test("cannot be reached by a name in a header, since only HTTP's own login may send one", async () => {
    const { leaseId } = await ask("ann", "remuda.lease.mine");
    const headers = { "Remuda-User": "ann" };
    expect(await ask("bob", "remuda.release.mine", { leaseId }, headers)).toMatchObject(unknown);
    await ask("ann", "remuda.release.mine", { leaseId, used: 0 });
  });

  test("that waits cannot be cancelled", async () => {
    const { proxies } = await ask("operator", "remuda.proxies.list.mine");
    const ids = proxies.map(({ id }: { id: string }) => id);
    await ask("operator", "remuda.proxies.rest.mine", { ids, forMs: 600_000 });
    const requestId = "7a1b7f6e-a-request-that-waits";
    const waiting = ask("ann", "remuda.lease.mine", { requestId, waitMs: 9000 });
    await ask("ann", "remuda.pool.stats.mine"); // By then the request waits.
    expect(await ask("bob", "remuda.cancel.mine", { requestId })).toEqual({ cancelled: false });
    expect(await ask("ann", "remuda.cancel.mine", { requestId })).toEqual({ cancelled: true });
    expect(await waiting).toMatchObject({ code: "unavailable" });
    await ask("operator", "remuda.proxies.revive.mine", { ids });
  });

  test("is listed without its ids to a viewer, and not at all to a worker", async () => {
    const request = { requestId: "3c9d7f6e-a-request-to-list", holder: "crawler" };
    const { leaseId } = await ask("ann", "remuda.lease.mine", request);
    const listed = async (name: Name) => (await ask(name, "remuda.leases.list.mine")).leases;
    expect(await listed("ann")).toMatchObject([{ leaseId }]);
    expect(await listed("bob")).toEqual([]);
    expect(await listed("operator")).toMatchObject([{ leaseId, requestId: request.requestId }]);
    const [seen, ...others] = await listed("vera");
    expect([seen.holder, others]).toEqual(["crawler", []]);
    expect(JSON.stringify(seen)).not.toContain(leaseId);
    expect(JSON.stringify(seen)).not.toContain(request.requestId);
    expect((await call("GET /v1/pools/mine/leases", "bob")).body.leases).toEqual([]);
    await ask("ann", "remuda.release.mine", { leaseId, used: 0 });
  });
});

test("only administrators see where tokens come from", async () => {
  for (const name of ["ann", "vera"] as const) {
    const shown = [await ask(name, "remuda.pool.get.mine"), await ask(name, "remuda.pool.list.all")];
    expect(shown[0].policy.token.source.headers).toEqual({ authorization: "…" });
    expect(JSON.stringify(shown)).not.toMatch(/hush-hush|secret-path/);
    expect(JSON.stringify((await call("GET /v1/pools/mine", name)).body)).not.toMatch(/hush-hush|secret-path/);
  }
  expect(JSON.stringify(await ask("operator", "remuda.pool.get.mine"))).toMatch(/secret-path.*hush-hush/);
});

test("a viewer follows events without lease ids, request ids and sources of tokens", async () => {
  const requestId = "8e1d7f6e-a-request-to-follow";
  const { leaseId } = await ask("ann", "remuda.lease.mine", { requestId });
  const follow = async (name: Name): Promise<string> => {
    const key = usersIn(dataDir).find((each) => each.name === name)?.key;
    const hangUp = new AbortController();
    const headers = { authorization: `Bearer ${key}` };
    const url = `${remuda.httpUrl}/v1/pools/mine/events?from=0`;
    const { body } = await fetch(url, { headers, signal: hangUp.signal });
    let text = "";
    for await (const chunk of body ?? []) {
      text += Buffer.from(chunk).toString();
      if (text.includes(leaseId.slice(0, 8))) break;
    }
    hangUp.abort();
    return text;
  };
  for (const secret of [leaseId, requestId, "secret-path", "hush-hush"]) {
    expect([secret, (await follow("vera")).includes(secret)]).toEqual([secret, false]);
    expect([secret, (await follow("operator")).includes(secret)]).toEqual([secret, true]);
  }
  await ask("ann", "remuda.release.mine", { leaseId, used: 0 });
});

test("administrative events have the user who did it, over NATS and over HTTP", async () => {
  await ask("operator", "remuda.pool.open.acts");
  await ask("operator", "remuda.pool.policy.acts", { policy: { concurrency: 3 } });
  const body = { proxies: ["192.0.2.7:80"] };
  expect((await call("POST /v1/pools/acts/proxies", "operator", body)).status).toBe(200);
  const { proxies } = await ask("operator", "remuda.proxies.list.acts");
  const ids = proxies.map(({ id }: { id: string }) => id);
  await ask("operator", "remuda.proxies.rest.acts", { ids, forMs: 60_000 });
  await ask("operator", "remuda.proxies.revive.acts", { ids });
  await ask("operator", "remuda.proxies.retire.acts", { ids });
  await call("DELETE /v1/pools/acts", "operator");
  const args = ["audit", "events", "--pool", "acts", "--json", "--by", "operator"];
  const { stdout } = await runCommand(args, { dataDir });
  const types = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
    .map(({ type, by }) => [type, by]);
  const acts = ["PoolOpened", "PolicyChanged", "ProxyAdded", "RestBegan", "RestEnded", "ProxyRetired", "PoolClosed"];
  expect(types).toEqual(acts.map((type) => [type, "operator"]));
});

test("quotas hold over NATS and HTTP together, and a change holds for the next request", async () => {
  await ask("operator", "remuda.pool.open.quotas", { policy: { concurrency: null, rate: null } });
  await ask("operator", "remuda.proxies.add.quotas", { proxies: ["192.0.2.8:80"] });
  const quota = async (options: string) => {
    const { stdout, stderr } = await runCommand(["user", "quota", ...options.split(" ")], { dataDir });
    return stdout + stderr;
  };
  expect(await quota("ann --open-leases 2 --open-pools 1 --json")).toBe(
    '{"name":"ann","quota":{"openLeases":2,"openPools":1}}\n',
  );
  const { leaseId } = await ask("ann", "remuda.lease.quotas", { ttlMs: 60_000 });
  expect(await call("POST /v1/pools/quotas/leases", "ann", { ttlMs: 50_000 })).toMatchObject({ status: 201 });
  const over = { code: "overloaded", message: "ann has reached the quota openLeases: at most 2 open leases." };
  const refused = await ask("ann", "remuda.lease.quotas");
  expect(refused).toMatchObject(over);
  expect(refused.retryAfterMs).toBeGreaterThan(40_000);
  expect(refused.retryAfterMs).toBeLessThanOrEqual(50_000);
  expect(await call("POST /v1/pools/mine/leases", "ann", {})).toMatchObject({ status: 503, body: over });
  expect((await ask("operator", "remuda.lease.quotas")).leaseId).toBeDefined();
  await ask("ann", "remuda.release.quotas", { leaseId });
  expect(await quota("ann --open-leases none --waiting-requests 5")).toBe("ann: openPools 1, waitingRequests 5\n");
  for (let i = 0; i < 3; i++) expect((await ask("ann", "remuda.lease.quotas")).leaseId).toBeDefined();
  expect(await quota("ann --open-pools none --waiting-requests none")).toBe("ann: no quotas\n");
  expect(await quota("front --open-leases 2")).toMatch(/front is a login of the installation/);
  expect(await quota("zoe")).toMatch(/There is no user zoe/);
  expect(await quota("ann --open-leases 0")).toMatch(/at least 1/);
  await ask("operator", "remuda.pool.close.quotas");
});

test("the quota of open pools holds for an administrator over NATS and HTTP", async () => {
  const { stdout } = await runCommand(["user", "add", "dan", "--role", "admin", "--open-pools", "1"], { dataDir });
  expect(stdout).toMatch(/REMUDA_HTTP_KEY/);
  expect(await call("PUT /v1/pools/dans", "dan", {})).toMatchObject({ status: 200, body: { openedBy: "dan" } });
  const over = { code: "overloaded", message: "dan has reached the quota openPools: at most 1 open pools." };
  expect(await call("PUT /v1/pools/dans-other", "dan", {})).toMatchObject({ status: 503, body: over });
  expect(await call("PUT /v1/pools/dans", "dan", {})).toMatchObject({ status: 200 });
  await call("DELETE /v1/pools/dans", "dan");
  expect(await call("PUT /v1/pools/dans-other", "dan", {})).toMatchObject({ status: 200 });
  await call("DELETE /v1/pools/dans-other", "dan");
});

test("a source of another pool needs an administrator of that pool, since it copies logins", async () => {
  await runCommand(["user", "add", "fay", "--role", "admin", "--pool", "fays"], { dataDir });
  await ask("operator", "remuda.pool.open.fays");
  const body = { from: { kind: "pool", pool: "mine" }, everyMs: 3_600_000 };
  const refused = {
    code: "invalid-request",
    field: "from.pool",
    message: expect.stringContaining("fay is not an admin"),
  };
  expect(await call("PUT /v1/pools/fays/sources/copy", "fay", body)).toMatchObject({ status: 400, body: refused });
  const fay = await connectRaw(remuda.natsUrlAs("fay"));
  const put = { name: "copy", ...body };
  const answer = await fay.request("remuda.sources.put.fays", JSON.stringify(put)).finally(() => fay.close());
  expect(answer.json()).toMatchObject(refused);
  expect(await ask("operator", "remuda.sources.list.fays")).toEqual({ sources: [] });
  expect(await call("PUT /v1/pools/fays/sources/copy", "operator", body)).toMatchObject({ status: 200 });
  await call("DELETE /v1/pools/fays/sources/copy", "operator");
  await call("DELETE /v1/pools/fays", "operator");
});

test("changes of users and refused logins are in a log that has no secrets, and the audit reads it", async () => {
  const audit = async (options: string): Promise<Reply[]> => {
    const { stdout } = await runCommand(["audit", "users", "--json", ...options.split(" ")], { dataDir });
    return stdout.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
  };
  const from = Date.now();
  for (const args of ["add gil --role viewer --pool mine", "rotate gil", "quota gil --open-leases 3", "remove gil"])
    expect(await runCommand(["user", ...args.split(" ")], { dataDir })).toMatchObject({ code: 0 });
  const gil = await audit(`--user gil --since ${from} --type UserAdded UserRotated QuotaChanged UserRemoved`);
  const by = userInfo().username;
  expect(gil.map(({ at: _at, ...line }) => line)).toEqual([
    { type: "UserAdded", user: "gil", role: "viewer", pools: ["mine"], by },
    { type: "UserRotated", user: "gil", by },
    { type: "QuotaChanged", user: "gil", quota: { openLeases: 3 }, by },
    { type: "UserRemoved", user: "gil", by },
  ]);
  expect(gil.every(({ at }) => at >= from && at <= Date.now())).toBe(true);
  const url = loginAs(dataDir, remuda.bareNatsUrl, "ann").replace(/:[^:@]*@/, ":wrong-password@");
  await expect(connectRaw(url)).rejects.toThrow();
  const headers = { authorization: "Bearer wrong-key" };
  for (let i = 0; i < 3; i++) expect((await fetch(`${remuda.httpUrl}/v1/pools`, { headers })).status).toBe(401);
  expect((await fetch(`${remuda.httpUrl}/v1/pools`)).status).toBe(401);
  const refused = { type: "LoginRefused", host: "127.0.0.1" };
  await eventually(async () => {
    expect(await audit("--by ann --type LoginRefused")).toMatchObject([{ ...refused, over: "nats", user: "ann" }]);
  });
  const overHttp = (await audit("--type LoginRefused")).filter(({ over }) => over === "http");
  expect(overHttp).toEqual([{ ...refused, over: "http", at: expect.any(Number) }]); // The others are summed up later.
  const { stdout } = await runCommand(["audit", "users"], { dataDir });
  expect(stdout).toMatch(/UserAdded +gil viewer in mine by /);
  expect(stdout).toMatch(/LoginRefused +ann over nats from 127\.0\.0\.1/);
  for (const name of ["users-log.ndjson", "logins-refused.ndjson"]) {
    expect((await stat(join(dataDir, name))).mode & 0o777).toBe(0o600);
    expect(await readFile(join(dataDir, name), "utf8")).not.toMatch(/wrong-|password|key/);
  }
});

test("the list of pools has the user's pools alone", async () => {
  const listed = async (name: Name) =>
    (await ask(name, "remuda.pool.list.all")).pools.map(({ pool }: { pool: string }) => pool);
  expect(await listed("bob")).toEqual(["mine"]);
  expect(await listed("ann")).toEqual(["default", "mine"]);
  expect((await call("GET /v1/pools", "bob")).body.pools).toHaveLength(1);
});

test("the ledger has the user, and the next leader knows it", async () => {
  const { leaseId } = await ask("ann", "remuda.lease.mine");
  const body = JSON.stringify({ last_by_subj: "remuda.ledger.mine" });
  const commit = (await nats.auditor.request("$JS.API.DIRECT.GET.REMUDA_LEDGER", body)).json<{ events: object[] }>();
  expect(commit.events).toContainEqual(expect.objectContaining({ type: "LeaseGranted", leaseId, user: "ann" }));
  await Promise.all(Object.values(nats).map((each) => each.close()));
  await remuda.interrupt();
  await remuda.stop();
  remuda = await startRemuda({ dataDir, env });
  await connectAll();
  expect(await ask("bob", "remuda.renew.mine", { leaseId })).toMatchObject(unknown);
  expect(await ask("ann", "remuda.renew.mine", { leaseId })).toMatchObject({ leaseId });
}, 60_000);
