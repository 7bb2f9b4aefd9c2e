// A policy as decisions look it up: the document, and what is worked out from it once.
import { defaultPolicy, type Policy, type RateWindow } from "../../events/policy.ts";

/** What limits an exit: the policy's numbers, or those of its proxies' own. */
export interface ExitLimits {
  rates: readonly RateWindow[];
  /** Infinity: off. */
  concurrency: number;
  usage: Policy["usage"];
}

export interface Rules {
  policy: Policy;
  limits: ExitLimits;
  /** The most uses that one lease could ever have. */
  usesMax: number;
}

/** Of a pool that is not opened yet: nothing is granted there. */
export const beforeOpening: Rules = {
  policy: defaultPolicy,
  limits: { rates: [], concurrency: Infinity, usage: null },
  usesMax: 0,
};
