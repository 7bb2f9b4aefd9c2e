// The plan of a run: a list of steps, each with its time and its own random numbers. Shrinking leaves out steps.
import { chanceOf } from "./chance.ts";
import {
  type Document,
  drawCrowd,
  drawPhysics,
  drawPolicy,
  drawProxies,
  drawToken,
  type Entry,
  type Physics,
} from "./setting.ts";

export const stepKinds = [
  "ride",
  "kill",
  "take over",
  "hang",
  "crash",
  "policy",
  "retire",
  "add",
  "relabel",
  "rest",
  "revive",
  "close",
  "garbage",
  "look",
  "token",
  "move",
  "slip in",
] as const;
export type StepKind = (typeof stepKinds)[number];

export interface Step {
  id: number;
  /** Milliseconds after the start. */
  at: number;
  kind: StepKind;
}

export interface Plan {
  seed: number;
  physics: Physics;
  document: Document;
  proxies: Entry[];
  /** One exit has more proxies than can begin their rest in one commit. */
  isCrowded: boolean;
  steps: Step[];
}

export const busyMs = 12_000;

/** The maximum number of each per run. */
const most: Record<Exclude<StepKind, "ride" | "token" | "move" | "slip in">, number> = {
  kill: 3,
  "take over": 2,
  hang: 1,
  crash: 1,
  policy: 3,
  retire: 4,
  add: 4,
  relabel: 2,
  rest: 3,
  revive: 3,
  close: 1,
  garbage: 3,
  look: 6,
};

export function planOf(seed: number): Plan {
  const chance = chanceOf(seed, "plan");
  const physics = drawPhysics(chance);
  const steps: Omit<Step, "id">[] = [];
  // Some runs have many requests for a while, so that requests wait. In others the rules take effect undisturbed.
  const rush = chance.int(0, busyMs);
  for (let n = chance.int(30, 110); n > 0; n--) {
    const at = chance.chance(0.3) ? rush + chance.int(0, 800) : chance.int(0, busyMs);
    steps.push({ at, kind: "ride" });
  }
  for (const kind of stepKinds) {
    if (kind === "ride" || kind === "token" || kind === "move" || kind === "slip in") continue;
    // In some runs a kind of fault is absent, so that the others occur alone.
    const count = chance.chance(0.4) ? 0 : chance.int(0, most[kind]);
    for (let n = count; n > 0; n--) steps.push({ at: chance.int(200, busyMs), kind });
  }
  steps.sort((a, b) => a.at - b.at);
  const document = drawPolicy(chance, physics);
  const proxies = drawProxies(chance);
  // Tokens have their own random numbers, so that a run without tokens does not change.
  const tokens = chanceOf(seed, "tokens");
  const token = tokens.chance(0.35) ? drawToken(tokens) : null;
  const all: Step[] = steps.map((step, id) => ({ id, ...step }));
  for (let n = token === null ? 0 : tokens.int(5, 25); n > 0; n--)
    all.push({ id: all.length, at: tokens.int(200, busyMs), kind: "token" });
  // So do proxies that move between exits.
  const moves = chanceOf(seed, "moves");
  for (let n = moves.chance(0.4) ? moves.int(1, 5) : 0; n > 0; n--)
    all.push({ id: all.length, at: moves.int(200, busyMs), kind: "move" });
  // And proxies that join an exit with many proxies just as its rest begins.
  const slips = chanceOf(seed, "slips");
  const isCrowded = slips.chance(0.15);
  if (isCrowded) proxies.push(...drawCrowd(slips));
  for (let n = isCrowded ? slips.int(1, 4) : 0; n > 0; n--)
    all.push({ id: all.length, at: slips.int(200, busyMs), kind: "slip in" });
  all.sort((a, b) => a.at - b.at);
  return { seed, physics, document: { ...document, token }, proxies, isCrowded, steps: all };
}
