// One refresh in an executor, as an actor: it is taken from the pool's leader, its request is made through its proxy, and
// the leader is told what came of it. While nobody leads the pool, taking and telling are repeated until it is too late.

import type { Logger } from "pino";
import { assign, fromPromise, setup } from "xstate";
import { isRefusal } from "../../protocol/refusal.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import type { TokenJob, TokenResult } from "../../protocol/token.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Expressions } from "./expressions.ts";
import { fetchToken } from "./request.ts";

export interface RefreshInput {
  pool: string;
  tokenId: string;
  /** An instant of `performance.now()`, like all below: nobody is interested in it after that. */
  until: number;
  ports: { executor: string; requests: Bus; expressions: Expressions; log: Logger; ending: AbortSignal };
}

interface Taken {
  job: TokenJob;
  /** Nothing is sent later. */
  endsAt: number;
  /** The refresh's deadline in the ledger. */
  deadlineAt: number;
}

interface Context extends RefreshInput {
  taken?: Taken;
  result?: TokenResult;
}

/** So long after its deadline a refresh is of no interest any more. */
export const lateMs = 5000;
const pauseMs = 100;
const answerMs = 2000;

export const refreshMachine = setup({
  types: { context: {} as Context, input: {} as RefreshInput },
  actors: {
    take: fromPromise<Taken | undefined, Context>(({ input }) => take(input)),
    fetch: fromPromise<TokenResult, Context>(({ input }) => fetchResult(input)),
    tell: fromPromise<unknown, Context>(({ input }) => tell(input)),
  },
  guards: {
    // An executor that ends takes no refresh any more, and brings what it has.
    executorEnds: ({ context }) => context.ports.ending.aborted,
  },
  delays: {
    pause: pauseMs,
    deadline: ({ context: { until, taken } }) =>
      (taken === undefined ? until : taken.endsAt + lateMs) - performance.now(),
  },
}).createMachine({
  id: "refresh",
  context: ({ input }) => input,
  initial: "taking",
  states: {
    taking: {
      invoke: {
        src: "take",
        input: ({ context }) => context,
        onDone: [
          { guard: ({ event }) => event.output === undefined, description: "nothing to do", target: "over" },
          { target: "fetching", actions: assign({ taken: ({ event }) => event.output }) },
        ],
        onError: [{ guard: "executorEnds", target: "over" }, { target: "takingLater" }],
      },
      after: { deadline: "over" },
    },
    takingLater: { after: { pause: "taking" } },
    fetching: {
      invoke: {
        src: "fetch",
        input: ({ context }) => context,
        onDone: { target: "telling", actions: assign({ result: ({ event }) => event.output }) },
      },
    },
    telling: {
      invoke: { src: "tell", input: ({ context }) => context, onDone: "over", onError: "tellingLater" },
      after: { deadline: "over" },
    },
    tellingLater: { after: { pause: "telling" } },
    over: { type: "final" },
  },
});

/** Undefined: there is nothing to do, since another executor has it or it is over. */
async function take({ pool, tokenId, ports }: Context): Promise<Taken | undefined> {
  // The job's time counts from when it was asked for, by the clock of this process alone.
  const askedAt = performance.now();
  const answer = await ask(ports.requests, { verb: "token.take", pool, body: { tokenId, executor: ports.executor } });
  const job = (answer ?? {}) as Partial<TokenJob>; // What the leader answers.
  if (job.leftMs === undefined) return undefined;
  const whole = job as TokenJob; // With `leftMs` all of it is there.
  return { job: whole, endsAt: askedAt + whole.leftMs, deadlineAt: performance.now() + whole.deadlineMs };
}

async function fetchResult({ pool, tokenId, taken, ports }: Context): Promise<TokenResult> {
  if (taken === undefined) throw new Error("a refresh is fetched that was not taken");
  const { job, endsAt, deadlineAt } = taken;
  // Of the time until the deadline, as the leader counts it, no more was left when the request was sent. So the leader
  // knows from when on the token lives, however late the result is brought.
  const leftMs = Math.max(0, Math.ceil(deadlineAt - performance.now()));
  const brought = await fetchToken(job, endsAt, ports);
  const { outcome, why } = brought;
  if (why === undefined) ports.log.debug({ pool, tokenId }, "a token has been fetched");
  else ports.log.warn({ pool, tokenId, why, status: outcome?.status }, "a token could not be fetched");
  return { tokenId, leaseId: job.leaseId, leftMs, ...brought };
}

async function tell({ pool, result, ports }: Context): Promise<void> {
  await ask(ports.requests, { verb: "token.result", pool, body: result ?? {} });
}

/** Undefined: refused for good. @throws while nobody leads the pool: the same may be asked twice. */
async function ask(
  requests: Bus,
  { verb, pool, body }: { verb: "token.take" | "token.result"; pool: string; body: object },
): Promise<object | undefined> {
  const reply = await requestOn(requests, requestSubject(verb, pool), JSON.stringify(body), { timeoutMs: answerMs });
  const answer = reply.json<object>();
  if (!isRefusal(answer)) return answer;
  if (answer.retryAfterMs !== undefined) throw new Fault("retry-later", answer.message);
  return undefined;
}
