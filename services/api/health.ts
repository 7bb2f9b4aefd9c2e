// How the service is: alive, ready, and in numbers.
import { z } from "zod";
import type { PoolReply, StatsReply } from "../../events/pool.ts";
import { refuse } from "../../events/refusal.ts";
import { type Ask, replyIn } from "./ask.ts";
import type { Ledgers } from "./ledger.ts";
import { Durations, type Family, showMetrics } from "./metrics.ts";
import { sendRefusal } from "./refusal.ts";
import { answers } from "./reply.ts";
import type { Api } from "./request.ts";

const tags = ["service"];
const retryAfterMs = 1000;

export interface HealthPorts {
  ask: Ask;
  ledgers: Ledgers;
  followers: () => number;
}

export function healthRoutes(api: Api, ports: HealthPorts): void {
  const durations = new Durations();
  api.addHook("onResponse", (request, reply, done) => {
    const { url: route = "none", method } = request.routeOptions;
    // What a client holds open says nothing about how fast anything is.
    if (!route.endsWith("/events"))
      durations.observe({ method: String(method ?? "any"), route, status: reply.statusCode }, reply.elapsedTime / 1000);
    done();
  });

  api.get(
    "/livez",
    { schema: { tags, summary: "Does the process run?", response: { 200: z.object({ live: z.literal(true) }) } } },
    async () => ({ live: true }),
  );

  api.get(
    "/readyz",
    {
      schema: {
        tags,
        summary: "Is every open pool led and caught up?",
        response: answers({ 200: z.object({ ready: z.literal(true), pools: z.array(z.string()) }) }),
      },
    },
    async (_request, reply) => {
      const { answering, silent } = await lookAtPools(ports);
      if (silent.length === 0) return { ready: true, pools: answering.map(({ pool }) => pool) };
      return sendRefusal(
        reply,
        refuse("unavailable", `Not led at the moment: ${silent.join(", ")}.`, { retryAfterMs }),
      );
    },
  );

  api.get(
    "/metrics",
    { schema: { tags, summary: "Metrics in the text format of Prometheus", response: { 200: z.string() } } },
    async (_request, reply) => {
      reply.header("content-type", "text/plain; version=0.0.4; charset=utf-8");
      return showMetrics([
        ...(await poolFamilies(ports)),
        {
          name: "remuda_event_followers",
          type: "gauge",
          help: "Clients that follow a ledger here.",
          samples: [{ value: ports.followers() }],
        },
        durations.family(
          "remuda_http_request_duration_seconds",
          "How long HTTP requests took, waiting for a lease included.",
        ),
      ]);
    },
  );
}

/** The stats of every pool that answers, and the names of those that are open and do not. */
async function lookAtPools({ ask, ledgers }: HealthPorts): Promise<{ answering: StatsReply[]; silent: string[] }> {
  const listed = await ask({ verb: "pool.list" });
  const names = "bytes" in listed ? replyIn<{ pools: PoolReply[] }>(listed).pools.map(({ pool }) => pool) : [];
  const looks = await Promise.all(names.map((pool) => ask({ verb: "pool.stats", pool })));
  const answering = looks.flatMap((answer) => ("bytes" in answer ? [replyIn<StatsReply>(answer)] : []));
  const heard = new Set(answering.map(({ pool }) => pool));
  const silent: string[] = [];
  // The list has only pools that are led.
  for (const pool of await ledgers.names()) if (!heard.has(pool) && (await ledgers.isOpen(pool))) silent.push(pool);
  return { answering, silent };
}

async function poolFamilies(ports: HealthPorts): Promise<Family[]> {
  let pools: StatsReply[] = [];
  let isReady = false;
  try {
    const { answering, silent } = await lookAtPools(ports);
    pools = answering;
    isReady = silent.length === 0;
  } catch {
    // The broker or the picker is away, and that is what the first number says.
  }
  const perPool = (
    name: string,
    type: Family["type"],
    help: string,
    samples: (stats: StatsReply) => [labels: Record<string, string>, value: number][],
  ): Family => ({
    name,
    type,
    help,
    samples: pools.flatMap((stats) =>
      samples(stats).map(([labels, value]) => ({ labels: { pool: stats.pool, ...labels }, value })),
    ),
  });
  const one = (value: number): [Record<string, string>, number][] => [[{}, value]];
  const by = (label: string, values: Record<string, number>): [Record<string, string>, number][] =>
    Object.entries(values).map(([name, value]) => [{ [label]: name }, value]);
  return [
    {
      name: "remuda_ready",
      type: "gauge",
      help: "1: every open pool is led and caught up.",
      samples: [{ value: isReady ? 1 : 0 }],
    },
    perPool("remuda_leases_granted_total", "counter", "Leases granted.", ({ leases }) => one(leases.granted)),
    perPool("remuda_leases_expired_total", "counter", "Leases that ended at their time.", ({ leases }) =>
      one(leases.expired),
    ),
    perPool("remuda_leases_open", "gauge", "Leases that are open.", ({ leases }) => one(leases.open)),
    perPool("remuda_refusals_total", "counter", "Wishes refused, by word.", ({ refused }) => by("code", refused)),
    perPool("remuda_outcomes_total", "counter", "Outcomes taken up.", ({ outcomes }) => by("result", outcomes)),
    perPool("remuda_proxies", "gauge", "Proxies by state.", ({ proxies: { leasable: _, ...states } }) =>
      by("state", states),
    ),
    perPool("remuda_proxies_leasable", "gauge", "Proxies that could be leased now.", ({ proxies }) =>
      one(proxies.leasable),
    ),
    perPool("remuda_wishes_waiting", "gauge", "Wishes that wait.", ({ waiting }) => one(waiting)),
    perPool("remuda_commits_total", "counter", "Commits in the ledger.", ({ commits }) => one(commits)),
    perPool("remuda_leader_term", "gauge", "Term of the leader.", ({ leader }) => one(leader.term)),
  ];
}
