// Worlds for the bandit's benchmark: proxies whose success share changes without notice. A world depends only on its
// seed and is made before any choice, so that every strategy meets the same one.
import { type Random, randomOf } from "../demo/random.ts";

/** From then on these proxies have this success share. */
export interface Change {
  at: number;
  proxies: readonly number[];
  share: number;
}

export interface World {
  proxies: number;
  /** Of each at the start. */
  shares: number[];
  /** In order of time. */
  changes: Change[];
  /** Of each, ms. */
  latencies: number[];
}

export interface Scenario {
  name: string;
  what: string;
  proxies: number;
  requestsPerSecond: number;
  /** Overrides of the default policy. */
  policy: Record<string, unknown>;
  make: (random: Random, proxies: number) => Pick<World, "shares" | "changes">;
}

/** Between the generators of neighbouring seeds. */
export const spread = 0x9e37_79b1;
export const lastsMs = 2 * 3_600_000;
const minute = 60_000;
const noRests = { backoff: { kind: "none" }, failures: null, streak: null };

export const scenarios: readonly Scenario[] = [
  {
    name: "some die, some recover",
    what: "each works (96 %) for an hour on average and is dead (2 %) for half an hour",
    proxies: 100,
    requestsPerSecond: 2,
    policy: {},
    make: (random, proxies) => alternating(random, groupsOf(proxies, 1), { up: [0.96, 60], down: [0.02, 30] }),
  },
  {
    name: "bans in groups",
    what: "ten subnets of ten; each is banned (5 %) for 20 min after 40 min on average, else 95 %",
    proxies: 100,
    requestsPerSecond: 2,
    policy: {},
    make: (random, proxies) => alternating(random, groupsOf(proxies, 10), { up: [0.95, 40], down: [0.05, 20] }),
  },
  {
    name: "bans in groups, no rests",
    what: "the same with backoff, failures and streak switched off: the choice alone avoids the banned",
    proxies: 100,
    requestsPerSecond: 2,
    policy: noRests,
    make: (random, proxies) => alternating(random, groupsOf(proxies, 10), { up: [0.95, 40], down: [0.05, 20] }),
  },
  {
    name: "a free list",
    what: "of 500 a tenth works (85 %) at any time, for 30 min on average; the others fail (1 %)",
    proxies: 500,
    requestsPerSecond: 2,
    policy: {},
    make: (random, proxies) => alternating(random, groupsOf(proxies, 1), { up: [0.85, 30], down: [0.01, 270] }),
  },
  {
    name: "good and mediocre",
    what: "each between 40 % and 99 %, drawn anew every hour on average",
    proxies: 100,
    requestsPerSecond: 2,
    policy: {},
    make: (random, proxies) => redrawn(random, proxies, 60),
  },
  {
    name: "all the same",
    what: "each 95 % for ever: nothing to be learnt",
    proxies: 100,
    requestsPerSecond: 2,
    policy: {},
    make: (_random, proxies) => ({ shares: new Array<number>(proxies).fill(0.95), changes: [] }),
  },
];

export function worldOf(scenario: Scenario, seed: number): World {
  const random = randomOf(seed * spread);
  const { proxies } = scenario;
  const made = scenario.make(random, proxies);
  made.changes.sort((a, b) => a.at - b.at);
  const latencies = Array.from({ length: proxies }, () => Math.floor(200 + 2800 * random() ** 2));
  return { proxies, ...made, latencies };
}

function groupsOf(proxies: number, size: number): number[][] {
  return Array.from({ length: proxies / size }, (_, i) => Array.from({ length: size }, (_, k) => i * size + k));
}

/** Alternately up and down, each for a time with that mean (minutes, exponential), as if in progress at the start. */
function alternating(
  random: Random,
  groups: readonly number[][],
  { up, down }: Record<"up" | "down", readonly [share: number, minutes: number]>,
): Pick<World, "shares" | "changes"> {
  const shares: number[] = [];
  const changes: Change[] = [];
  for (const proxies of groups) {
    let isUp = random() < up[1] / (up[1] + down[1]);
    for (const proxy of proxies) shares[proxy] = (isUp ? up : down)[0];
    for (let at = 0; ; ) {
      at += -Math.log(1 - random()) * (isUp ? up : down)[1] * minute;
      if (at > lastsMs) break;
      isUp = !isUp;
      changes.push({ at, proxies, share: (isUp ? up : down)[0] });
    }
  }
  return { shares, changes };
}

function redrawn(random: Random, proxies: number, minutes: number): Pick<World, "shares" | "changes"> {
  const draw = (): number => 0.4 + 0.59 * random();
  const shares = Array.from({ length: proxies }, draw);
  const changes: Change[] = [];
  for (let proxy = 0; proxy < proxies; proxy++) {
    for (let at = 0; ; ) {
      at += -Math.log(1 - random()) * minutes * minute;
      if (at > lastsMs) break;
      changes.push({ at, proxies: [proxy], share: draw() });
    }
  }
  return { shares, changes };
}
