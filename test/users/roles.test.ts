// The rights of each role, over NATS and over HTTP. The tables are those of the contract (§1.2, §4.1, §4.3), written
// out.
import { createHash, createHmac } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { callerOf } from "../api/http.ts";
import { runCommand } from "../kit/command.ts";
import { usersIn } from "../kit/login.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

const users = {
  ada: "--role admin",
  ann: "--role admin --pool web",
  bob: "--role worker",
  ben: "--pool web --pool shop",
  vera: "--role viewer",
  vic: "--role viewer --pool web",
  max: "--role metrics",
};
type Name = keyof typeof users;
const names = Object.keys(users) as Name[];
const admins: Name[] = ["ada", "ann"];
const workers: Name[] = ["bob", "ben"];
const viewers: Name[] = ["vera", "vic"];
const everybody = [...admins, ...workers, ...viewers];

let dataDir: string;
let remuda: RemudaProcess;
let operator: RawNats;
const nats = new Map<string, RawNats>();

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "roles-test-"));
  remuda = await startRemuda({ dataDir, env: { REMUDA_HTTP_KEYS: "always" } });
  operator = await connectRaw(remuda.natsUrlAs("operator"));
  for (const pool of ["web", "shop"]) {
    await operator.request(`remuda.pool.open.${pool}`, "{}");
    await operator.request(`remuda.proxies.add.${pool}`, '{"proxies":["ann:secret@192.0.2.1:80","192.0.2.2:80"]}');
  }
  for (const [name, options] of Object.entries(users)) {
    const { code, stderr } = await runCommand(["user", "add", name, ...options.split(" ")], { dataDir });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    nats.set(name, await connectRaw(remuda.natsUrlAs(name)));
  }
}, 150_000);
afterAll(async () => {
  await Promise.all([operator, ...nats.values()].map((each) => each?.close()));
  await remuda?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

const keyOf = (name: string): string => usersIn(dataDir).find((each) => each.name === name)?.key ?? "";

async function call(line: string, name?: string, body = "{}") {
  const [method = "", path = ""] = line.split(" ");
  const headers = name === undefined ? {} : { authorization: `Bearer ${keyOf(name)}` };
  const hangUp = new AbortController();
  const response = await fetch(`${remuda.httpUrl}${path}`, {
    method,
    headers,
    signal: hangUp.signal,
    ...(["GET", "DELETE"].includes(method) ? {} : { body }),
  });
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
  const text = isStream ? "" : await response.text();
  hangUp.abort();
  // biome-ignore lint/suspicious/noExplicitAny: each test knows which reply it reads
  return { status: response.status, body: (text.startsWith("{") ? JSON.parse(text) : {}) as any };
}

/** By the last part of the subject: which users may send it in the pool `web`. */
const verbs: [verb: string, may: Name[]][] = [
  ["lease", [...admins, ...workers]],
  ["renew", [...admins, ...workers]],
  ["release", [...admins, ...workers]],
  ["cancel", [...admins, ...workers]],
  ["report", [...admins, ...workers]],
  ["token.get", [...admins, ...workers]],
  ["token.reject", [...admins, ...workers]],
  ["leases.list", everybody],
  ["pool.get", everybody],
  ["pool.stats", everybody],
  ["proxies.list", [...admins, ...viewers]],
  ["proxies.get", [...admins, ...viewers]],
  ["audit.proxies", [...admins, ...viewers]],
  ["audit.explain", [...admins, ...viewers]],
  ["proxies.add", admins],
  ["proxies.retire", admins],
  ["proxies.rest", admins],
  ["proxies.revive", admins],
  ["pool.open", admins],
  ["pool.policy", admins],
  ["sources.list", admins],
  ["sources.put", admins],
  ["sources.remove", admins],
  ["sources.read", admins],
  ["proxies.export", []],
];

describe("over NATS", () => {
  /** Whether the server lets the user publish there. The body is refused, so nothing changes. */
  async function mayPublish(name: string, subject: string): Promise<boolean> {
    const connection = nats.get(name);
    if (connection === undefined) throw new Error(name);
    const before = connection.errors.length;
    connection.publish(subject, "not json", { reply: `${connection.inbox}.x` });
    await connection.flush();
    return !connection.errors.slice(before).join().includes(`Permissions Violation for Publish to "${subject}"`);
  }

  test.each(verbs)("%s may be sent by the right roles alone, in their pools alone", async (verb, may) => {
    const allowed = async (pool: string): Promise<string[]> => {
      const each = names.map(async (name) => ((await mayPublish(name, `remuda.${verb}.${pool}`)) ? [name] : []));
      return (await Promise.all(each)).flat();
    };
    expect(await allowed("web")).toEqual(names.filter((name) => may.includes(name)));
    const notScoped = names.filter((name) => may.includes(name) && !users[name].includes("--pool"));
    expect(await allowed("default")).toEqual(notScoped);
  });

  test("outcomes may be published by workers and administrators, in their pools alone", async () => {
    const allowed = async (pool: string): Promise<string[]> => {
      const each = names.map(async (name) => ((await mayPublish(name, `remuda.outcome.${pool}`)) ? [name] : []));
      return (await Promise.all(each)).flat();
    };
    expect(await allowed("shop")).toEqual(["ada", "bob", "ben"]);
    expect(await allowed("default")).toEqual(["ada", "bob"]);
  });

  test("no role reaches JetStream, the ledger, other inboxes or the subjects of services", async () => {
    for (const name of names)
      for (const subject of [
        "remuda.ledger.web",
        "remuda.leader.web",
        "remuda.token.take.web",
        "remuda.token.result.web",
        "$JS.API.STREAM.INFO.REMUDA_OUTCOMES",
        "$JS.API.INFO",
        "$KV.remuda-secrets.web.x",
        "_INBOX.operator.x",
      ])
        expect([name, subject, await mayPublish(name, subject)]).toEqual([name, subject, false]);
  });
});

/** By route: which users may use it in the pool `web`. */
const routes: [line: string, may: Name[]][] = [
  ["POST /v1/pools/web/leases", [...admins, ...workers]],
  ["POST /v1/pools/web/leases/l_none/renew", [...admins, ...workers]],
  ["DELETE /v1/pools/web/leases/l_none", [...admins, ...workers]],
  ["DELETE /v1/pools/web/requests/no-request-waits-here", [...admins, ...workers]],
  ["POST /v1/pools/web/outcomes", [...admins, ...workers]],
  ["POST /v1/pools/web/token/reject", [...admins, ...workers]],
  ["GET /v1/pools/web/leases", everybody],
  ["GET /v1/pools/web", everybody],
  ["GET /v1/pools/web/stats", everybody],
  ["GET /v1/pools/web/proxies", [...admins, ...viewers]],
  ["GET /v1/pools/web/proxies/p_none", [...admins, ...viewers]],
  ["GET /v1/pools/web/proxies?at=1", [...admins, ...viewers]],
  ["GET /v1/pools/web/explain?at=1", [...admins, ...viewers]],
  ["GET /v1/pools/web/events", [...admins, ...viewers]],
  ["POST /v1/pools/web/proxies", admins],
  ["DELETE /v1/pools/web/proxies/p_none", admins],
  ["POST /v1/pools/web/proxies/p_none/rest", admins],
  ["POST /v1/pools/web/proxies/p_none/revive", admins],
  ["PUT /v1/pools/web", admins],
  ["PATCH /v1/pools/web", admins],
  ["GET /v1/pools/web/sources", admins],
  ["PUT /v1/pools/web/sources/far", admins],
  ["POST /v1/pools/web/sources/far/read", admins],
  ["DELETE /v1/pools/web/sources/far", admins],
];

describe("over HTTP", () => {
  test.each(routes)("%s is for the right roles alone, in their pools alone", async (line, may) => {
    for (const name of names) {
      const { status, body } = await call(line, name);
      expect([name, body.code === "forbidden"]).toEqual([name, !may.includes(name)]);
      if (!may.includes(name)) expect([status, body.message]).toEqual([403, expect.stringMatching(/needs the role /)]);
      const elsewhere = await call(line.replace("/web", "/elsewhere"), name);
      expect([name, elsewhere.body.code === "forbidden"]).toEqual([
        name,
        !may.includes(name) || users[name].includes("--pool"),
      ]);
    }
    const { status, body } = await call(line);
    expect([status, body.code]).toEqual([401, "invalid-request"]);
  });

  test("says which role is needed, and in which pools the user has its own", async () => {
    expect((await call("POST /v1/pools/web/proxies", "bob")).body).toEqual({
      code: "forbidden",
      message: "This needs the role admin. bob has the role worker.",
    });
    expect((await call("GET /v1/pools/default/stats", "ben")).body).toEqual({
      code: "forbidden",
      message: "ben has the role worker in the pools web, shop alone, not in default.",
    });
  });

  test("metrics and readiness are for administrators, viewers and metrics", async () => {
    for (const line of ["GET /metrics", "GET /readyz"])
      for (const name of names) {
        const { status } = await call(line, name);
        expect([line, name, status]).toEqual([line, name, workers.includes(name) ? 403 : 200]);
      }
    expect((await call("GET /readyz", "max")).body.pools).toEqual(expect.arrayContaining(["default", "shop", "web"]));
    expect((await call("GET /readyz", "vic")).body.pools).toEqual(["web"]);
  });

  test("the logins client and operator are a worker and an administrator; the auditor has no key", async () => {
    expect((await call("POST /v1/pools/web/proxies", "client", "192.0.2.9:80")).status).toBe(403);
    expect((await call("POST /v1/pools/shop/leases", "client")).status).toBe(201);
    expect((await call("POST /v1/pools/web/proxies", "operator", "192.0.2.9:80")).status).toBe(200);
    expect(keyOf("auditor")).toBe("");
  });

  test("asks for a key on loopback when REMUDA_HTTP_KEYS says so, but not for the liveness check", async () => {
    expect((await call("GET /v1/pools")).status).toBe(401);
    expect((await call("GET /livez")).status).toBe(200);
  });
});

describe("a browser's session", () => {
  const proxies = "/v1/pools/shop/proxies";
  const sent = (line: string, headers: Record<string, string>, body?: object) =>
    callerOf(remuda.httpUrl ?? "")(line, body, headers);
  const logIn = async (name: string): Promise<string> => {
    const { status, headers } = await sent("POST /v1/login", {}, { key: keyOf(name) });
    expect(status).toBe(200);
    return headers["set-cookie"]?.[0]?.split(";")[0] ?? "";
  };
  /** The name and the value of a cookie as the service would make it. */
  const forged = (name: string, until: number, signingKey: string): string => {
    const claim = `${Buffer.from(name).toString("base64url")}.${until}`;
    const signature = createHmac("sha256", signingKey).update(`remuda session ${claim}`).digest("base64url");
    return `remuda-session-${new URL(remuda.httpUrl ?? "").port}=${claim}.${signature}`;
  };
  const hashOf = (name: string): string => createHash("sha256").update(keyOf(name)).digest("hex");
  const signingKeyOf = (name: string): string => {
    const { password = "" } = usersIn(dataDir).find((each) => each.name === "http") ?? {};
    return createHmac("sha256", password).update(hashOf(name)).digest("hex");
  };
  /** Sends changes with this cookie. Each must be refused with this status, and nothing changes. */
  async function changesNothing(status: number, headers: Record<string, string>): Promise<void> {
    const admin = { authorization: `Bearer ${keyOf("operator")}` };
    const before = (await sent(`GET ${proxies}`, admin)).body;
    const id = before.proxies[0].id;
    for (const [line, body] of [
      [`POST ${proxies}/${id}/rest`, { forMs: 60_000 }],
      [`POST ${proxies}`, { proxies: ["192.0.2.77:80"] }],
      [`DELETE ${proxies}/${id}`],
      ["PATCH /v1/pools/shop", { policy: { concurrency: 7 } }],
    ] as const)
      expect([line, (await sent(line, headers, body)).status]).toEqual([line, status]);
    expect((await sent(`GET ${proxies}`, admin)).body).toEqual(before);
  }

  test("begins with a key, in a cookie that scripts and other sites cannot use", async () => {
    const { status, headers, body, text } = await sent("POST /v1/login", {}, { key: keyOf("vic") });
    expect([status, body]).toEqual([200, { user: "vic", role: "viewer", pools: ["web"], until: expect.any(Number) }]);
    const [cookie = "", ...others] = headers["set-cookie"] ?? [];
    expect(others).toEqual([]);
    expect(cookie).toMatch(/^remuda-session-\d+=[\w.-]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=43200$/);
    expect(cookie + text).not.toContain(keyOf("vic"));
    const refused = await sent("POST /v1/login", {}, { key: `${keyOf("vic")}x` });
    expect([refused.status, refused.body.field, refused.headers["set-cookie"]]).toEqual([401, "key", undefined]);
    const behindTls = await sent("POST /v1/login", { origin: (remuda.httpUrl ?? "").replace("http", "https") }, {});
    expect(behindTls.status).toBe(403); // This service speaks no TLS.
  });

  test("has the rights of its user's role", async () => {
    expect((await sent("GET /v1/login", { cookie: await logIn("vera") })).body).toEqual({
      user: "vera",
      role: "viewer",
    });
    expect((await sent(`GET ${proxies}`, { cookie: await logIn("vera") })).status).toBe(200);
    expect((await sent(`GET ${proxies}`, { cookie: await logIn("vic") })).status).toBe(403);
    await changesNothing(403, { cookie: await logIn("vera") });
    const cookie = await logIn("ada");
    const added = await sent(
      `POST ${proxies}`,
      { cookie, origin: remuda.httpUrl ?? "" },
      { proxies: ["192.0.2.78:80"] },
    );
    expect([added.status, added.body.added]).toEqual([200, 1]);
  });

  test("changes nothing for a foreign origin, expired, forged, or after its user has another key", async () => {
    const cookie = await logIn("ada");
    for (const foreign of [
      { origin: "http://evil.example" },
      { origin: "http://127.0.0.1:1" },
      { "sec-fetch-site": "same-site" },
      { "sec-fetch-site": "cross-site" },
    ])
      await changesNothing(403, { cookie, ...foreign });
    const soon = Date.now() + 60_000;
    expect((await sent("GET /v1/pools", { cookie: forged("ada", soon, signingKeyOf("ada")) })).status).toBe(200);
    await changesNothing(401, { cookie: forged("ada", Date.now() - 1, signingKeyOf("ada")) });
    await changesNothing(401, { cookie: forged("ada", soon, signingKeyOf("vera")) });
    // The gateway's users file has it, too.
    await changesNothing(401, { cookie: forged("ada", soon, hashOf("ada")) });
    await changesNothing(401, { cookie: forged("zoe", soon, "") });
    await changesNothing(401, { cookie: `${cookie}x` });
    await changesNothing(401, { cookie, authorization: "Bearer nonsense" });
    await runCommand(["user", "add", "ida", "--role", "admin"], { dataDir });
    const before = await logIn("ida");
    await runCommand(["user", "rotate", "ida"], { dataDir });
    await changesNothing(401, { cookie: before });
  });

  test("is forgotten on logging out, and the page itself needs none", async () => {
    const { status, headers } = await sent("DELETE /v1/login", {});
    expect([status, headers["set-cookie"]?.[0]]).toEqual([
      200,
      expect.stringContaining("=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"),
    ]);
    for (const path of ["/", "/?view=pool&pool=web", "/web/app.js", "/web/modules/preact.js"]) {
      const { status, headers } = await sent(`GET ${path}`, {});
      const policy = expect.stringMatching(/^default-src 'none'; script-src 'self' 'sha256-[\w+/=]{44}'; /);
      expect([path, status, headers["content-security-policy"]]).toEqual([path, 200, policy]);
      expect((await sent(`GET ${path}`, { "if-none-match": headers.etag ?? "" })).status).toBe(304);
    }
    for (const path of ["/web/", "/web/tsconfig.json", "/web/modules/", "/web/none.js"])
      expect([path, (await sent(`GET ${path}`, {})).status]).toEqual([path, 404]);
    expect((await sent("GET /web/%2e%2e/package.json", {})).status).toBe(401);
  });
});

test("a follower of events is cut off when its user is removed", { timeout: 40_000 }, async () => {
  await runCommand(["user", "add", "eve", "--role", "viewer"], { dataDir });
  const headers = { authorization: `Bearer ${keyOf("eve")}` };
  const followed = await fetch(`${remuda.httpUrl}/v1/pools/web/events`, { headers });
  expect(followed.status).toBe(200);
  await runCommand(["user", "remove", "eve"], { dataDir });
  const removedAt = performance.now();
  expect(await followed.text()).toMatch(/^retry: /); // It ends.
  expect(performance.now() - removedAt).toBeLessThan(8000); // Before the next comment is sent.
});

test("`user list` shows roles and pools, and `user rotate` gives new secrets", async () => {
  const { stdout } = await runCommand(["user", "list"], { dataDir });
  for (const line of [/^ben +worker +web, shop$/m, /^vera +viewer +all$/m, /^client +worker +all$/m])
    expect(stdout).toMatch(line);
  const before = remuda.natsUrlAs("max");
  const key = keyOf("max");
  expect((await runCommand(["user", "rotate", "max"], { dataDir })).stdout).toContain(
    `REMUDA_HTTP_KEY=${keyOf("max")}`,
  );
  expect(keyOf("max")).not.toBe(key);
  await expect(connectRaw(before)).rejects.toMatchObject({ message: "Authorization Violation" });
  await (await connectRaw(remuda.natsUrlAs("max"))).close();
  expect((await runCommand(["user", "rotate", "ledger"], { dataDir })).stderr).toContain("login of the installation");
  expect((await runCommand(["user", "rotate", "noone"], { dataDir })).stderr).toContain("There is no user noone");
});

test.each([
  [["--role", "king"], "Allowed choices are admin, worker, viewer, metrics"],
  [["--pool", "No Name"], "It must be lower-case letters"],
])("`user add` refuses %s", async (options, message) => {
  expect(await runCommand(["user", "add", "zoe", ...options], { dataDir })).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(message),
  });
});
