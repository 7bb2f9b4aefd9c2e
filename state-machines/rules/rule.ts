// The interfaces of rules. Each rule is one object in the file of its name. An exit rule limits the grants through an
// exit. A rest rule makes a proxy rest. Its sentences and warnings are in it too, so that a new rule touches few files
// (docs/adding-a-rule.md).
import type { OutcomeClass, UseReported } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import type { RestBegan, RestReason } from "../../events/proxy.ts";
import type { ExitRuleName } from "../../events/refusal.ts";
import type { Draw } from "../decide/chance.ts";
import type { Exit, PoolState, Proxy } from "../fold/state.ts";
import type { ExitLimits } from "../policy/rules.ts";

/** Instants and spans in words, and nouns with their number. The caller has the calendar. */
export interface Words {
  instant(at: number): string;
  span(ms: number): string;
  counted(count: number, noun: string): string;
}

export interface ExitRule {
  readonly name: ExitRuleName;
  /** In words: the proxies that `limitedBy` counts for it. */
  readonly holdsBack: string;
  /** Whether `limitedBy` counts it. Absent: always. */
  isTold?(state: PoolState): boolean;
  /** Whether it keeps the exit from a lease of this many uses now. */
  holds(state: PoolState, exit: Exit, minUses: number): boolean;
  /** When there is room, if nothing more is reported, released or granted. Not later than now: there is. */
  roomAt(state: PoolState, exit: Exit, minUses: number): number;
  /** The next instant at which time alone changes its result. Infinity, or absent: none. */
  changesAt?(state: PoolState, exit: Exit, minUses: number): number;
  /** How many uses may be granted at once now. Absent: any number. */
  usesLeft?(state: PoolState, exit: Exit): number;
  /** Whether this many uses may ever be granted at once. Absent: always. */
  canServe?(limits: ExitLimits, minUses: number): boolean;
  /** The instant from which it needs to remember nothing of an exit without open leases. Absent: always. */
  tracesEnd?(state: PoolState, exit: Exit): number;
  /** The same for a former exit whose uses count at this exit too. Absent: this rule keeps nothing of it. */
  pastEnd?(state: PoolState, exit: Exit, of: Exit): number;
  /** Whether its windows count anything. Absent: it has no windows. */
  isOccupied?(state: PoolState, exit: Exit): boolean;
  /** Warnings about parts of a policy that can never take effect. Each sentence begins with the field. */
  warnings?(policy: Policy): string[];
  /** The used part of the limit: "3 of 30 uses within 1 min". */
  taken(state: PoolState, exit: Exit, words: Words): string[];
  /** The exit's count when it was held back: "3 of 3 uses within 1 min". */
  held(state: PoolState, exit: Exit, minUses: number, words: Words): string[];
}

/** Why a rest begins, and its minimum length. */
export interface Cause {
  reason: RestReason;
  until: number;
}

/** An outcome of the proxy's present epoch, after it was folded. */
export interface Reported {
  class: OutcomeClass;
  counts: boolean;
  retryAfterMs: number | undefined;
  draw: () => Draw;
}

/** A rest as recorded, with its causes. */
export interface RestTold {
  rest: RestBegan;
  at: number;
  policy: Policy;
  /** The event before it in the same commit, if that was an outcome. */
  cause: UseReported | undefined;
  /** Report times of the failures that counted for it. */
  failedAt: readonly number[];
  exit: string;
  usage: Policy["usage"];
}

export interface RestRule {
  readonly reason: RestReason;
  /** The rest that an outcome calls for. Absent: outcomes never cause this rest. */
  causeOf?(state: PoolState, proxy: Proxy, reported: Reported): Cause | undefined;
  /** Resets what the rest resets. Absent: nothing. */
  reset?(proxy: Proxy): void;
  restWarnings?(policy: Policy): string[];
  /** Why the rest had this length. */
  sentence(told: RestTold, words: Words): string;
}
