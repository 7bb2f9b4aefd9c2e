// The rules that make a proxy rest, by the reasons that rests record.
import type { RestReason } from "../../events/proxy.ts";
import { backoff, throttle } from "./backoff.ts";
import { failures } from "./failures.ts";
import type { RestRule } from "./rule.ts";
import { streak } from "./streak.ts";
import { usage } from "./usage.ts";

/** An operator's command. No outcome causes it, and it resets nothing. */
const manual: RestRule = {
  reason: "manual",
  sentence: ({ rest: { note, by = "somebody" } }) =>
    `manual: ${by} asked for it${note === undefined ? "" : `, saying “${note}”`}.`,
};

export const restRules: Readonly<Record<RestReason, RestRule>> = { throttle, failures, streak, backoff, usage, manual };
