// 500 workers in four processes against a site that invalidates its guest tokens at random moments, while leaders and
// executors are killed. Each invalidation leads to one minted token. Two tokens are never fetched at once. A request
// that arrives after a rejection was recorded never gets the rejected token.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CommitEnvelope } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { startTestBroker } from "../kit/broker.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type GuestSite, startGuestSite } from "../kit/guest-site.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

const processes = 4;
const workersEach = 125;
/** Of a worker between two requests, on average. */
const pauseMs = 3000;
const minAgeMs = 400;
/**
 * The time after which the refresh of a killed executor is given up. On a busy machine a request through a proxy takes
 * a second.
 */
const deadlineMs = 5000;
const pool = "guests";

let broker: Awaited<ReturnType<typeof startTestBroker>>;
let nats: RawNats;
let folder: string;
let site: GuestSite;
let proxies: ForwardProxy[] = [];
let workers: ChildProcess[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connectRaw(broker.url);
  folder = mkdtempSync(join(tmpdir(), "remuda-guests-"));
  site = await startGuestSite();
  proxies = await Promise.all([11, 12, 13, 14].map((n) => startForwardProxy({ exit: `127.0.0.${n}` })));
}, 180_000);

afterAll(async () => {
  for (const worker of workers) worker.kill("SIGKILL");
  await nats?.close();
  await stopAllRemudas();
  await broker?.stop();
  await Promise.all([site, ...proxies].map((each) => each?.stop()));
  rmSync(folder, { recursive: true, force: true });
});

const start = (service: string): Promise<RemudaProcess> =>
  startRemuda({ dataDir: folder, args: ["run", service], env: { REMUDA_NATS_URL: broker.url } });

async function ask<T>(subject: string, body: object = {}): Promise<T> {
  return (await nats.request(subject, JSON.stringify(body), { timeoutMs: 10_000 })).json<T>();
}

function startWorkers(): { child: ChildProcess; result: Promise<Seen> } {
  const path = fileURLToPath(new URL("guest-token-worker.ts", import.meta.url));
  const args = [path, broker.url, pool, site.url, String(workersEach), String(pauseMs)];
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  let text = "";
  child.stdout?.on("data", (chunk) => {
    text += chunk;
  });
  const result = new Promise<Seen>((resolve, reject) => {
    child.once("close", () => (text === "" ? reject(new Error("a worker said nothing")) : resolve(JSON.parse(text))));
  });
  result.catch(() => {}); // If the test fails earlier, the workers are killed, and nothing awaits this promise.
  return { child, result };
}

interface Seen {
  requests: number;
  taken: number;
  rejected: { tokenId: string; grantedAt: number }[];
  others: number[];
  failed: string[];
  longestMs: number;
  answeredLast: number;
}

const mintedNow = async (count: number): Promise<void> => {
  await eventually(() => expect(site.minted.length).toBeGreaterThanOrEqual(count), { timeoutMs: 40_000, everyMs: 10 });
};

