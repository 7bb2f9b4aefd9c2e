// A worker's ride: one request and its result. Workers are prompt or slow, die with a lease, repeat themselves, and
// report late, twice, out of order, without a number, or never. All keep the one assumption of the promise. No request
// leaves after the end that the worker was given, counted from its lease request. None reaches the target later than
// the transit allows after it left or failed.
import type { LeaseReply } from "../../protocol/lease.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import type { Seeded } from "../kit/seed.ts";
import type { Observer } from "./observer.ts";
import { leasesIn, type SimService, type SimVerb } from "./service.ts";
import type { Physics } from "./setting.ts";
import type { World } from "./world.ts";

const patienceMs = 2500;

const seenKinds: Record<string, object> = {
  success: { status: 200 },
  unreachable: { error: "ECONNREFUSED" },
  timeout: { reason: "timeout" },
  "proxy-auth": { status: 407 },
  "proxy-error": { reason: "proxy-error" },
  blocked: { status: 403 },
  throttled: { status: 429 },
  "target-error": { status: 503 },
  "client-abort": { reason: "client-abort" },
};

export interface Worker {
  world: World;
  service: SimService;
  observer: Observer;
  physics: Physics;
  chance: Seeded;
  /** Random numbers for tokens. */
  tokens: Seeded;
  /** Random numbers for `count`. */
  counts: Seeded;
  /** The first policy has tokens. */
  hasTokens: boolean;
}

/** @returns the answer, or undefined if it did not arrive in time. */
export function ask(worker: Worker, verb: SimVerb, body: object): Promise<Record<string, unknown> | undefined> {
  const { world, service, chance } = worker;
  const isLost = chance.chance(service.answersLost);
  return new Promise((resolve) => {
    const giveUp = world.after(patienceMs, () => resolve(undefined));
    const luck = chance.next();
    const [there, back] = [chance.int(0, 5), chance.int(0, 5)];
    world.after(there, () =>
      service.request(verb, body, {
        luck,
        respond: (answer) => {
          if (isLost) return;
          world.after(back, () => {
            giveUp();
            resolve(answer as Record<string, unknown>);
          });
        },
      }),
    );
  });
}

export async function ride(worker: Worker, step: number): Promise<void> {
  const { world, observer, chance } = worker;
  const request = drawRequest(worker, step);
  for (let tries = chance.int(2, 5); tries > 0; tries--) {
    const sentAt = world.now;
    const asked = ask(worker, "lease", request);
    if (chance.chance(0.04)) void ask(worker, "lease", chance.chance(0.7) ? request : { ...request, ttlMs: 77 });
    // The client hangs up. A lease, if any, runs out. A waiting lease request is cancelled if it has a name.
    if (chance.chance(0.03)) {
      if (request["requestId"] === undefined || chance.chance(0.3)) return;
      const cancelled = await ask(worker, "cancel", { requestId: request["requestId"] });
      if (cancelled?.["cancelled"] === true) observer.court.saw("wait: cancelled");
      return;
    }
    const answer = await asked;
    if (answer === undefined) {
      observer.court.saw("silence");
      await world.sleep(chance.int(10, 300));
    } else if (isRefusal(answer)) {
      if (!["pool-exhausted", "token-unavailable", "overloaded", "unavailable", "unknown-pool"].includes(answer.code))
        return;
      const pause = chance.chance(0.5) ? (answer.retryAfterMs ?? 200) : chance.int(5, 400);
      await world.sleep(Math.min(pause, 1500) + chance.int(0, 3));
    } else {
      const leases = leasesIn(answer);
      if (leases.length > 1) observer.court.saw("lease: several at once");
      await Promise.all(leases.map((lease) => use(worker, lease, sentAt + lease.leftMs)));
      return;
    }
  }
}

const targets = ["https://shop.example/a?b=c", "news.example"];

function drawRequest(
  { chance, tokens, counts, hasTokens, physics: { holders, sessions } }: Worker,
  step: number,
): Record<string, unknown> {
  const uses = chance.chance(0.6) ? 1 : chance.int(2, 6);
  return {
    ...(chance.chance(0.9) ? { requestId: `request-${step}-0123456789ab` } : {}),
    uses,
    ...(uses > 1 && chance.chance(0.4) ? { minUses: chance.int(1, uses) } : {}),
    waitMs: chance.chance(0.4) ? 0 : chance.int(1, 2000),
    ...(chance.chance(0.8) ? { ttlMs: chance.int(50, 900) } : {}),
    ...(chance.chance(0.15) ? { labels: { kind: chance.pick(["a", "b", "a", "b", "c"]) } } : {}),
    ...(chance.chance(0.08) ? { schemes: [chance.pick(["http", "socks5", "socks4"])] } : {}),
    ...(chance.chance(holders) ? { holder: `holder-${chance.int(1, 3)}` } : {}),
    ...(chance.chance(sessions) ? { session: `session-${chance.int(1, 4)}` } : {}),
    ...(chance.chance(0.3) ? { target: chance.pick(targets) } : {}),
    ...(chance.chance(0.005) ? { token: true } : {}),
    ...(chance.chance(0.005) ? { uses: 1_000_000 } : {}),
    ...(hasTokens && tokens.chance(0.5) ? { token: true } : {}),
    ...(counts.chance(0.1) ? { count: counts.int(1, 4) } : {}),
  };
}

