// What the rules have in common. Each rule is one object in a file of its name. An exit rule limits what may be granted
// through an exit; a rest rule makes a proxy rest. A rule also has its sentences and its warnings, so that adding one
// touches few files (docs/adding-a-rule.md).
import type { OutcomeClass, UseReported } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import type { RestBegan, RestReason } from "../../events/proxy.ts";
import type { ExitRuleName } from "../../events/refusal.ts";
import type { Draw } from "../decide/chance.ts";
import type { Exit, PoolState, Proxy } from "../fold/state.ts";
import type { ExitLimits } from "../policy/rules.ts";

/** Instants and spans in words, and nouns with their number. The core has no calendar. */
export interface Words {
  instant(at: number): string;
  span(ms: number): string;
  counted(count: number, noun: string): string;
}

export interface ExitRule {
  readonly name: ExitRuleName;
  /** Which proxies `limitedBy` counts for it, in words. */
  readonly holdsBack: string;
  /** Is it counted in `limitedBy`? Absent: always. */
  isTold?(state: PoolState): boolean;
  /** Does it keep the exit from a lease of so many uses now? */
  holds(state: PoolState, exit: Exit, minUses: number): boolean;
  /** The first instant with room, if nothing more is reported, released or granted. Not later than now: there is. */
  roomAt(state: PoolState, exit: Exit, minUses: number): number;
  /** The next instant at which time alone changes what it holds back; past ones do not count. Infinity: none. */
  changesAt(state: PoolState, exit: Exit, minUses: number): number;
  /** How many uses may be granted at once now. */
  usesLeft(state: PoolState, exit: Exit): number;
  /** May so many uses ever be granted at once? */
  canServe(limits: ExitLimits, minUses: number): boolean;
  /** From when on it needs to remember nothing of the exit, on which no lease is open. */
  tracesEnd(state: PoolState, exit: Exit): number;
  /** The same for what a former exit has counted, that counts at this one as well. Absent: it is not kept for this rule. */
  pastEnd?(state: PoolState, exit: Exit, of: Exit): number;
  /** Is there anything in its windows? Absent: it has none. */
  isOccupied?(state: PoolState, exit: Exit): boolean;
  /** Sentences about what a policy says and can never happen, each beginning with the field. */
  warnings(policy: Policy): string[];
  /** How much of the limit is taken: "3 of 30 uses within 1 min". */
  taken(state: PoolState, exit: Exit, words: Words): string[];
  /** What the exit had when it was held back: "3 of 3 uses within 1 min". */
  held(state: PoolState, exit: Exit, minUses: number, words: Words): string[];
}

/** Why a rest begins, and how long it lasts at least. */
export interface Cause {
  reason: RestReason;
  until: number;
}

/** An outcome of the proxy's present epoch, after it was folded. */
export interface Judged {
  class: OutcomeClass;
  counts: boolean;
  retryAfterMs: number | undefined;
  draw: () => Draw;
}

/** A rest as recorded, and what it followed from. */
export interface RestTold {
  rest: RestBegan;
  at: number;
  policy: Policy;
  /** The outcome before it in the same commit, if it was one. */
  cause: UseReported | undefined;
  /** Report times of the failures that were counted for it. */
  failedAt: readonly number[];
  exit: string;
  usage: Policy["usage"];
}

export interface RestRule {
  readonly reason: RestReason;
  /** The rest that an outcome calls for. Absent: an outcome never does. */
  causeOf?(state: PoolState, proxy: Proxy, judged: Judged): Cause | undefined;
  /** What its rest resets. Absent: nothing. */
  reset?(proxy: Proxy): void;
  restWarnings?(policy: Policy): string[];
  /** Why the rest was as long as it was. */
  sentence(told: RestTold, words: Words): string;
}
