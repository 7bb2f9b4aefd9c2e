// One refresh in an executor, as an actor. It takes the refresh from the pool's leader, makes the request through its
// proxy, and reports the result to the leader. While the pool has no leader, it retries taking and reporting until the
// deadline has passed.

import type { Logger } from "pino";
import { assign, fromPromise, setup } from "xstate";
import { isRefusal } from "../../protocol/refusal.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import type { TokenJob, TokenResult } from "../../protocol/token.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import type { Defects } from "../../runtime/defects.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Outbound } from "../../transport/outbound.ts";
import type { Expressions } from "./expressions.ts";
import type { Fetched } from "./request.ts";

export interface RefreshInput {
  pool: string;
  tokenId: string;
  /** An instant of `performance.now()`, like all below. After it the result is useless. */
  until: number;
  ports: {
    executor: string;
    requests: Bus;
    expressions: Expressions;
    outbound: Outbound;
    log: Logger;
    defects: Pick<Defects, "note">;
    ending: AbortSignal;
  };
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

/** A refresh is useless this long after its deadline. */
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
    // An executor that ends takes no further refresh, and reports the results that it has.
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

/** Undefined if there is nothing to do, because another executor has it or it is over. */
async function take({ pool, tokenId, ports }: Context): Promise<Taken | undefined> {
  // The job's time counts from the moment of asking, by this process's clock alone.
  const askedAt = performance.now();
  const answer = await ask(ports.requests, { verb: "token.take", pool, body: { tokenId, executor: ports.executor } });
  const job = (answer ?? {}) as Partial<TokenJob>; // The leader's answer has this type.
  if (job.leftMs === undefined) return undefined;
  const whole = job as TokenJob; // A job with `leftMs` has all fields.
  return { job: whole, endsAt: askedAt + whole.leftMs, deadlineAt: performance.now() + whole.deadlineMs };
}

async function fetchResult({ pool, tokenId, taken, ports }: Context): Promise<TokenResult> {
  if (taken === undefined) throw new Error("a refresh is fetched although it was not taken");
  const { job, endsAt, deadlineAt } = taken;
  const { fetchToken } = await import("./request.ts"); // It loads the modules for HTTP through proxies.
  // How much time was left until the leader's deadline when the request was sent. From it the leader knows when the
  // token's life began, however late the result is reported.
  const leftMs = Math.max(0, Math.ceil(deadlineAt - performance.now()));
  const expressions = ports.expressions.of(pool);
  const fetched = await fetchToken(job, endsAt, { ...ports, expressions }).catch((error: unknown): Fetched => {
    ports.defects.note("refresh", error, { pool, tokenId });
    return failed;
  });
  const { outcome, why } = fetched;
  if (why === undefined) ports.log.debug({ pool, tokenId }, "a token has been fetched");
  else ports.log.warn({ pool, tokenId, why, status: outcome?.status }, "a token could not be fetched");
  return { tokenId, leaseId: job.leaseId, leftMs, ...fetched };
}

/**
 * After a bug. The pool's leader begins another refresh, with growing pauses. A request may have been sent,
 * without a fault of the proxy.
 */
const failed: Fetched = { why: "unreachable", outcome: { n: 1, result: "failure", reason: "client-abort" } };

async function tell({ pool, result, ports }: Context): Promise<void> {
  await ask(ports.requests, { verb: "token.result", pool, body: result ?? {} });
}

/**
 * Undefined if refused permanently.
 * @throws while the pool has no leader: the same request may be sent twice.
 */
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
