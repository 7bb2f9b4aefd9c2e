// The command line covers the worker's part of the protocol: each field of a request has an option or an argument, and
// arrives under its name.
import { Command } from "commander";
import { expect, test, vi } from "vitest";
import { addExec } from "../../cli/exec.ts";
import { addLeases } from "../../cli/leases.ts";
import { addProxies } from "../../cli/proxies.ts";
import { proxyVariables } from "../../cli/proxy-variables.ts";
import {
  type LeaseReply,
  leaseRequestSchema,
  leasesListRequestSchema,
  releaseRequestSchema,
  renewRequestSchema,
} from "../../protocol/lease.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import { listRequestSchema } from "../../protocol/proxy.ts";

const leaseId = "l_aaaaaaaaaaaaaaaaaaaaaaaa";
const proxyId = "p_aaaaaaaaaaaaaaaa";
const requestId = "5f0f4b9e-2a53-4c07-9c39-6c1f4b1f6a10";

/** The request that the command line would send. */
async function sent(line: string): Promise<{ verb: string; body: object }> {
  let request: { verb: string; body: object } | undefined;
  const asking = (verb: string, body: object): Promise<never> => {
    request = { verb, body };
    return Promise.reject(new Error("no service answers"));
  };
  const program = new Command("remuda").exitOverride().enablePositionalOptions();
  for (const add of [addLeases, addProxies, addExec]) add(program, (_asked, use) => use(asking));
  await expect(program.parseAsync(line.split(" "), { from: "user" })).rejects.toThrow("no service answers");
  if (request === undefined) throw new Error("nothing was sent");
  return request;
}

const request =
  `--uses 3 --min-uses 2 --ttl 90s --wait 5s --label country=DE --scheme http --exclude ${proxyId} --session s ` +
  `--holder h --request-id ${requestId} --proxy-id ${proxyId} --target https://example.com/a --token`;
const requested = {
  ...{ uses: 3, minUses: 2, ttlMs: 90_000, waitMs: 5000, labels: { country: "DE" }, schemes: ["http"] },
  ...{
    exclude: [proxyId],
    session: "s",
    holder: "h",
    requestId,
    proxyId,
    target: "https://example.com/a",
    token: true,
  },
};
const report =
  `report ${leaseId} --n 2 --result failure --reason blocked --status 403 --error ECONNRESET --latency 1.5s --bytes 10 ` +
  "--target https://example.com/a --retry-after 30s --token-rejected --token-id t_1 --final";
const outcome = {
  ...{
    leaseId,
    n: 2,
    result: "failure",
    reason: "blocked",
    status: 403,
    error: "ECONNRESET",
    latencyMs: 1500,
    bytes: 10,
  },
  ...{ target: "https://example.com/a", retryAfterMs: 30_000, tokenRejected: true, tokenId: "t_1", final: true },
};

test.each([
  [`lease --count 4 ${request}`, "lease", leaseRequestSchema, { count: 4, ...requested }],
  // One command runs through one proxy.
  [`exec ${request} -- true`, "lease", leaseRequestSchema.omit({ count: true }), requested],
  [`renew ${leaseId} --ttl 2m`, "renew", renewRequestSchema, { leaseId, ttlMs: 120_000 }],
  [`release ${leaseId} --used 0`, "release", releaseRequestSchema, { leaseId, used: 0 }],
  [
    `leases --holder h --proxy ${proxyId} --after ${leaseId} --limit 7`,
    "leases.list",
    leasesListRequestSchema,
    { holder: "h", proxyId, after: leaseId, limit: 7 },
  ],
  [
    `proxies list --state cooling --label a=b --text DE --after ${proxyId} --limit 7`,
    "proxies.list",
    listRequestSchema,
    { state: "cooling", labels: { a: "b" }, text: "DE", after: proxyId, limit: 7 },
  ],
])("has an option for every field of the request: %s", async (line, verb, schema, body) => {
  expect(await sent(line)).toEqual({ verb, body });
  expect(Object.keys(body).sort()).toEqual(Object.keys(schema.shape).sort());
  expect(schema.safeParse(body)).toMatchObject({ success: true });
});

test("has an option for every field of an outcome", async () => {
  expect(await sent(report)).toEqual({ verb: "report", body: { outcomes: [outcome] } });
  // A report of a client does not say how its use was counted.
  const { counted: _counted, ...ofClients } = outcomeSchema.shape;
  expect(Object.keys(outcome).sort()).toEqual(Object.keys(ofClients).sort());
});

test("does not send fields that were not given", async () => {
  expect(await sent("lease")).toEqual({ verb: "lease", body: {} });
  expect(await sent(`renew ${leaseId}`)).toEqual({ verb: "renew", body: { leaseId } });
  expect(await sent(`report ${leaseId} --token-rejected`)).toEqual({
    verb: "report",
    body: { outcomes: [{ leaseId, tokenRejected: true }] },
  });
});

const lease: LeaseReply = {
  ...{ leaseId, pool: "default", proxyId, url: "http://192.0.2.1:80", scheme: "http", host: "192.0.2.1", port: 80 },
  ...{ uses: 1, epoch: 0, grantedAt: 1, expiresAt: 2, leftMs: 1, labels: {} },
};

test("passes a command the token of its lease, and no inherited one", () => {
  const token = { tokenId: "t_1", value: "v", mintedAt: 1 };
  expect(proxyVariables({ ...lease, token })).toMatchObject({ REMUDA_TOKEN: "v", REMUDA_TOKEN_ID: "t_1" });
  const without = proxyVariables(lease);
  expect(Object.keys(without)).toEqual(expect.arrayContaining(["REMUDA_TOKEN", "REMUDA_TOKEN_ID"]));
  expect([without["REMUDA_TOKEN"], without["REMUDA_TOKEN_ID"]]).toEqual([undefined, undefined]);
});

test("shows a lease with its token, if one was requested", async () => {
  const shown: string[] = [];
  const write = vi.spyOn(process.stdout, "write").mockImplementation((text) => shown.push(String(text)) > 0);
  const program = new Command("remuda").exitOverride();
  const answer = { ...lease, token: { tokenId: "t_1", value: "guest-1", mintedAt: 1 } };
  addLeases(program, (_asked, use) => use(async <T>() => answer as T)); // For any request.
  await program.parseAsync(["lease", "--token"], { from: "user" });
  write.mockRestore();
  expect(shown.join("")).toMatch(/^token +guest-1$/m);
});
