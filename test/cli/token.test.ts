// `remuda token`: getting, rejecting, and a history that explains each refresh and each rejection that led to none.
import { afterAll, beforeAll, expect, test } from "vitest";
import { Teller } from "../../cli/token.ts";
import { runCommand } from "../kit/command.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type GuestSite, startGuestSite } from "../kit/guest-site.ts";
import { eventually } from "../kit/poll.ts";
import type { RemudaProcess } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { serviceForAll } from "../kit/service.ts";

let dataDir: string;
let service: RemudaProcess;
let site: GuestSite;
let proxy: ForwardProxy;

serviceForAll((started) => {
  ({ dataDir, service } = started);
});

beforeAll(async () => {
  site = await startGuestSite();
  proxy = await startForwardProxy({ exit: "127.0.0.71" });
  const nats = await connectRaw(service.natsUrl);
  const source = { url: `${site.url}/guest`, value: { jsonPointer: "/guest_token" } };
  const token = {
    scope: "pool",
    minAgeMs: 400,
    source,
    unavailableAfter: 1,
    retry: { baseMs: 60_000, jitterShare: 0 },
  };
  await nats.request("remuda.pool.policy.default", JSON.stringify({ policy: { token } }));
  await nats.request("remuda.proxies.add.default", JSON.stringify({ proxies: [proxy.url] }));
  await nats.close();
});

afterAll(async () => {
  await Promise.all([site?.stop(), proxy?.stop()]);
});

const run = (...args: string[]) => runCommand(["token", ...args], { dataDir, env: {} });

test("history explains a requested refresh, a kept, an ignored and an accepted rejection, and a failed refresh", async () => {
  const got = await run("get", "--json");
  expect(got.code).toBe(0);
  const { tokenId, value } = JSON.parse(got.stdout) as { tokenId: string; value: string };
  expect(value).toBe("secret-guest-1");
  expect((await run("reject", "t_nobody00000000000000000")).stdout).toContain("ignored");
  await eventually(
    async () => expect(JSON.parse((await run("reject", tokenId, "--json")).stdout).action).toBe("refreshing"),
    { timeoutMs: 20_000 },
  );
  await eventually(() => expect(site.minted).toHaveLength(2));
  site.answer = (response) => {
    response.statusCode = 403;
    response.end();
  };
  const second = JSON.parse((await run("get", "--json")).stdout) as { tokenId: string };
  await eventually(
    async () => expect(JSON.parse((await run("reject", second.tokenId, "--json")).stdout).action).toBe("refreshing"),
    { timeoutMs: 20_000 },
  );
  const refused = await eventually(async () => {
    const answer = await run("get", "--wait", "10ms");
    expect(answer.stderr).toContain("token-unavailable");
    return answer;
  });
  expect(refused.code).toBe(1);
  const { stdout, code } = await eventually(async () => {
    const told = await run("history");
    expect(told.stdout).toContain("failed: ");
    return told;
  });
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /Refresh t_\S+ of the pool's token began through p_\S+, because a token was requested and there was none; its deadline is 15 s later\./,
  );
  expect(stdout).toMatch(/brought the pool's token after \S+ s, with no end known\./);
  expect(stdout).toContain("led to no refresh: it is not the current token.");
  expect(stdout).toMatch(
    new RegExp(`Token ${tokenId} was rejected \\d\\S* s after it was minted: the pool's token is fetched again`),
  );
  expect(stdout).toContain("because the previous token was rejected");
  expect(stdout).toContain("failed: the source answered 403; failure 1 in a row, next refresh not before");
  expect(stdout).toContain("the token is unavailable until then");
  expect(stdout).not.toContain("secret-guest");
  const lines = (await run("history", "--json")).stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines).toHaveLength(stdout.trim().split("\n").length);
  expect(lines[0]).toMatchObject({
    n: expect.any(Number),
    sequence: expect.any(Number),
    type: "TokenRequested",
    says: expect.any(String),
  });
});

test("summarises a kept rejection, and many after the first", () => {
  const teller = new Teller();
  const at = 1_000_000;
  const events = [
    {
      type: "TokenRejected",
      tokenId: "t_a",
      token: "fresh",
      action: "kept",
      count: 3,
      mintedAt: at - 12_000,
      keptUntil: at + 108_000,
    },
    { type: "TokenRejected", tokenId: "t_a", token: "refreshing", action: "refreshing", count: 499 },
  ];
  expect(teller.tell({ at, events }).map(({ says }) => says)).toEqual([
    "3 rejections of t_a led to no refresh: it was minted 12 s earlier, and is kept until 1970-01-01T00:18:28.000Z.",
    "499 rejections of t_a led to no refresh of its own: the token was already rejected, and one refresh is enough.",
  ]);
});

test("shows neither a lost value nor the following refresh as a rejection", () => {
  const teller = new Teller();
  const lost = { type: "TokenRejected", tokenId: "t_a", token: "stale", action: "refreshing", why: "value-lost" };
  const requested = { type: "TokenRequested", leaseId: "l", deadlineAt: 15_000, token: "refreshing", scope: "pool" };
  const events = [
    lost,
    { ...requested, tokenId: "t_b", why: "rejected" },
    { type: "TokenMinted", tokenId: "t_b", token: "fresh", mintedAt: 0 },
    { ...requested, tokenId: "t_c", why: "rejected" },
  ];
  expect(teller.tell({ at: 0, events }).map(({ says }) => says)).toEqual([
    "The leader that took over found no value of token t_a in the bucket: the pool's token is fetched again.",
    "Refresh t_b of the pool's token began, because the value of the previous token was lost; its deadline is 15 s later.",
    "Refresh t_b brought the pool's token at once, with no end known.",
    "Refresh t_c of the pool's token began, because the previous token was rejected; its deadline is 15 s later.",
  ]);
});
