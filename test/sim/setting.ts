// The setting of a run, drawn before it starts: the physics that every policy must allow for, and a random policy.
import { everyStrategy } from "../../bench/strategies.ts";
import type { Policy } from "../../events/policy.ts";
import { readPolicy } from "../../state-machines/policy/policy.ts";
import { type Seeded, seeded } from "../kit/seed.ts";

export interface Physics {
  /** A request reaches the target at most this long after it was sent, or fails. No policy has a shorter grace. */
  transitMs: number;
  /** The largest error of a monotonic clock within a window. No policy has a smaller margin. */
  clockMs: number;
  /** The share of requests that name a session, and of those that name a holder. */
  sessions: number;
  holders: number;
}

export type Document = Record<string, unknown>;

const strategies = everyStrategy({ intervalMs: 700, halfLifeMs: 3000 });

export function drawPhysics(chance: Seeded): Physics {
  return {
    transitMs: chance.chance(0.1) ? 0 : chance.int(50, 400),
    clockMs: chance.chance(0.3) ? 0 : chance.int(1, 80),
    sessions: chance.pick([0, 0.05, 0.05, 0.5]),
    holders: chance.pick([0, 0.05, 0.05, 0.5]),
  };
}

/** Parts of a policy. Each is drawn separately, so that a change of policy can draw some of them again. */
const parts: Record<string, (chance: Seeded, physics: Physics) => unknown> = {
  rate: drawRate,
  countFrom: (chance) => (chance.chance(0.1) ? "grant" : "report"),
  marginMs: (chance, { clockMs }) => clockMs + (chance.chance(0.7) ? 0 : chance.int(0, 50)),
  concurrency: (chance) => (chance.chance(0.25) ? null : chance.int(1, 3)),
  limitBy: (chance) => (chance.chance(0.85) ? "exit" : "proxy"),
  usage: (chance) => (chance.chance(0.35) ? null : { limit: chance.int(3, 15), restMs: chance.int(500, 4000) }),
  failures: (chance) =>
    chance.chance(0.35)
      ? null
      : { limit: chance.int(1, 5), windowMs: chance.int(500, 5000), restMs: chance.int(500, 5000) },
  streak: (chance) =>
    chance.chance(0.35)
      ? null
      : {
          limit: chance.int(1, 4),
          restMs: chance.int(500, 5000),
          retireAfter: chance.chance(0.15) ? chance.int(1, 3) : null,
        },
  backoff: drawBackoff,
  score: (chance) =>
    chance.chance(0.3) ? { min: 0 - chance.int(0, 3), max: chance.int(0, 3) } : { min: -10_000, max: 10_000 },
  lease: (chance, { transitMs }) => ({
    ttlMs: chance.int(100, 1000),
    ttlMsMax: 5000,
    graceMs: transitMs + (chance.chance(0.7) ? 0 : chance.int(0, 100)),
    usesMax: chance.int(4, 10),
  }),
  strategy: drawStrategy,
  waiting: (chance) => ({ max: chance.chance(0.3) ? chance.int(0, 3) : 30 }),
  session: (chance) => ({ ttlMs: chance.int(500, 5000), patienceMs: chance.int(0, 2000), max: chance.int(1, 20) }),
  holder: (chance) => ({ leasesMax: chance.chance(0.2) ? chance.int(1, 4) : null }),
};

/** Parts that were added later use a random stream of their own. The runs of older seeds then change little. */
const later: typeof parts = {
  bytes: (chance) => (chance.chance(0.75) ? null : { limit: chance.int(1, 6) * 500, windowMs: chance.int(300, 5000) }),
};

function drawLater(from: Seeded, physics: Physics, share: number): Document {
  const chance = seeded(from.seed ^ 0x1a7e5);
  const drawn = Object.entries(later).filter(() => chance.chance(share));
  return Object.fromEntries(drawn.map(([name, draw]) => [name, draw(chance, physics)]));
}

/** A complete policy. */
export function drawPolicy(chance: Seeded, physics: Physics): Document {
  const document: Document = {};
  for (const [name, draw] of Object.entries(parts))
    Object.assign(document, accepted({ [name]: draw(chance, physics) }));
  return { ...document, ...drawLater(chance, physics, 1) };
}

