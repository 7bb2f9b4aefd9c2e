// One run of the simulator: a policy, a herd, workers and faults, all from one seed. Then the faults stop, and
// everything must settle.
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { advance, foldCommit } from "../../state-machines/evolve.ts";
import { portraitOf } from "../../state-machines/portrait.ts";
import { PoolState } from "../../state-machines/state.ts";
import { type Seeded, seeded } from "../kit/seed.ts";
import { Checkers, type SimPolicy } from "./checkers.ts";
import { pool, SimService } from "./service.ts";
import { Workers } from "./workers.ts";
import { World } from "./world.ts";

export interface SimResult {
  seed: number;
  findings: string[];
  leases: number;
  refusals: number;
  silences: number;
  arrivals: number;
  commits: number;
  events: number;
  kills: number;
  takeovers: number;
  /** Exits that reached their limit in some window. */
  atLimit: number;
}

const busyMs = 12_000;
const settleMs = 60_000;

export async function simulate(seed: number): Promise<SimResult> {
  const random = seeded(seed);
  const world = new World(random);
  const { policy, document } = randomPolicy(random);
  const service = new SimService(world, { policy: document, faults: { unanswered: 0.02, lost: 0.02, late: 0.01 } });
  const checkers = new Checkers(policy);
  const workers = new Workers({ world, service, checkers, policy });
  let over = false;
  void scenario().catch((error) => {
    service.broken ??= error;
    over = true;
  });
  await world.run(() => over || service.broken !== undefined);
  const findings = service.broken === undefined ? [] : [`broken: ${String(service.broken)} ${stackOf(service.broken)}`];
  if (findings.length === 0)
    findings.push(...checkers.findings(), ...replayFindings(service, workers), ...settleFindings(service));
  const commits = service.ledger.commits.map((stored) => decodeCommit(Buffer.from(stored.bytes).toString()));
  return {
    seed,
    findings,
    leases: workers.leases,
    refusals: workers.refusals,
    silences: workers.silences,
    arrivals: [...checkers.arrivals.values()].reduce((sum, instants) => sum + instants.length, 0),
    commits: commits.length,
    events: commits.reduce((sum, commit) => sum + commit.events.length, 0),
    kills: service.kills,
    takeovers: service.takeovers,
    atLimit: checkers.atLimit(),
  };

  async function scenario(): Promise<void> {
    await service.start();
    await addHerd(world, service);
    workers.start(random.int(2, 16));
    const end = world.now + busyMs;
    while (world.now < end) {
      await world.sleep(random.int(100, 4000));
      if (random.chance(0.4)) {
        service.kill();
        await world.sleep(random.int(0, 1500));
        await service.start();
      } else if (random.chance(0.2)) await service.takeOver();
    }
    workers.finish();
    service.faults = { unanswered: 0, lost: 0, late: 0 };
    if (service.leader === undefined) await service.start();
    while (!workers.idle) await world.sleep(500);
    await world.sleep(settleMs);
    over = true;
  }
}

async function addHerd(world: World, service: SimService): Promise<void> {
  const { random } = world;
  const exits = random.int(1, 6);
  const proxies = Array.from({ length: exits }, (_, i) => `10.0.0.${i + 1}:8080`).map((url) => ({
    url,
    labels: { kind: random.pick(["a", "b"]) } as Record<string, string>,
  }));
  // Some share an exit with another one.
  for (let i = 0; i < random.int(0, 3); i++) {
    proxies.push({
      url: `10.0.1.${i + 1}:8080`,
      labels: { kind: random.pick(["a", "b"]), exit: `10.0.0.${random.int(1, exits)}` },
    });
  }
  await new Promise<object>((resolve) => service.request("proxies.add", { proxies }, resolve));
}

function randomPolicy(random: Seeded): { policy: SimPolicy; document: Record<string, unknown> } {
  const windows = random.chance(0.2) ? [random.int(300, 900), random.int(1500, 5000)] : [random.int(500, 4000)];
  const rate = windows.map((windowMs, i) => ({ limit: random.int(1, 6) * (i + 1) + i, windowMs }));
  const concurrency = random.chance(0.2) ? null : random.int(1, 3);
  const usage = random.chance(0.3) ? null : { limit: random.int(3, 20), restMs: random.int(500, 4000) };
  const graceMs = random.int(0, 400);
  const limitBy = random.chance(0.8) ? "exit" : "proxy";
  const backoffBaseMs = random.int(20, 300);
  const document = {
    rate,
    concurrency,
    usage,
    limitBy,
    marginMs: random.int(0, 100),
    failures: random.chance(0.3)
      ? null
      : { limit: random.int(1, 5), windowMs: random.int(500, 5000), restMs: random.int(500, 5000) },
    streak: random.chance(0.3) ? null : { limit: random.int(1, 5), restMs: random.int(500, 5000) },
    backoff: { kind: "exponential", baseMs: backoffBaseMs, maxMs: 3000, jitterMs: random.int(0, 200), baseMsBy: {} },
    lease: { ttlMs: random.int(100, 1000), ttlMsMax: 5000, graceMs, usesMax: 10 },
    strategy: random.pick([
      ...["best", "lifo", "round-robin", "random", "least-used", "least-connections", "drain"].map((kind) => ({
        kind,
      })),
      { kind: "time-based", intervalMs: 900 },
      { kind: "bandit", halfLifeMs: 2000 },
    ]),
    waiting: { max: random.int(1, 20) },
  };
  return { policy: { rate, concurrency, usage, backoffBaseMs, graceMs, limitBy }, document };
}

/** Live equals replayed, bit for bit; every lease that was answered is in the ledger as it was answered. */
function replayFindings(service: SimService, workers: Workers): string[] {
  const findings: string[] = [];
  const replayed = new PoolState(pool);
  const granted = new Map<string, { uses: number; expiresAt: number; proxyId: string }>();
  for (const stored of service.ledger.commits) {
    const commit = decodeCommit(Buffer.from(stored.bytes).toString());
    for (const event of commit.events as Event[]) if (event.type === "LeaseGranted") granted.set(event.leaseId, event);
    foldCommit(replayed, commit);
  }
  const live = service.leader?.state;
  if (live === undefined) return ["nobody leads when all is over"];
  advance(replayed, live.at);
  if (JSON.stringify(portraitOf(replayed)) !== JSON.stringify(portraitOf(live)))
    findings.push("live state and replayed state differ");
  for (const lease of workers.received) {
    const event = granted.get(lease.leaseId);
    if (lease.uses < 1) findings.push(`${lease.leaseId} has no use`);
    if (event === undefined) findings.push(`${lease.leaseId} was answered and is not in the ledger`);
    else if (event.uses !== lease.uses || event.proxyId !== lease.proxyId)
      findings.push(`${lease.leaseId} is another one in the ledger`);
  }
  return findings;
}

/** With the faults gone and time enough: no lease open, no wish waiting, no rest running. */
function settleFindings(service: SimService): string[] {
  const state = service.leader?.state;
  if (state === undefined) return [];
  const findings: string[] = [];
  if (state.leases.size > 0) findings.push(`${state.leases.size} leases never ended`);
  if (service.leader!.waiting.size > 0) findings.push(`${service.leader!.waiting.size} wishes wait for ever`);
  const resting = [...state.proxies.values()].filter((proxy) => proxy.state !== "available");
  if (resting.length > 0) findings.push(`${resting[0]!.id} is ${resting[0]!.state} for ever`);
  return findings;
}

function stackOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? (cause.stack ?? "") : "";
}
