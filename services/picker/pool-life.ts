// The life of one pool in one picker, as an actor. If another picker leads the pool, this one stands by. When no picker
// answers for the pool any more, its ledger is folded and claimed. The ledger lets only one picker do that.
//
// A leader that failed because of a bug is started again, with growing pauses. It counts as broken only if no command
// made it fail, because otherwise that command is left out.
import { assign, setup } from "xstate";
import { refuse } from "../../protocol/refusal.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import { Restarts } from "../../runtime/restarts.ts";
import { Follower } from "./follower.ts";
import type { Successor } from "./hand-over.ts";
import { LeftOut } from "./left-out.ts";
import { Openers } from "./openers.ts";
import { actors, type Context, held, type Input, type LifeEvent } from "./pool-actors.ts";
import { letGo } from "./serving.ts";

type Failed = { event: { error: unknown } };

const standByMs = 300;
/** So the longest pause is ten seconds. */
const doublingsMax = 4;

const opens = { open: { target: "#pool.asking", actions: "queue" } } as const;
const errorOf = { params: ({ event }: Failed) => event.error };
const withError = [
  { type: "refuseOpeners", ...errorOf },
  { type: "noteError", ...errorOf },
] as const;
const onError = [
  { guard: { type: "isForGood", ...errorOf }, target: "#pool.broken", actions: withError },
  { target: "#pool.standingBy", actions: withError },
] as const;

