// The steps in the life of a pool (pool-life.ts) that take time.
import { fromPromise } from "xstate";
import type { Fault } from "../../runtime/fault.ts";
import type { Restarts } from "../../runtime/restarts.ts";
import type { Follower } from "./follower.ts";
import type { Gate } from "./gate.ts";
import { inherit, type Successor } from "./hand-over.ts";
import type { LeaderEvent } from "./leader-event.ts";
import type { LeftOut } from "./left-out.ts";
import type { Opener, Openers } from "./openers.ts";
import type { Peers } from "./peers.ts";
import { foldPool, type Prepared, preparePool, type Served, type Station, servePool } from "./serving.ts";
import { lastSequence } from "./streams.ts";

export interface Input {
  pool: string;
  picker: Station & { peers: Peers };
}

export interface Context extends Input {
  openers: Openers;
  served?: Served | undefined;
  /** Sequence of the ledger's last commit when the pool was let go. */
  sequence: number;
  /** Size of the ledger at the last check whether the pool is still closed. */
  messages: number;
  /** Why the last attempt to lead it failed. */
  fault?: Fault | undefined;
  /** How many attempts in a row failed although the broker was there. */
  failures: number;
  leftOut: LeftOut;
  restarts: Restarts;
  follower: Follower;
}

export type LifeEvent =
  | { type: "lead" }
  | { type: "open"; opener: Opener }
  /** The pool's leader looks for a successor. */
  | { type: "leaving"; successor: Successor }
  /** The pool's ledger has this many commits. */
  | { type: "seen"; messages: number }
  /** A picker leads the pool under this term. */
  | { type: "noticed"; term: number }
  /** The present phase has lasted too long. */
  | { type: "late"; error: Fault }
  | LeaderEvent
  | { type: "stop" };

type Tells = { tell: (event: LifeEvent) => void };
export const actors = {
  isLed: fromPromise<boolean, Input>(({ input: { picker, pool } }) => picker.peers.isLed(pool)),
  fold: fromPromise<Served, Context & Tells>(({ input, signal }) =>
    input.picker.folds(() => foldPool(input.pool, foldGiven(input, signal))),
  ),
  inherit: fromPromise<Served | undefined, Context & Tells & { successor: Successor }>(async ({ input, signal }) => {
    const prepared = await prepare(input, signal);
    let served: Served | undefined;
    try {
      served = await inherit(prepared, { successor: input.successor, signal });
      return served;
    } finally {
      if (served === undefined) prepared.end();
    }
  }),
  follow: fromPromise<Served | undefined, Context & Tells>(({ input, signal }) => {
    const { picker, pool, follower } = input;
    const { peers } = picker;
    return follower.follow({
      prepare: () => prepare(input, signal),
      isWanted: () => peers.follows(pool),
      isLed: () => peers.isLed(pool),
      onGone: (callback) => peers.onGone(pool, callback),
      signal,
    });
  }),
  // The fold may have taken long.
  confirm: fromPromise<boolean, Input>(({ input: { picker, pool } }) => picker.peers.isLed(pool)),
  // The leader reports the result of the claim.
  claim: fromPromise<boolean, Context>(({ input }) => held(input).leader.lead()),
  serve: fromPromise<void, Context>(({ input, signal }) => servePool(held(input), { picker: input.picker, signal })),
  lastSequence: fromPromise<number | undefined, Input>(({ input: { picker, pool } }) =>
    lastSequence(picker.options.buses.ledger, pool),
  ),
};

export function held({ served }: Context): Served {
  if (served === undefined) throw new Error("the pool is not held");
  return served;
}

function prepare(input: Context & Tells, signal: AbortSignal): Promise<Prepared> {
  return input.picker.folds(() => preparePool(input.pool, foldGiven(input, signal)));
}

function foldGiven(input: Context & Tells, signal: AbortSignal) {
  const { picker, pool, openers, leftOut, tell } = input;
  return {
    ...{ picker, leftOut, tell, signal },
    seen: () => picker.peers.seen(pool),
    forget: openers.wouldForget,
    // Each client that hears of the new leader repeats its requests at once, so they must find it.
    announce: async (term: number, gate: Gate) => {
      await gate.subscribe();
      await picker.peers.announce(pool, term);
    },
  };
}
