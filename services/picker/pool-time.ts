// Finds the instant at which a new leader continues the pool's time. It must never be ahead of the true time: a filled
// window would open too early. A clock may have been set forward between the last commit and the claim, so no single
// clock is trusted.
//
// A picker that has followed the pool's leader goes on by its own monotonic clock. A cold start adds the smallest of
// three clocks' readings: the broker's, this machine's, and the time since this machine's boot.
import { type BootTime, type Clock, termTime } from "../../runtime/clock.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { isIdle } from "../../state-machines/decide/pool.ts";
import { advance } from "../../state-machines/fold/evolve.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";

/** The pool's time as its leader reported it: at least `at` when this process's monotonic clock showed `on`. */
export interface Seen {
  term: number;
  at: number;
  on: number;
}

/** The pool's time as a leader on this machine left it in the data directory. */
export interface Kept {
  term: number;
  at: number;
  boot: BootTime;
}

export interface TimePorts {
  ledger: Pick<Ledger, "now">;
  clock: Clock;
  /** Absent: this process did not follow the pool. */
  seen?: Seen | undefined;
  kept?: Kept | undefined;
}

/** The last commit that was folded: when the broker stored it, and when this process read it by its monotonic clock. */
export interface LastRead {
  storedAt: number;
  on: number;
}

/** Two monotonic clocks drift apart. Within this time the drift is far below the margin of any sensible policy. */
const seenMsMax = 60_000;

/**
 * Advances the folded state to the present. Returns the pool's time from now on, which is behind by the time that it
 * took to read a commit, and by the time that a leader's machine has slept. It catches up when no timed end is pending.
 */
export async function goOn(ports: TimePorts, state: PoolState, last: LastRead): Promise<() => number> {
  const brokerAt = await ports.ledger.now();
  const on = ports.clock.monotonic();
  const { seen } = ports;
  const hasFollowed = seen !== undefined && on - seen.on <= seenMsMax;
  advance(state, hasFollowed ? followedTo(seen, state, { last, on }) : coldStart(ports, state, { last, brokerAt }));
  const at = isIdle(state) ? Math.max(state.at, brokerAt) : state.at;
  return termTime(ports.clock, { at, on });
}

/** The times of a leader of an earlier term do not count: the present term's time may be behind them. */
function followedTo(seen: Seen, state: PoolState, { last, on }: { last: LastRead; on: number }): number {
  const readMs = Math.floor(on - last.on);
  const sinceRead = state.at + (readMs <= seenMsMax ? readMs : 0);
  return seen.term === state.term ? Math.max(sinceRead, seen.at + Math.floor(on - seen.on)) : sinceRead;
}

function coldStart(
  { clock, kept }: TimePorts,
  state: PoolState,
  { last, brokerAt }: { last: LastRead; brokerAt: number },
): number {
  const from = Math.max(state.at, last.storedAt);
  const passedMs = [brokerAt - from, clock.wall() - from, sinceKept(kept, clock, state)];
  return state.at + Math.max(0, Math.min(...passedMs));
}

/** Infinity: not known, because the machine was started since, or a leader elsewhere was the last. */
function sinceKept(kept: Kept | undefined, clock: Clock, state: PoolState): number {
  const boot = clock.boot?.();
  if (kept === undefined || boot === undefined || boot.id !== kept.boot.id) return Infinity;
  const keptMs = Math.floor(boot.ms - kept.boot.ms);
  // A commit of a later term was stored after that.
  return kept.term === state.term ? kept.at + keptMs - state.at : keptMs;
}
