// The service's health: alive, ready, and metrics.
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import type { MetricsReply } from "../../protocol/metrics.ts";
import type { PoolsReply } from "../../protocol/pool.ts";
import { refuse } from "../../protocol/refusal.ts";
import { watchers } from "../../protocol/verbs.ts";
import { atMost } from "../../runtime/at-most.ts";
import { isNoResponders } from "../../runtime/bus.ts";
import { Durations, type Family, gauge, histogramSamples, showMetrics } from "../../runtime/prometheus.ts";
import { type StallWatch, watchStalls } from "../../runtime/stall.ts";
import { type Answer, type Asked, replyIn } from "./ask.ts";
import type { Ending } from "./ending.ts";
import type { Ledgers } from "./ledger.ts";
import { poolFamilies } from "./pool-metrics.ts";
import { sendRefusal } from "./refusal.ts";
import type { Api } from "./request.ts";
import { answers } from "./routes.ts";

const tags = ["service"];
const retryAfterMs = 1000;
/** A health check waits ten seconds at most. A healthy leader answers within a few milliseconds. */
const lookMsMax = 4000;

interface HealthPorts {
  ledgers: Ledgers;
  followers: () => number;
  /** Of the whole process. */
  defects: () => Readonly<Record<string, number>>;
  ending: Pick<Ending, "isNow">;
  /** Further metrics of this process. */
  families: () => Family[];
}

export function healthRoutes(api: Api, ports: HealthPorts): void {
  const durations = new Durations();
  const stalls = watchStalls();
  const readiness = shared((sender: Sender) => readinessOf(ports, sender, "pool.get"));
  const inNumbers = shared((sender: Sender) => poolsInNumbers(ports, sender));
  api.addHook("onClose", (_api, done) => {
    stalls.stop();
    done();
  });
  api.addHook("onResponse", (request, reply, done) => {
    const { url: route = "none", method } = request.routeOptions;
    // A stream that the client holds open says nothing about speed.
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
      config: { roles: watchers },
      schema: {
        tags,
        summary: "Is every open pool led and caught up?",
        response: answers({ 200: z.object({ ready: z.literal(true), pools: z.array(z.string()) }) }),
      },
    },
    async (request, reply) => {
      if (ports.ending.isNow)
        return sendRefusal(reply, refuse("unavailable", "This service is stopping.", { retryAfterMs }));
      const { open, why } = await readiness(request);
      if (why.length === 0) return { ready: true, pools: open };
      return sendRefusal(reply, refuse("unavailable", why.join(" "), { retryAfterMs }));
    },
  );

  api.get(
    "/metrics",
    {
      config: { roles: watchers },
      schema: { tags, summary: "Metrics in the text format of Prometheus", response: { 200: z.string() } },
    },
    async (request, reply) => {
      reply.header("content-type", "text/plain; version=0.0.4; charset=utf-8");
      const counted = { followers: ports.followers(), defects: ports.defects() };
      const families = await Promise.all([inNumbers(request), ledgerInNumbers(ports.ledgers)]);
      return showMetrics([...families.flat(), ...ownFamilies({ ...counted, durations, stalls }), ...ports.families()]);
    },
  );
}

type Sender = Pick<FastifyRequest, "ask" | "user">;

/** Each look asks all leaders. Those that come during a look at the same pools share it, however many they are. */
function shared<T>(look: (sender: Sender) => Promise<T>): (sender: Sender) => Promise<T> {
  const underWay = new Map<string, Promise<T>>();
  return (sender) => {
    const pools = JSON.stringify(sender.user.pools ?? "all");
    const known = underWay.get(pools);
    if (known !== undefined) return known;
    const begun = look(sender).finally(() => underWay.delete(pools));
    underWay.set(pools, begun);
    return begun;
  };
}

/** A picker rejects the questions of one sender beyond some thousands. */
const looksAtOnce = atMost(500);

interface Looked {
  /** By name. */
  open: string[];
  /** Those of the open pools without a leader that has caught up. */
  silent: string[];
  replies: { bytes: Buffer }[];
}

/**
 * Asks the leader of every open pool that the user may see.
 * @throws errors that `refusalOf` knows, if no picker runs or the broker is away.
 */