export const poolMachine = setup({
  types: { context: {} as Context, input: {} as Input, events: {} as LifeEvent, tags: {} as "settled" | "unusable" },
  actors,
  guards: {
    isFollower: ({ context: { picker, pool } }) => picker.peers.follows(pool),
    isForGood: (_, error: unknown) => error instanceof Fault && error.code !== "retry-later",
  },
  actions: {
    queue: ({ context, event }) => event.type === "open" && context.openers.add(event.opener),
    check: ({ context }) => context.openers.check(held(context).requests),
    submit: ({ context }) => context.openers.submit(held(context).requests),
    passOn: ({ context: { openers, picker, pool } }) =>
      openers.passOn((asked) => picker.peers.ask(pool, { verb: "pool.open", ...asked })),
    refuseOpeners({ context: { openers, picker, pool } }, error: unknown) {
      const { log } = picker.options;
      if (error instanceof Fault) log.error({ pool, code: error.code }, error.message);
      else log.error({ pool, err: error }, "the pool cannot be led");
      const why = error instanceof Fault ? error.message : "The pool cannot be opened now: see the picker's log.";
      openers.refuse(refuse("unavailable", why, { retryAfterMs: 1000 }));
    },
    noteError: assign(({ context: { failures, picker } }, error: unknown) => ({
      fault: error instanceof Fault ? error : undefined,
      failures: picker.options.buses.ledger.up ? failures + 1 : 0,
    })),
    noteDefect({ context: { openers, picker, pool }, event }) {
      if (event.type !== "broke" || event.defect === undefined) return;
      picker.defects.note("pool", event.defect, { pool, ...event.leftOut });
      openers.askAgain();
    },
    sayEnd: ({ context: { picker, pool }, event: { type: why } }) =>
      picker.options.log.info({ pool, why }, "no longer leading the pool"),
  },
  delays: {
    restart: ({ context: { restarts } }) => restarts.pauseMs(),
    // Random, so that two standing-by pickers do not claim in turns. Longer with each failure in a row.
    pause: ({ context: { failures } }) =>
      (standByMs + Math.floor(Math.random() * standByMs)) * 2 ** Math.min(Math.max(0, failures - 1), doublingsMax),
  },
}).createMachine({
  id: "pool",
  context: ({ input }) => ({
    ...{ ...input, openers: new Openers(), sequence: 0, messages: 0, failures: 0 },
    ...{ leftOut: new LeftOut(systemClock), restarts: new Restarts(systemClock), follower: new Follower() },
  }),
  initial: "unknown",
  on: {
    stop: ".stopped",
    open: { actions: "queue" },
    late: { target: ".standingBy", description: "the present phase makes no progress", actions: withError },
  },
  states: {
    unknown: { on: { lead: "asking", seen: "standingBy", ...opens } },
    standingBy: {
      ...{ tags: "settled", entry: "passOn", after: { pause: "asking" } },
      on: { ...opens, leaving: { guard: "isFollower", target: "inheriting" } },
    },
    // It holds the state of a pool that another picker leads, and claims it at once when it has no leader any more.
    following: {
      ...{ tags: "settled", entry: [assign({ follower: () => new Follower() }), "passOn"] },
      invoke: {
        src: "follow",
        input: ({ context, self }) => ({ ...context, tell: self.send }),
        onDone: [
          {
            guard: ({ event }) => event.output === undefined,
            description: "other pickers follow it, or it must be folded anew",
            target: "standingBy",
          },
          { target: "held", actions: assign({ served: ({ event }) => event.output }) },
        ],
        onError,
      },
      on: {
        open: { actions: ["queue", "passOn"] },
        leaving: { actions: ({ context, event }) => context.follower.leaving(event.successor) },
      },
    },
    // Its leader hands it over, if this picker is the first that has folded its ledger.
    inheriting: {
      invoke: {
        src: "inherit",
        input: ({ context, event, self }) => ({ ...context, tell: self.send, successor: successorIn(event) }),
        onDone: [
          {
            guard: ({ event }) => event.output === undefined,
            description: "another picker succeeds its leader",
            target: "standingBy",
          },
          { target: "held", actions: assign({ served: ({ event }) => event.output }) },
        ],
        onError,
      },
      on: {
        open: { actions: "queue" },
        noticed: { description: "another picker leads it", target: "standingBy" },
      },
    },
    asking: {
      on: { leaving: { guard: "isFollower", target: "inheriting" } },
      invoke: {
        src: "isLed",
        input: ({ context }) => context,
        onDone: [
          {
            guard: ({ context, event }) => event.output && context.picker.peers.follows(context.pool),
            description: "another picker leads it, and this one follows it",
            target: "following",
          },
          { guard: ({ event }) => event.output, description: "another picker leads it", target: "standingBy" },
          { target: "folding" },
        ],
        onError,
      },
    },
    folding: {
      invoke: {
        src: "fold",
        input: ({ context, self }) => ({ ...context, tell: self.send }),
        onDone: { target: "held", actions: assign({ served: ({ event }) => event.output }) },
        onError,
      },
    },
    held: {
      initial: "deciding",
      exit: [
        ({ context }) => letGo(held(context)),
        assign(({ context }) => ({ sequence: held(context).leader.last.seq, served: undefined })),
      ],
      on: {
        open: { actions: ["queue", "submit"] },
        fenced: { target: "standingBy", actions: "sayEnd" },
        // The next attempts come after longer pauses, so that a picker that can catch up comes first.
        stuck: {
          target: "standingBy",
          actions: ["sayEnd", assign({ failures: ({ context }) => context.failures + 1 })],
        },
        noticed: {
          guard: ({ context, event }) => event.term > held(context).leader.state.term,
          description: "another picker leads it under a higher term",
          target: "standingBy",
          actions: "sayEnd",
        },
        closed: { target: "closed", actions: "sayEnd" },
        broke: [
          {
            guard: ({ event }) => event.leftOut !== undefined,
            description: "a command made it fail",
            target: "failed",
            actions: "noteDefect",
          },
          {
            guard: ({ event }) => event.defect !== undefined,
            description: "a bug, without a command",
            target: "failing",
            actions: ["noteDefect", ...withError],
          },
          { target: "broken", actions: withError },
        ],
      },
      states: {
        deciding: {
          exit: "check",
          always: [
            {
              guard: ({ context }) => held(context).leader.state.opened && held(context).handed !== undefined,
              description: "was handed over",
              target: "claiming",
              actions: "submit",
            },
            { guard: ({ context }) => held(context).leader.state.opened, description: "is open", target: "confirming" },
            {
              guard: ({ context }) => context.openers.wouldOpen(held(context).requests),
              description: "is to be opened",
              target: "confirming",
            },
            {
              guard: ({ context }) => held(context).leader.last.seq === 0,
              description: "has no ledger",
              target: "#pool.forgotten",
            },
            { target: "#pool.closed" },
          ],
        },
        // A request that is submitted makes the leader claim.
        confirming: {
          invoke: {
            src: "confirm",
            input: ({ context }) => context,
            onDone: [
              {
                guard: ({ event }) => event.output,
                description: "another picker leads it",
                target: "#pool.standingBy",
              },
              { target: "claiming", actions: "submit" },
            ],
            onError,
          },
          on: { open: { actions: ["queue", "check"] } },
        },
        claiming: {
          invoke: { src: "claim", input: ({ context }) => context, onError },
          on: { claimed: "catchingUp" },
        },
        // From the claim on, not only after catching up: otherwise a picker that stands by would consider this one
        // gone.
        catchingUp: {
          entry: [
            ({ context }) => held(context).keeper.start(),
            ({ context }) => held(context).subscriptions.push(context.picker.peers.answer(held(context))),
          ],
          on: { caughtUp: "preparing" },
        },
        preparing: { invoke: { src: "serve", input: ({ context }) => context, onDone: "leading", onError } },
        leading: {
          tags: "settled",
          entry: [({ context }) => context.openers.answer(held(context).loss), assign({ failures: 0 })],
        },
      },
    },
    closed: {
      tags: "settled",
      entry: "passOn",
      on: {
        ...opens,
        // Another picker may have opened it since.
        seen: {
          guard: ({ context, event }) => event.messages !== context.messages,
          description: "its ledger has grown",
          target: "checking",
          actions: assign({ messages: ({ event }) => event.messages }),
        },
      },
    },
    checking: {
      invoke: {
        src: "lastSequence",
        input: ({ context }) => context,
        onDone: [
          {
            guard: ({ context, event }) => event.output === context.sequence,
            description: "as it was",
            target: "closed",
          },
          { target: "standingBy" },
        ],
        onError: { target: "closed", actions: assign({ messages: 0 }) },
      },
      on: opens,
    },
    failed: { tags: "settled", after: { restart: "asking" }, on: opens },
    failing: { tags: ["settled", "unusable"], after: { restart: "asking" }, on: opens },
    broken: { tags: ["settled", "unusable"], on: opens },
    forgotten: { type: "final", tags: "settled" },
    stopped: { type: "final", tags: "settled", entry: "passOn" },
  },
});

function successorIn(event: { type: string }): Successor {
  return (event as Extract<LifeEvent, { type: "leaving" }>).successor; // No other event leads to that state.
}
