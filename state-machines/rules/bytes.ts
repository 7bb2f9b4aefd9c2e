// Bytes: an exit that has reported `limit` bytes within the window gets no new lease. A report counts from when it is
// recorded until the window has passed. It comes long after its bytes were sent, so the rule is a brake, not an exact
// bound. All exits have the policy's limit. Bytes that have run out when the policy changes are forgotten. So are all
// bytes when the rule is switched off.
import type { UseReported } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import type { Exit, PoolState } from "../fold/state.ts";
import { WindowSums } from "../structures/window-sums.ts";
import type { ExitRule, Words } from "./rule.ts";

export const bytes = {
  name: "bytes",
  holdsBack: "proxies whose exit has reported its maximum of bytes; absent if the policy has no such limit",
  isTold: (state) => limitOf(state) !== null,
  holds(state, exit) {
    const rule = limitOf(state);
    return rule !== null && bytesOf(state, exit, rule.windowMs) >= rule.limit;
  },
  roomAt: belowAt,
  changesAt(state, exit) {
    const at = belowAt(state, exit);
    return at > state.at ? at : Infinity;
  },
  tracesEnd: (state, exit) => Math.max(...partsOf(exit).map((of) => lastEnd(state, of))),
  pastEnd: (state, _exit, of) => lastEnd(state, of),
  isOccupied: (state, exit) => bytesOf(state, exit, limitOf(state)?.windowMs ?? 0) > 0,
  taken: takenOf,
  held: (state, exit, _minUses, words) => takenOf(state, exit, words),
} satisfies ExitRule;

/** A use of the exit was reported. */
export function countBytes(state: PoolState, exit: Exit, event: UseReported): void {
  const limit = limitOf(state);
  if (limit === null || event.bytes === undefined || event.bytes === 0) return;
  exit.bytes ??= new WindowSums();
  exit.bytes.prune(state.at - limit.windowMs);
  exit.bytes.add(state.at, event.bytes);
}

/** Call it before another policy applies. */
export function forgetBytes(state: PoolState, next: Policy): void {
  const limit = limitOf(state);
  if (limit === null) return;
  for (const exit of [...state.exits.values(), ...state.former.values()]) {
    exit.bytes?.prune(state.at - limit.windowMs);
    if (exit.bytes?.size === 0 || !next.bytes) exit.bytes = null;
  }
}

/** Policies of older ledgers have no such field. */
function limitOf(state: PoolState): Policy["bytes"] {
  return state.rules.policy.bytes ?? null;
}

/** The instant from which the exit's reported bytes are below the limit. Not later than now: they are. */
function belowAt(state: PoolState, exit: Exit): number {
  const rule = limitOf(state);
  if (rule === null || bytesOf(state, exit, rule.windowMs) < rule.limit) return state.at;
  return allOf(exit).belowFrom(rule.limit) + rule.windowMs;
}

/** The sum of the bytes that were reported within the window. */
function bytesOf(state: PoolState, exit: Exit, windowMs: number): number {
  const from = state.at - windowMs;
  let sum = exit.bytes === null ? 0 : exit.bytes.sumAfter(from);
  if (exit.moved !== null) for (const { of } of exit.moved.past) sum += of.bytes?.sumAfter(from) ?? 0;
  return sum;
}

/** The exit, and the former ones that count there. */
function partsOf(exit: Exit): Exit[] {
  return exit.moved === null ? [exit] : [exit, ...exit.moved.past.map(({ of }) => of)];
}

function allOf(exit: Exit): WindowSums {
  if (exit.moved === null && exit.bytes !== null) return exit.bytes;
  return WindowSums.of(
    partsOf(exit)
      .flatMap((of) => of.bytes?.toArray() ?? [])
      .sort(([a], [b]) => a - b),
  );
}

/** When the last bytes that this exit itself has counted run out. */
function lastEnd(state: PoolState, { bytes: counted }: Exit): number {
  return counted === null ? 0 : counted.last + (limitOf(state)?.windowMs ?? 0);
}

function takenOf(state: PoolState, exit: Exit, { span }: Words): string[] {
  const rule = limitOf(state);
  if (rule === null) return [];
  return [`${bytesOf(state, exit, rule.windowMs)} of ${rule.limit} bytes within ${span(rule.windowMs)}`];
}
