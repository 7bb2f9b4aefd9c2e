// A policy as decisions use it: the document, and the numbers derived from it once.
import { defaultPolicy, type Policy, type RateWindow } from "../../events/policy.ts";

/** The limits of an exit: the policy's, or its proxies' own. */
export interface ExitLimits {
  rates: readonly RateWindow[];
  /** Infinity: off. */
  concurrency: number;
  usage: Policy["usage"];
}

export interface Rules {
  policy: Policy;
  limits: ExitLimits;
  /** The most uses that any lease could have. */
  usesMax: number;
}

/** For a pool that is not opened yet. Nothing is granted there. */
export const beforeOpening: Rules = {
  policy: defaultPolicy,
  limits: { rates: [], concurrency: Infinity, usage: null },
  usesMax: 0,
};
