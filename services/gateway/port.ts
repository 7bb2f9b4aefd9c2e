// The way to the pickers: over one NATS connection, for any user (client/port.ts). A request that a new leader does not
// have is given up at once, so that it is sent again.
import { headers, RequestError } from "@nats-io/transport-node";
import { type Attempt, Broken, orAborted, type Port } from "../../client/port.ts";
import { noticeIn } from "../../protocol/notice.ts";
import { userHeader } from "../../protocol/over-nats.ts";
import type { PoolsReply } from "../../protocol/pool.ts";
import { isRefusal, requestBytesMax, tooLarge } from "../../protocol/refusal.ts";
import { noticeSubject, noticeSubjects, poolListSubject, requestSubject } from "../../protocol/subjects.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";

const cancelMs = 2000;
const poolMs = 2000;

export interface Ports {
  /** Requests are sent for this user: its leases are its own. */
  for(user: string): Port;
  /** All open pools, with their policies. @throws Broken; an Error with the refusal's sentence. */
  pools(): Promise<PoolsReply["pools"]>;
  /** Calls back when a pool has a new leader. */
  onLeader(callback: () => void): void;
}

export function portsOver(bus: Bus): Ports {
  /** By pool: called when it has a new leader. That leader does not have the requests without an answer. */
  const listeners = new Map<string, Set<() => void>>();
  const terms = new Map<string, number>();
  const leaderCallbacks: (() => void)[] = [];
  bus.nc.subscribe(noticeSubjects, {
    callback(error, message) {
      if (error !== null) return;
      const pool = message.subject.slice(noticeSubject("").length);
      const term = noticeIn(message.string())?.term;
      if (term === undefined || term <= (terms.get(pool) ?? 0)) return;
      terms.set(pool, term);
      for (const callback of leaderCallbacks) callback();
      for (const tell of [...(listeners.get(pool) ?? [])]) tell();
    },
  });
  const onNewLeader = (pool: string, tell: () => void): (() => void) => {
    const ofPool = listeners.get(pool) ?? new Set();
    listeners.set(pool, ofPool.add(tell));
    return () => {
      ofPool.delete(tell);
      if (ofPool.size === 0 && listeners.get(pool) === ofPool) listeners.delete(pool);
    };
  };

  async function send(
    subject: string,
    text: string,
    { user, timeoutMs }: { user?: string; timeoutMs: number },
  ): Promise<unknown> {
    const sent = headers();
    if (user !== undefined) sent.set(userHeader, user);
    try {
      const reply = await requestOn(bus, subject, text, {
        timeoutMs,
        ...(user === undefined ? {} : { headers: sent }),
      });
      return reply.json<unknown>();
    } catch (error) {
      const isUnheard = error instanceof RequestError && error.isNoResponders();
      if (isUnheard) throw new Broken("no-leader", `No service answers ${subject}.`, error);
      throw new Broken(bus.up ? "no-answer" : "no-connection", `There was no answer to ${subject}.`, error);
    }
  }

  /** No service answers for the pool. Any picker knows whether it is open. */
  async function sendTo(
    pool: string,
    subject: string,
    text: string,
    how: { user: string; timeoutMs: number },
  ): Promise<unknown> {
    try {
      return await send(subject, text, how);
    } catch (error) {
      if (!(error instanceof Broken) || error.why !== "no-leader") throw error;
      const about = await send(requestSubject("pool.get", pool), "", { timeoutMs: poolMs }).catch(() => undefined);
      if (isRefusal(about) && about.code === "unknown-pool") return about;
      throw error;
    }
  }

  async function attempt(
    user: string,
    { verb, pool, body, timeoutMs, signal, late = () => {} }: Attempt,
  ): Promise<unknown> {
    signal?.throwIfAborted();
    const text = JSON.stringify(body);
    const bytes = Buffer.byteLength(text);
    if (bytes > requestBytesMax) return tooLarge(bytes);
    let cut = (_error: Broken): void => {};
    const broken = new Promise<never>((_resolve, reject) => {
      cut = reject;
    });
    const off = onNewLeader(pool, () => cut(new Broken("new-leader", `The pool ${pool} has a new leader.`)));
    const reply = sendTo(pool, requestSubject(verb, pool), text, { user, timeoutMs });
    reply.catch(() => {}); // It may be cut before.
    try {
      return await orAborted(Promise.race([reply, broken]), signal);
    } catch (error) {
      if (signal?.aborted) reply.then(late, () => {});
      throw error;
    } finally {
      off();
    }
  }

  return {
    for: (user) => ({
      bytesMax: requestBytesMax,
      attempt: (given) => attempt(user, given),
      async cancel(pool, requestId) {
        const text = JSON.stringify({ requestId });
        await send(requestSubject("cancel", pool), text, { user, timeoutMs: cancelMs }).catch(() => {});
      },
      onNewLeader,
      close: async () => {}, // The connection is shared.
    }),
    onLeader: (callback) => void leaderCallbacks.push(callback),
    async pools() {
      const reply = await send(poolListSubject, "{}", { timeoutMs: poolMs });
      if (isRefusal(reply)) throw new Error(reply.message);
      return (reply as PoolsReply).pools; // The protocol defines this reply for the verb.
    },
  };
}
