// The few verbs of the protocol with which a source calls the picker. Every failure is a Fault or a value here, a
// missing answer included. Nothing is retried, because the next reading follows.
import type { LeaseReply } from "../../protocol/lease.ts";
import type { PoolReply, StatsReply } from "../../protocol/pool.ts";
import type { AddReply, ChangedReply, ExportReply, ProxyReply } from "../../protocol/proxy.ts";
import { isRefusal, type Refusal } from "../../protocol/refusal.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import type { Verb } from "../../protocol/verbs.ts";
import { type Bus, isNoResponders, requestOn } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";

const answerMs = 15_000;
const pageMax = 1000;

/** The pool has failed, not the source. */
export class PoolAway extends Fault {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("retry-later", message, options);
  }
}

type ListReply = { proxies: { id: string }[]; next?: string };

const howToOpen = (pool: string): string => `npx remuda pool open --pool ${pool}`;

export type PoolPort = ReturnType<typeof poolsOver>;

export function poolsOver(bus: Bus) {
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
        const why = isNoResponders(cause) ? `: it is not open (${howToOpen(pool)}), or its picker is away` : "";
        throw new PoolAway(`the pool ${pool} does not answer${why}`, { cause });
      },
    );
    return reply.json<Reply | Refusal>(); // The protocol defines this reply for the verb.
  }
  async function* pagesOf<Page extends { next?: string | undefined }>(
    verb: Verb,
    pool: string,
    body: object,
  ): AsyncGenerator<Page> {
    for (let after: string | undefined; ; ) {
      const page = await ask<Page>(verb, pool, { ...body, ...(after && { after }) });
      yield page;
      if (page.next === undefined) return;
      after = page.next;
    }
  }
  return {
    add: (pool: string, proxies: readonly object[]) => ask<AddReply>("proxies.add", pool, { proxies, ids: true }),
    retire: (pool: string, ids: readonly string[], reason: string) =>
      ask<ChangedReply>("proxies.retire", pool, { ids, reason }),
    close: (pool: string) => ask<PoolReply>("pool.close", pool, {}),
    /** How many proxies could be leased now. */
    leasable: async (pool: string): Promise<number> => (await ask<StatsReply>("pool.stats", pool, {})).proxies.leasable,
    proxy: (pool: string, id: string) => askOrRefusal<ProxyReply>("proxies.get", pool, { id }),
    lease: (pool: string, request: { proxyId: string; holder: string }) =>
      askOrRefusal<LeaseReply>("lease", pool, request),
    async report(pool: string, outcome: object): Promise<void> {
      await ask("report", pool, { outcomes: [outcome] });
    },
    /** When the pool was opened. A different instant means a different pool of the same name. */
    openedAt: async (pool: string): Promise<number> => (await ask<PoolReply>("pool.get", pool, {})).openedAt,
    /** The ids of all proxies that the pool knows, retired ones included, page by page. */
    async *ids(pool: string): AsyncGenerator<string[]> {
      for await (const { proxies } of pagesOf<ListReply>("proxies.list", pool, { limit: pageMax }))
        yield proxies.map(({ id }) => id);
    },
    /** With credentials, page by page. */
    async *proxies(pool: string, labels: Record<string, string> | undefined): AsyncGenerator<ExportReply["proxies"]> {
      for await (const { proxies } of pagesOf<ExportReply>("proxies.export", pool, labels ? { labels } : {}))
        yield proxies;
    },
  };
}
