// The connection of one command. It fails fast: within seconds the user must know that no service answers, and how to
// start one.
import { type NatsConnection, PermissionViolationError, RequestError } from "@nats-io/transport-node";
import type { PoolReply } from "../protocol/pool.ts";
import { isRefusal, type Refusal, refuse } from "../protocol/refusal.ts";
import { poolListSubject, requestSubject } from "../protocol/subjects.ts";
import type { Verb } from "../protocol/verbs.ts";
import { type Bus, openBus } from "../runtime/bus.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { dial, whyNot } from "../runtime/dial.ts";
import { Fault } from "../runtime/fault.ts";
import { maskedNatsUrl } from "../runtime/nats-url.ts";
import type { Address } from "./address.ts";
import type { Asked } from "./arguments.ts";
import { Refused } from "./failure.ts";
import { printJson } from "./output.ts";

const connectMs = 3000;
/** A reply is awaited this long, in addition to the request's own wait. */
const answerMs = 15_000;
/** Longer than any request may wait. The service refuses a longer wait at once. */
const waitMsMax = 600_000;
/** A pool that has lost its leader gets a new one within about a second. */
const leaderlessMsMax = 4000;
const leaderlessStepMs = 200;

/** @throws Refused if the service refuses, Fault "retry-later" if it does not answer. */
export type Ask = <Reply extends object>(verb: Verb, body: object, waitMs?: number) => Promise<Reply>;

export type WithService = <T>(asked: Asked, use: (ask: Ask) => Promise<T>) => Promise<T>;

/** @param find called when a command needs the service. */
export function serviceAt(find: () => Address, clock: Clock = systemClock): WithService {
  return async ({ pool, json }, use) => {
    const { natsUrl: url, tlsCa } = find();
    const nc = await dial(url, {
      caFile: tlsCa,
      unanswered: (where, why) =>
        `no service at ${where} (${why}). Start it with "npx remuda up", or set REMUDA_NATS_URL to its address.`,
      name: "remuda command line",
      timeout: connectMs,
      reconnect: false,
    });
    try {
      return await use((verb, body, waitMs = 0) => ask({ nc, url, clock }, { verb, pool, body, waitMs }));
    } catch (error) {
      if (error instanceof Refused && json === true && !error.isTold) printJson(error.refusal);
      throw error;
    } finally {
      await nc.close();
    }
  };
}

/** Opens a connection for `use`, and closes it afterwards. */
export async function withBus<T>({ natsUrl, tlsCa }: Address, name: string, use: (bus: Bus) => Promise<T>): Promise<T> {
  const bus = await openBus(natsUrl, name, { caFile: tlsCa });
  try {
    return await use(bus);
  } finally {
    await bus.close();
  }
}

interface Line {
  nc: NatsConnection;
  url: string;
  clock: Clock;
}
interface Request {
  verb: Verb;
  pool: string;
  body: object;
  waitMs: number;
}

async function ask<Reply extends object>(line: Line, request: Request): Promise<Reply> {
  const { nc, url, clock } = line;
  const { verb, pool, body } = request;
  const subject = requestSubject(verb, pool);
  const deadline = clock.monotonic() + leaderlessMsMax;
  for (;;) {
    try {
      const message = await nc.request(subject, JSON.stringify(body), {
        timeout: answerMs + Math.min(request.waitMs, waitMsMax),
      });
      const reply = message.json<object>();
      if (isRefusal(reply)) throw new Refused(reply);
      return reply as Reply; // The protocol defines the reply of this verb.
    } catch (error) {
      if (error instanceof Refused) throw error;
      if (!(error instanceof RequestError && error.isNoResponders())) throw unanswered(error, url);
      await explainNoResponders(line, request); // Throws, unless the pool is open and only its leader is missing.
      if (clock.monotonic() > deadline) {
        throw new Fault("retry-later", `the pool ${pool} has no leader at the moment. Try again in a few seconds.`);
      }
      await new Promise<void>((resolve) => clock.after(leaderlessStepMs, resolve));
    }
  }
}

/** No responders: no picker runs, or this pool is not open, or it has just lost its leader. */
async function explainNoResponders(line: Line, { verb, pool }: Request): Promise<void> {
  const where = maskedNatsUrl(line.url);
  const noPicker = `NATS answers at ${where}, but no picker does. Start one with "npx remuda up" or "npx remuda run picker".`;
  if (verb === "pool.list") throw new Fault("retry-later", noPicker);
  const about = await askAnyPicker(line, requestSubject("pool.get", pool));
  if (about === "no-picker") throw new Fault("retry-later", noPicker);
  if (isRefusal(about)) {
    if (about.code === "unavailable") return;
    throw new Refused(about.code === "unknown-pool" ? await notOpen(line, pool) : about);
  }
  if (verb.startsWith("sources."))
    throw new Fault("retry-later", `no sources service answers at ${where}. Start one with "npx remuda run sources".`);
}

async function notOpen(line: Line, pool: string): Promise<Refusal> {
  const listed = await askAnyPicker(line, poolListSubject);
  const pools = listed === "no-picker" || isRefusal(listed) ? undefined : (listed as { pools: PoolReply[] }).pools; // Its reply.
  const names = pools?.map((each) => each.pool).join(", ");
  const open = names === undefined ? "" : names === "" ? " No pool is open." : ` Open: ${names}.`;
  return refuse(
    "unknown-pool",
    `The pool ${pool} is not open. Open it with "npx remuda pool open --pool ${pool}".${open}`,
  );
}

async function askAnyPicker({ nc, url }: Line, subject: string): Promise<object | "no-picker"> {
  try {
    return (await nc.request(subject, "", { timeout: answerMs })).json<object>();
  } catch (error) {
    if (error instanceof RequestError && error.isNoResponders()) return "no-picker";
    throw unanswered(error, url);
  }
}

/** Why a request over NATS failed, as a sentence. */
export function unanswered(error: unknown, url: string): Fault {
  const cause = error instanceof RequestError && error.cause !== undefined ? error.cause : error;
  if (cause instanceof PermissionViolationError) {
    const message = `NATS at ${maskedNatsUrl(url)} does not allow this user to use ${cause.subject}. Run the command where the service runs, or log in as another user (for ledgers: npx remuda env --as auditor).`;
    return new Fault("fix-setup", message, { cause });
  }
  return new Fault("retry-later", `no answer from ${maskedNatsUrl(url)} (${whyNot(cause)}). Try again.`, { cause });
}