test("500 workers in four processes, tokens invalidated at random, leaders and executors killed", async () => {
  let leader = await start("picker");
  const source = { url: `${site.url}/guest`, value: { jsonPointer: "/guest_token" }, timeoutMs: 4500 };
  const retry = { baseMs: 100, maxMs: 1000 };
  await ask(`remuda.pool.open.${pool}`, {
    policy: {
      rate: null,
      usage: null,
      concurrency: null,
      waiting: { max: 10_000 },
      token: { scope: "pool", minAgeMs, deadlineMs, retry, source },
    },
  });
  await ask(`remuda.proxies.add.${pool}`, { proxies: proxies.map(({ url }) => url) });
  let [standby, ...executors] = await Promise.all([start("picker"), start("guest-token"), start("guest-token")]);
  site.delayMs = 60;
  const running = Array.from({ length: processes }, startWorkers);
  workers = running.map(({ child }) => child);
  await mintedNow(1);
  await eventually(() => expect(site.taken).toBeGreaterThan(processes * workersEach), { timeoutMs: 60_000 });

  let invalidations = 0;
  /** At a random moment after the current token has become old enough for a rejection to count. */
  const invalidate = async (): Promise<number> => {
    const { mintedAt } = await eventually(
      async () => {
        const token = await ask<{ value: string; mintedAt: number }>(`remuda.token.get.${pool}`, { waitMs: 5000 });
        // Not always the last token that the site gave: a request that was given up may reach it afterwards.
        expect(site.knows(token.value), `the site knows ${token.value}`).toBe(true);
        return token;
      },
      { timeoutMs: 40_000 },
    );
    await sleep(Math.max(0, mintedAt + minAgeMs + 20 - Date.now()) + Math.random() * 500);
    const before = site.minted.length;
    site.invalidate();
    invalidations++;
    return before;
  };
  for (let i = 0; i < 4; i++) await mintedNow((await invalidate()) + 1);
  // Kills the leader while a token is being fetched.
  site.delayMs = 300;
  let before = await invalidate();
  await eventually(() => expect(site.fetching).toBe(1), { everyMs: 5 });
  await leader.kill9();
  await mintedNow(before + 1);
  [leader, standby] = [standby, await start("picker")];
  await mintedNow((await invalidate()) + 1);
  // Kills the executor that fetches it.
  before = await invalidate();
  await eventually(() => expect(site.fetching).toBe(1), { everyMs: 5 });
  await Promise.all(executors.map((each) => each.kill9()));
  executors = await Promise.all([start("guest-token"), start("guest-token")]);
  await mintedNow(before + 2); // One token for the killed executor, and the one that the workers get.
  site.delayMs = 60;
  await mintedNow((await invalidate()) + 1);

  // No request waits forever: each worker gets an answer once more, to a request that begins now.
  for (const { child } of running) child.stdin?.end();
  const seen = await Promise.all(running.map(({ result }) => result));

  const commits = await commitsOf(pool);
  const events = commits.flatMap(({ commit }) => commit.events as Event[]);
  const minted = events.filter(({ type }) => type === "TokenMinted").length;
  const requested = events.filter(({ type }) => type === "TokenRequested").length;
  const refused = events.flatMap((event) => (event.type === "TokenRefused" ? [event.why] : []));
  const rejectedAt = new Map<string, number>();
  for (const { commit } of commits)
    for (const event of commit.events as Event[])
      if (event.type === "TokenRejected" && event.count === undefined && event.tokenId !== undefined)
        rejectedAt.set(event.tokenId, commit.at);
  const requests = seen.reduce((sum, each) => sum + each.requests, 0);
  const rejected = seen.flatMap((each) => each.rejected);
  const longestMs = Math.max(...seen.map((each) => each.longestMs));
  console.log({
    invalidations,
    minted,
    requested,
    refused: refused.join(),
    atSite: site.minted.length,
    requests,
    rejected: rejected.length,
    others: seen.flatMap((each) => each.others).join(),
    longestMs,
  });

  expect(site.atOnce, "fetched at the same time").toBe(1);
  expect(minted).toBe(invalidations + 1);
  // Another refresh is begun only after one that failed, and only for want of time: its executor was killed, or the
  // machine was busy.
  expect(requested).toBe(minted + refused.length);
  expect(refused.filter((why) => !["deadline", "timeout", "not-sent"].includes(why))).toEqual([]);
  expect(site.minted.length).toBeLessThanOrEqual(minted + refused.length);
  expect(overlaps(events), "refreshes under way at the same time, by the ledger").toBe(0);
  expect(seen.flatMap((each) => each.others)).toEqual([]);
  expect([...new Set(rejected.map(({ tokenId }) => tokenId))].filter((id) => !rejectedAt.has(id))).toEqual([]);
  for (const { tokenId, grantedAt } of rejected) {
    expect(rejectedAt.get(tokenId), `${tokenId} was given when it had been rejected`).toBeGreaterThanOrEqual(grantedAt);
  }
  expect(seen.flatMap((each) => each.failed)).toEqual([]);
  expect(seen.map(({ answeredLast }) => answeredLast)).toEqual(seen.map(() => workersEach));
  for (const { commit } of commits) expect(JSON.stringify(commit)).not.toContain("secret-guest");
}, 240_000);

function overlaps(events: readonly Event[]): number {
  let open = 0;
  let found = 0;
  for (const { type } of events) {
    if (type === "TokenRequested") found += open++ > 0 ? 1 : 0;
    if (type === "TokenMinted" || type === "TokenRefused") open--;
  }
  return found;
}

async function commitsOf(of: string): Promise<{ commit: CommitEnvelope }[]> {
  const subject = `remuda.ledger.${of}`;
  const found: { commit: CommitEnvelope }[] = [];
  for (let seq = 1; ; ) {
    const body = JSON.stringify({ seq, next_by_subj: subject });
    type Got = { message?: { seq: number; data: string } };
    const { message } = (await nats.request("$JS.API.STREAM.MSG.GET.REMUDA_LEDGER", body)).json<Got>();
    if (message === undefined) return found;
    found.push({ commit: JSON.parse(Buffer.from(message.data, "base64").toString()) });
    seq = message.seq + 1;
  }
}