async function use(worker: Worker, lease: LeaseReply, until: number): Promise<void> {
  const { world, chance } = worker;
  let deadline = until;
  const diesAfter = chance.chance(0.1) ? chance.int(0, lease.uses) : Infinity;
  const isSlow = chance.chance(0.3);
  const reports: (() => Promise<void>)[] = [];
  const inAnotherOrder = chance.chance(0.1);
  const { leaseId, uses } = lease;
  for (let n = 1; n <= uses; n++) {
    await world.sleep(isSlow ? chance.int(0, 500) : chance.int(0, 30));
    if (chance.chance(0.04)) {
      const sentAt = world.now;
      const renewed = await ask(worker, "renew", { leaseId, ttlMs: chance.int(50, 1500) });
      if (renewed !== undefined && !isRefusal(renewed))
        deadline = Math.max(deadline, sentAt + Number(renewed["leftMs"]));
    }
    if (world.now > deadline || n > diesAfter) return; // It stops by its own clock, or dies. The lease runs out.
    if (chance.chance(0.05)) return giveBack(worker, lease, n - 1);
    const final = chance.chance(0.03);
    const report = await request(worker, lease, { n, deadline, final });
    if (inAnotherOrder) reports.unshift(report);
    else await report();
    if (final) break;
  }
  for (const report of reports) await report();
  if (chance.chance(0.3)) await giveBack(worker, lease, uses);
  if (chance.chance(0.01)) await send(worker, { leaseId, n: uses + chance.int(1, 3) }, "success");
}

async function giveBack(worker: Worker, { leaseId, uses }: LeaseReply, used: number): Promise<void> {
  const { chance } = worker;
  if (chance.chance(0.05)) await ask(worker, "release", { leaseId, used: uses + 1 });
  await ask(worker, "release", used === uses && chance.chance(0.5) ? { leaseId } : { leaseId, used });
}

/** Makes one request through the proxy. @returns a function that sends its report. */
async function request(
  worker: Worker,
  { leaseId, uses, token }: LeaseReply,
  use: { n: number; deadline: number; final: boolean },
): Promise<() => Promise<void>> {
  const { world, observer, physics, chance } = worker;
  const { transitMs } = physics;
  const drawn = chance.pick(["success", "success", "success", "success", ...Object.keys(seenKinds)]);
  const rejection = drawRejection(worker, token?.tokenId);
  const kind = rejection === undefined ? drawn : "success";
  const latency = Math.min(transitMs, chance.chance(0.15) ? chance.int(0, 400) : chance.int(0, 20));
  const mayBeLate = ["unreachable", "timeout", "client-abort"].includes(kind);
  if (mayBeLate) {
    // Given up on the way. It may still arrive within the transit.
    await world.sleep(Math.min(latency, Math.max(0, use.deadline - world.now)));
    if (chance.chance(0.6)) world.after(chance.int(0, transitMs), () => observer.arrived(leaseId));
  } else {
    await world.sleep(latency);
    observer.arrived(leaseId);
  }
  const silent = chance.chance(0.08);
  const pauseMs = chance.chance(0.1) ? chance.int(100, 3000) : chance.int(0, 20);
  const named = uses > 1 || chance.chance(0.8);
  return async () => {
    if (silent) return;
    await world.sleep(pauseMs);
    if (chance.chance(0.02)) await send(worker, { leaseId }, kind, { known: uses === 1 });
    await send(
      worker,
      { leaseId, ...(named ? { n: use.n } : {}), ...(use.final ? { final: true } : {}), ...rejection },
      kind,
    );
    // It contradicts its first report. But a request that has not arrived yet has no status to report.
    if (chance.chance(0.02)) await send(worker, { leaseId, n: use.n }, mayBeLate ? "client-abort" : "blocked");
  };
}

/** Reports that the target rejected the lease's token, or another token that the worker knows. */
function drawRejection({ tokens, hasTokens, observer }: Worker, given: string | undefined): object | undefined {
  if (!hasTokens || !tokens.chance(given === undefined ? 0.03 : 0.2)) return undefined;
  const tokenId = tokens.chance(0.5) ? given : someToken(tokens, observer.court.book.tokens.minted);
  return { tokenRejected: true, ...(tokenId === undefined ? {} : { tokenId }) };
}

/** The id of the current token, of an old one, or of one that never existed. */
export function someToken(chance: Seeded, minted: readonly string[]): string {
  const unknown = `t_${"0".repeat(22)}`;
  const last = minted.at(-1) ?? unknown;
  return chance.pick([last, last, minted.length === 0 ? unknown : chance.pick(minted), unknown]);
}

async function send(
  worker: Worker,
  outcome: { leaseId: string; n?: number },
  kind: string,
  { known = true } = {},
): Promise<void> {
  const { world, service, observer, chance } = worker;
  const throttled = kind === "throttled" && chance.chance(0.6) ? { retryAfterMs: chance.int(1, 4000) } : {};
  // Not random, so that it does not change the other reports of a run.
  const bytes = (outcome.leaseId.charCodeAt(5) * 37 + (outcome.n ?? 1) * 211) % 1000;
  const seen = { ...outcome, ...seenKinds[kind], ...throttled, bytes, target: "https://shop.example/a?b=c" };
  if (known) observer.sent.add(outcome.leaseId, outcome.n ?? 1, kind);
  if (chance.chance(0.4)) return void (await ask(worker, "report", { outcomes: [seen] }));
  const copies = chance.chance(0.2) ? [seen, seen] : seen;
  const again = chance.chance(0.1) ? chance.int(0, 500) : undefined;
  const publish = (body: unknown): void => {
    // The worker retries while the broker is away. A worker that dies meanwhile never reports.
    if (!service.broker.publish(Buffer.from(JSON.stringify(body)))) world.after(300, () => publish(body));
  };
  world.after(chance.int(0, 10), () => publish(copies));
  if (again !== undefined) world.after(again, () => publish(seen));
}
