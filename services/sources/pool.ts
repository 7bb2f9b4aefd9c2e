// The few verbs of the protocol with which a source calls the picker. Every failure is a Fault or a value here, a
// missing answer included. Nothing is retried, because the next reading follows.
import { RequestError } from "@nats-io/transport-node";
import type { LeaseReply } from "../../protocol/lease.ts";
import type { PoolReply } from "../../protocol/pool.ts";
import type { AddReply, ChangedReply, ExportReply, ProxyReply } from "../../protocol/proxy.ts";
import { isRefusal, type Refusal } from "../../protocol/refusal.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import type { Verb } from "../../protocol/verbs.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";

const answerMs = 15_000;
const pageMax = 1000;

/** The pool has failed, not the source. */
export class PoolAway extends Fault {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("retry-later", message, options);
  }
}

export interface PoolPort {
  add(pool: string, proxies: readonly object[]): Promise<AddReply>;
  retire(pool: string, ids: readonly string[], reason: string): Promise<ChangedReply>;
  /** How many proxies could be leased now. */
  leasable(pool: string): Promise<number>;
  proxy(pool: string, id: string): Promise<ProxyReply | Refusal>;
  lease(pool: string, request: { proxyId: string; holder: string }): Promise<LeaseReply | Refusal>;
  report(pool: string, outcome: object): Promise<void>;
  /** When the pool was opened. A different instant means a different pool of the same name. */
  openedAt(pool: string): Promise<number>;
  /** The ids of all proxies that the pool knows, retired ones included, page by page. */
  ids(pool: string): AsyncIterable<string[]>;
  /** All pages, with credentials. */
  proxies(pool: string, labels: Record<string, string> | undefined): Promise<ExportReply["proxies"]>;
}

const howToOpen = (pool: string): string => `npx remuda pool open --pool ${pool}`;

export function poolsOver(bus: Bus): PoolPort {
  /** @throws PoolAway with the refusal's sentence, or saying that there was no answer. */
  async function ask<Reply>(verb: Verb, pool: string, body: object): Promise<Reply> {
    const answer = await askOrRefusal<Reply & object>(verb, pool, body);
    if (isRefusal(answer)) {
      const isShut = answer.code === "unknown-pool";
      throw new PoolAway(`the pool ${pool}${isShut ? ` is not open (${howToOpen(pool)})` : `: ${answer.message}`}`);
    }
    return answer;
  }
  async function askOrRefusal<Reply extends object>(verb: Verb, pool: string, body: object): Promise<Reply | Refusal> {
    const reply = await requestOn(bus, requestSubject(verb, pool), JSON.stringify(body), { timeoutMs: answerMs }).catch(
      (cause: unknown) => {
        const isNobody = cause instanceof RequestError && cause.isNoResponders();
        const why = isNobody ? `: it is not open (${howToOpen(pool)}), or its picker is away` : "";
        throw new PoolAway(`the pool ${pool} does not answer${why}`, { cause });
      },
    );
    return reply.json<Reply | Refusal>(); // The protocol defines this reply for the verb.
  }
  return {
    add: (pool, proxies) => ask("proxies.add", pool, { proxies, ids: true }),
    retire: (pool, ids, reason) => ask("proxies.retire", pool, { ids, reason }),
    async leasable(pool) {
      const { proxies } = await ask<{ proxies: { leasable: number } }>("pool.stats", pool, {});
      return proxies.leasable;
    },
    proxy: (pool, id) => askOrRefusal<ProxyReply>("proxies.get", pool, { id }),
    lease: (pool, request) => askOrRefusal<LeaseReply>("lease", pool, request),
    async report(pool, outcome) {
      await ask("report", pool, { outcomes: [outcome] });
    },
    async openedAt(pool) {
      return (await ask<PoolReply>("pool.get", pool, {})).openedAt;
    },
    async *ids(pool) {
      for (let after: string | undefined; ; ) {
        const page = await ask<{ proxies: { id: string }[]; next?: string }>("proxies.list", pool, {
          limit: pageMax,
          ...(after && { after }),
        });
        yield page.proxies.map(({ id }) => id);
        if (page.next === undefined) return;
        after = page.next;
      }
    },
    async proxies(pool, labels) {
      const all: ExportReply["proxies"] = [];
      for (let after: string | undefined; ; ) {
        const page = await ask<ExportReply>("proxies.export", pool, {
          ...(labels && { labels }),
          ...(after && { after }),
        });
        all.push(...page.proxies);
        if (page.next === undefined) return all;
        after = page.next;
      }
    },
  };
}
