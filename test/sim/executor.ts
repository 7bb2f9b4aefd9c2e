// Executors of refreshes. They see in the stored ledger that a refresh was requested, take it from a leader, send one
// request through its lease's proxy, and deliver the result: in time, late, twice or never. Like workers, they
// keep the assumption of the promise: they send nothing after the given end, counted from their request.

import type { TokenRequested, WhyRefused } from "../../events/token.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import { valueOf } from "./check-token.ts";
import { ask, type Worker } from "./ride.ts";

interface Refresh {
  event: TokenRequested;
  executor: string;
  /** The faults have stopped: it acts at once and makes no mistake. */
  calm: boolean;
}

export async function execute(worker: Worker, refresh: Refresh): Promise<void> {
  const { world, observer, physics, chance } = worker;
  const { calm, event } = refresh;
  const { tokenId, leaseId } = event;
  const dies = (share: number): boolean => !calm && chance.chance(share);
  await world.sleep(!calm && chance.chance(0.1) ? chance.int(0, 800) : chance.int(0, 20));
  const taken = await take(worker, refresh);
  if (taken === undefined || dies(0.06)) return;
  const { until } = taken;
  await world.sleep(!calm && chance.chance(0.1) ? chance.int(0, 500) : chance.int(0, 20));
  if (world.now > until) return bring(worker, { tokenId, leaseId, why: "not-sent" });
  const { transitMs } = physics;
  const latency = Math.min(transitMs, chance.int(0, 20));
  const arrive = (): (() => void) => {
    observer.arrived(leaseId);
    return observer.tokens.arrived(event.proxyId ?? "pool", tokenId, until);
  };
  if (dies(0.1)) {
    await world.sleep(Math.min(latency, until - world.now));
    if (chance.chance(0.5)) world.after(chance.int(0, transitMs), () => observer.arrived(leaseId));
    return bring(worker, { tokenId, leaseId, why: "unreachable", outcome: { error: "ECONNREFUSED" } }, "unreachable");
  }
  const leftMs = Math.max(0, Math.ceil(taken.deadlineBy - world.now));
  await world.sleep(latency);
  const end = arrive();
  if (dies(0.08)) return; // Its request travels on. The answer reaches no process.
  const isLate = !calm && chance.chance(0.08);
  await world.sleep(isLate ? until - world.now + chance.int(0, 600) : chance.int(0, calm ? 20 : 200));
  end();
  if (dies(0.04)) return;
  const why = chance.pick<WhyRefused>(["status", "no-value"]);
  if (!calm && chance.chance(0.15)) {
    const status = why === "status" ? 503 : 200;
    const kind = why === "status" ? "target-error" : "success";
    return bring(worker, { tokenId, leaseId, why, outcome: { status } }, kind);
  }
  const life = chance.chance(0.3) ? {} : { lifeMs: chance.int(300, 5000) };
  await bring(
    worker,
    { tokenId, leaseId, value: valueOf(tokenId), ...life, leftMs, outcome: { status: 200 } },
    "success",
  );
}

/** @returns the end of its turn by its own clock, at most the deadline. Undefined: another executor has the refresh. */
async function take(
  worker: Worker,
  { event, executor }: Refresh,
): Promise<{ until: number; deadlineBy: number } | undefined> {
  const { world, chance } = worker;
  for (let tries = 0; tries < 5; tries++) {
    const askedAt = world.now;
    const job = await ask(worker, "token.take", { tokenId: event.tokenId, executor });
    if (job?.["leaseId"] !== undefined)
      return { until: askedAt + Number(job["leftMs"]), deadlineBy: world.now + Number(job["deadlineMs"]) };
    // Another executor may have it. An executor that starts later asks as well.
    if (job !== undefined && !isRefusal(job) && chance.chance(0.6)) return undefined;
    await world.sleep(chance.int(20, 400));
  }
  return undefined;
}

/** Repeats until the present leader has received it. */
async function bring(
  worker: Worker,
  result: { tokenId: string; leaseId: string } & Record<string, unknown>,
  kind?: string,
): Promise<void> {
  const { world, observer, chance } = worker;
  if (kind !== undefined) observer.sent.add(result.leaseId, 1, kind);
  const again = chance.chance(0.1);
  for (let tries = 0; tries < 8; tries++) {
    const answer = await ask(worker, "token.result", result);
    if (answer !== undefined && !isRefusal(answer)) {
      observer.court.saw(`token.result: ${answer["accepted"] === true ? "accepted" : "not accepted"}`);
      if (again) await ask(worker, "token.result", result);
      return;
    }
    await world.sleep(chance.int(50, 300));
  }
}
