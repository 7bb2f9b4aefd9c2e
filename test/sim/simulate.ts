// One run of the simulator: a policy, proxies, workers and faults, all from one seed. Then the faults stop, and
// everything must settle. The run ends at the first finding.
import * as core from "../../state-machines/fold/state.ts";
import { chanceOf } from "./chance.ts";
import type { Checker, Finding } from "./court.ts";
import { execute } from "./executor.ts";
import { Observer } from "./observer.ts";
import { busyMs, type Plan, planOf } from "./plan.ts";
import type { Worker } from "./ride.ts";
import { SimService, type SimVerb } from "./service.ts";
import { add, reopen, take } from "./step.ts";
import { Transcript } from "./transcript.ts";
import { World } from "./world.ts";

export interface Run {
  seed: number;
  findings: Finding[];
  /** How often each kind of event happened. */
  seen: Record<string, number>;
  transcript: Transcript | undefined;
}

const { spreadFrom } = core;
const settleMs = 60_000;
/** A run that lasts longer is a finding. */
const endlessMs = 600_000;

/** @param given.keep the steps of the plan to run; default: all. */
export async function simulate(
  seed: number,
  given: {
    keep?: ReadonlySet<number>;
    transcript?: boolean;
    plan?: Plan;
    /** Ignore the findings of all other checkers. */
    alone?: Checker | undefined;
    /** Share of the leaders that start from a snapshot. */
    snapshots?: number;
    onEnd?: (service: SimService) => void;
  } = {},
): Promise<Run> {
  const plan = given.plan ?? planOf(seed);
  const { physics, document } = plan;
  (core as { narrow?: (to: number) => void }).narrow?.(plan.isCrowded ? 1 : spreadFrom); // Only a core that was loaded with that edit has it.
  const world = new World();
  const transcript = given.transcript === true ? new Transcript() : undefined;
  const observer = new Observer({
    world,
    clockMs: physics.clockMs,
    service: () => service,
    transcript,
    alone: given.alone,
  });
  const { snapshots } = given;
  const service = new SimService({ world, seed, physics, document, onlooker: observer, snapshots });
  const { court } = observer;
  const started = world.now;
  let busy = 0;
  let over = false;
  const goes = (work: Promise<void>): Promise<void> => {
    busy++;
    return work.catch((error) => service.breakDown(error)).finally(() => void busy--);
  };
  const hasTokens = document["token"] !== null;
  let refreshes = 0;
  observer.onRequested = (event) => {
    for (const executor of ["executor-1", "executor-2"])
      void goes(execute(worker(executor, refreshes), { event, executor, calm: world.now >= started + busyMs }));
    refreshes++;
  };
  observer.told("policy", JSON.stringify(document));
  for (const entry of plan.proxies) observer.told("proxies", JSON.stringify(entry).replace(/\/\/[^@]*@/, "//***@"));
  void goes(scenario());
  await world
    .run(() => over || service.broken !== undefined || court.findings.length > 0 || world.now > started + endlessMs)
    .catch((error) => service.breakDown(error));
  if (service.broken !== undefined) court.find("broken", saying(service.broken));
  else if (court.findings.length === 0 && !over) court.find("settle", `${busy} workers have not finished`);
  given.onEnd?.(service);
  const [finding] = court.findings;
  if (finding !== undefined) observer.told("FOUND", `${finding.checker}: ${finding.sentence}`);
  return { seed, findings: court.findings, seen: counted(), transcript };

  function worker(what: string, n = 0): Worker {
    const own = { chance: chanceOf(seed, what, n), tokens: chanceOf(seed, `tokens of ${what}`, n) };
    return { world, service, observer, physics, ...own, counts: chanceOf(seed, `counts of ${what}`, n), hasTokens };
  }

  async function scenario(): Promise<void> {
    await service.start();
    await add(worker("proxies"), plan.proxies);
    const working: Promise<void>[] = [];
    for (const step of plan.steps) {
      if (given.keep?.has(step.id) === false) continue;
      await world.sleep(started + step.at - world.now);
      working.push(goes(take(worker("step", step.id), plan, step)));
    }
    await world.sleep(started + busyMs - world.now);
    // The faults stop.
    service.broker.faults = { unanswered: 0, lost: 0, late: 0 };
    service.answersLost = 0;
    await world.sleep(4000);
    if (service.leader === undefined && service.lives.length === 0) await service.start();
    await Promise.all(working);
    await reopen(worker("end"));
    service.askAll();
    await world.sleep(settleMs);
    await lastToken();
    await world.sleep(settleMs);
    observer.close();
    if (court.findings.length === 0) await lastLease();
    over = true;
  }

  /**
   * Every request for a token gets one, and a lease with it. Then the policy drops its tokens, and the pool settles.
   */
  async function lastToken(): Promise<void> {
    const { book } = court;
    if (book.policy?.token == null || court.findings.length > 0) return;
    const request = (verb: SimVerb, body: object): Promise<Record<string, unknown> | undefined> =>
      new Promise((resolve) => {
        world.after(settleMs + 5000, () => resolve(undefined));
        service.request(verb, body, { luck: 0.999, respond: (each) => resolve(each as Record<string, unknown>) });
      });
    if ([...book.proxies.values()].every((proxy) => proxy.retired)) await add(worker("last token"), plan.proxies);
    await request("pool.policy", { policy: { waiting: { max: 30 } } });
    const answer = await request("lease", { token: true, waitMs: settleMs });
    if (answer?.["leaseId"] === undefined)
      court.find("settle", `no token is granted any more: ${JSON.stringify(answer)}`);
    await request("pool.policy", { policy: { token: null } });
  }

  /** When all has settled, any proxy can be leased. */
  async function lastLease(): Promise<void> {
    const proxies = [...court.book.proxies.values()];
    if (proxies.every((proxy) => proxy.retired)) await add(worker("last"), plan.proxies);
    await world.sleep(settleMs);
    const answer = await new Promise<Record<string, unknown>>((respond) =>
      service.request("lease", {}, { luck: 0.999, respond: (each) => respond(each as Record<string, unknown>) }),
    );
    if (answer["leaseId"] === undefined)
      court.find("settle", `nothing can be leased any more: ${JSON.stringify(answer)}`);
    await world.sleep(settleMs);
  }

  function counted(): Record<string, number> {
    const { counts, broker } = service;
    return {
      ...Object.fromEntries(court.seen),
      commits: observer.commits,
      events: observer.events,
      arrivals: observer.rate.arrivals,
      "exits exactly at their limit": observer.rate.atLimit.size,
      grants: court.book.counts.granted,
      kills: counts.kills,
      takeovers: counts.takeovers,
      hangs: counts.hangs,
      sleeps: counts.sleeps,
      "leaders started from a snapshot": service.snapshotsUsed,
      "pool: left by its leader when closed": counts.closes,
      "broker: clock set between two leaders": broker.counts.clockSteps,
      "broker: crashes": broker.counts.crashes,
      "broker: outcomes lost in a crash": broker.counts.outcomesLost,
      "broker: sequences used again": broker.counts.sequencesReused,
      "commits lost": broker.counts.lost,
      "commits stored without an answer": broker.counts.unanswered,
      "commits stored late": broker.counts.late,
    };
  }
}

function saying(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? (cause.stack ?? cause.message).split("\n").slice(0, 4).join(" ") : String(cause);
}