/** Its times are short enough for many refreshes in a run. */
export function drawToken(chance: Seeded): Document {
  const deadlineMs = chance.int(150, 1500);
  const refreshAheadMs = chance.chance(0.5) ? 0 : chance.int(50, 800);
  const baseMs = chance.int(20, 400);
  return {
    scope: chance.pick(["proxy", "pool"]),
    minAgeMs: chance.chance(0.2) ? 0 : chance.int(50, 1500),
    refreshAheadMs,
    deadlineMs,
    retry: { baseMs, maxMs: baseMs + chance.int(0, 1500), jitterShare: chance.pick([0, 0.2, 1]) },
    unavailableAfter: chance.int(1, 4),
    source: {
      url: "https://target.example/guest",
      timeoutMs: deadlineMs,
      value: { jsonPointer: "/token" },
      life: { jsonPointer: "/life", unit: "ms" },
    },
  };
}

/** A partial policy, merged into the present one. */
export function drawChange(chance: Seeded, physics: Physics): Document {
  const change: Document = {};
  for (let n = chance.int(1, 3); n > 0; n--) {
    const name = chance.pick(Object.keys(parts));
    const draw = parts[name]!; // Of the keys.
    Object.assign(change, accepted({ [name]: draw(chance, physics) }));
  }
  return { ...change, ...drawLater(chance, physics, 0.2) };
}

/** @throws if the policy does not accept it. */
function accepted(document: Document): Document {
  const read = readPolicy(document);
  if ("refusal" in read) throw new Error(`a policy: ${read.refusal.message}`);
  return document;
}

export const strategyKinds: string[] = [...new Set(strategies.map(({ kind }) => kind))];

function drawStrategy(chance: Seeded): Document {
  return chance.pick(strategies);
}

export function drawRate(chance: Seeded): Policy["rate"] {
  if (chance.chance(0.1)) return null;
  const widths = chance.chance(0.25) ? [chance.int(300, 900), chance.int(1500, 5000)] : [chance.int(500, 4000)];
  const windows = widths.map((windowMs, i) => ({ limit: chance.int(1, 6) * (i + 1) + i, windowMs }));
  return windows.length === 1 && chance.chance(0.5) ? windows[0]! : windows;
}

function drawBackoff(chance: Seeded): Document {
  const draw = chance.next();
  if (draw < 0.1) return { kind: "none" };
  if (draw < 0.25) return { kind: "fixed", restMs: chance.int(20, 1500), jitterMs: chance.int(0, 200) };
  const baseMs = chance.int(20, 300);
  return {
    kind: "exponential",
    baseMs,
    maxMs: baseMs + chance.int(0, 3000),
    jitterMs: chance.chance(0.3) ? 0 : chance.int(0, 200),
    jitterShare: chance.pick([0, 0.2, 0.5]),
    baseMsBy: { blocked: chance.int(20, 800), "proxy-auth": chance.int(20, 800) },
  };
}

export interface Entry {
  url: string;
  labels?: Record<string, string>;
  limits?: Record<string, unknown>;
}

/** A mark in each secret. No text of the service except a lease may contain it. */
export const secretMark = "hush-hush-hush-";

/** Some share an exit with another one, some have logins, some limits of their own. */
export function drawProxies(chance: Seeded): Entry[] {
  const exits = chance.int(1, 5);
  const schemes = ["", "http://", "socks5://"];
  const entries: Entry[] = [];
  for (let i = 1; i <= exits; i++) entries.push(entry(`10.0.0.${i}:8080`));
  for (let i = chance.int(0, 3); i > 0; i--) entries.push(entry(`10.0.1.${i}:8080`, `10.0.0.${chance.int(1, exits)}`));
  if (chance.chance(0.2)) entries.push(entry("gate.example:3128"));
  return entries;

  function entry(address: string, exit?: string): Entry {
    const kind = chance.pick(["a", "b"]);
    const login = chance.chance(0.3)
      ? `${secretMark}user${chance.int(1, 9)}:${secretMark}${chance.int(1000, 9999)}@`
      : "";
    const scheme = chance.pick(schemes);
    const url = `${login !== "" && scheme === "" ? "http://" : scheme}${login}${address}`;
    return {
      url,
      labels: exit === undefined ? { kind } : { kind, exit },
      ...(chance.chance(0.15) ? { limits: drawLimits(chance) } : {}),
    };
  }
}

/** More of the first exit. */
export function drawCrowd(chance: Seeded): Entry[] {
  return Array.from({ length: chance.int(2, 4) }, (_, i) => ({
    url: `10.0.2.${i + 1}:8080`,
    labels: { kind: chance.pick(["a", "b"]), exit: "10.0.0.1" },
  }));
}

export function drawLimits(chance: Seeded): Record<string, unknown> {
  const rate = drawRate(chance);
  return {
    ...(chance.chance(0.6) ? { rate } : {}),
    ...(chance.chance(0.4) ? { concurrency: chance.int(1, 3) } : {}),
    ...(chance.chance(0.4) ? { usage: { limit: chance.int(3, 12), restMs: chance.int(500, 3000) } } : {}),
  };
}