async function lookAtPools(
  { ledgers }: HealthPorts,
  { ask, user: { pools } }: Sender,
  verb: Asked["verb"],
): Promise<Looked> {
  const names = (await ledgers.openNames()).filter((name) => pools?.includes(name) ?? true);
  if (names.length === 0) await ask({ verb: "pool.list", answerMs: lookMsMax }); // Does any picker run?
  const looked: Looked = { open: [], silent: [], replies: [] };
  const look = async (pool: string): Promise<{ pool: string; answer: Answer | "silent" }> => {
    try {
      return { pool, answer: await ask({ verb, pool, answerMs: lookMsMax }) };
    } catch (error) {
      if (isNoResponders(error)) throw error; // Then no picker runs.
      return { pool, answer: "silent" }; // One hung leader must not hide the others.
    }
  };
  const looks = await Promise.all(names.map((pool) => looksAtOnce(() => look(pool))));
  for (const { pool, answer } of looks) {
    if (answer !== "silent" && "refusal" in answer && answer.refusal.code === "unknown-pool") continue; // It is closed.
    looked.open.push(pool);
    if (answer === "silent" || "refusal" in answer) looked.silent.push(pool);
    else looked.replies.push(answer);
  }
  return looked;
}

/** `why`: the reasons why the service is not ready, as sentences. @throws as `lookAtPools` does. */
async function readinessOf(
  ports: HealthPorts,
  sender: Sender,
  verb: Asked["verb"],
): Promise<Looked & { why: string[]; unusable: string[] }> {
  const [looked, troubles] = await Promise.all([lookAtPools(ports, sender, verb), troublesOf(sender)]);
  const { unusable } = troubles;
  const others = looked.silent.filter((pool) => !unusable.some((each) => each.pool === pool));
  const notLed = others.length === 0 ? [] : [`Not led at the moment: ${others.join(", ")}.`];
  const why = [...troubles.why, ...unusable.map(({ message }) => message), ...notLed];
  return { ...looked, why, unusable: unusable.map(({ pool }) => pool) };
}

/** Pools whose ledger is damaged, has lost commits or is missing in the stream, and the problems of streams. */
async function troublesOf({ ask, user: { pools } }: Sender): Promise<{
  unusable: NonNullable<PoolsReply["unusable"]>;
  why: string[];
}> {
  const answer = await ask({ verb: "pool.list", answerMs: lookMsMax });
  if ("refusal" in answer) return { unusable: [], why: [answer.refusal.message] };
  const { unusable = [], streams = [] } = replyIn<PoolsReply>(answer);
  return {
    unusable: unusable.filter(({ pool }) => pools?.includes(pool) ?? true),
    why: streams.map(({ message }) => message),
  };
}

async function poolsInNumbers(ports: HealthPorts, sender: Sender): Promise<Family[]> {
  let looked: Awaited<ReturnType<typeof readinessOf>> | undefined;
  try {
    looked = await readinessOf(ports, sender, "pool.metrics");
  } catch {
    // The broker or the picker is away. The first number says that.
  }
  const isReady = looked?.why.length === 0;
  const replies = looked?.replies.map((reply) => replyIn<MetricsReply>(reply)) ?? [];
  return [
    gauge("remuda_ready", "1: every open pool is led and caught up, and every stream is usable.", isReady ? 1 : 0),
    ...poolFamilies(replies, looked?.open ?? [], looked?.unusable ?? []),
  ];
}

/** All pools share one stream. */
async function ledgerInNumbers(ledgers: Ledgers): Promise<Family[]> {
  const size = await ledgers.size().catch(() => undefined);
  return [
    gauge("remuda_ledger_bytes", "Bytes in the stream that holds the ledgers.", size?.bytes),
    gauge(
      "remuda_ledger_bytes_max",
      "Its bound. Leases are refused at 90 %, or earlier. No value: no bound.",
      size?.bytesMax,
    ),
    gauge(
      "remuda_archive_days_left",
      "Days until the archive's disk is full, if it grows as in the last two weeks. No value: not known here.",
      await ledgers.daysLeft(),
    ),
  ];
}

function ownFamilies(own: {
  followers: number;
  defects: Readonly<Record<string, number>>;
  durations: Durations;
  stalls: StallWatch;
}): Family[] {
  return [
    {
      name: "remuda_defects_total",
      type: "counter",
      help: "Failures because of bugs in the HTTP process, by kind of part. Each part is started again.",
      samples: Object.entries(own.defects).map(([part, value]) => ({ labels: { part }, value })),
    },
    gauge("remuda_event_followers", "Clients that follow a ledger here.", own.followers),
    {
      name: "remuda_http_request_duration_seconds",
      type: "histogram",
      help: "How long HTTP requests took, waiting for a lease included.",
      samples: own.durations.samples(),
    },
    {
      name: "remuda_http_stall_seconds",
      type: "histogram",
      help: "Per second, the longest time that the event loop of the HTTP process was blocked.",
      samples: histogramSamples({}, own.stalls.view(), { unit: 0.001 }),
    },
  ];
}
