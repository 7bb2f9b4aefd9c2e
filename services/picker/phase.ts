// The phase of a pool between its discovery and its service, in words.
import type { SnapshotFrom } from "xstate";
import type { Phase } from "./phases.ts";
import type { poolMachine } from "./pool-life.ts";

/** The phase of a pool that is on its way to being led. Undefined: it is led, or nothing is under way. */
export function phaseOf(life: SnapshotFrom<typeof poolMachine>): Phase | undefined {
  if (life.hasTag("settled") || life.value === "unknown") return undefined;
  const { served } = life.context;
  const name = typeof life.value === "string" ? life.value : Object.values(life.value).join(" ");
  const { last, state } = served?.leader ?? {};
  // Reading a ledger takes a while, even more so in a queue of many pools. It gives up by itself if nothing comes.
  const progress =
    name === "folding" || name === "inheriting" ? undefined : `${last?.seq ?? 0} ${state?.cursor.seq ?? 0}`;
  return { name: names[name] ?? name, progress };
}

/** In plain words, for the log. */
const names: Readonly<Record<string, string>> = {
  asking: "asking for its leader",
  inheriting: "getting it from its leader",
  folding: "reading its ledger",
  confirming: "asking again for its leader",
  claiming: "claiming its ledger",
  catchingUp: "ingesting the outcomes stored before",
  preparing: "preparing to serve",
};
