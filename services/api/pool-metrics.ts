// The metrics of pools, as reported by their leaders. Counts from the ledger (granted, refused, outcomes, commits)
// outlive a leader. Counts in memory (waits, commits' times, stalls) begin again with each leader, as counters may.
import type { HistogramReply, MetricsReply } from "../../protocol/metrics.ts";
import { type Family, histogramSamples, type Labels } from "./metrics.ts";

type Values = [labels: Labels, value: number][];

const ms = { unit: 0.001 };

/**
 * @param pools those whose leaders answer.
 * @param open the names of all open pools.
 */
export function poolFamilies(pools: readonly MetricsReply[], open: readonly string[]): Family[] {
  const each = (
    type: "counter" | "gauge",
    name: string,
    help: string,
    values: (pool: MetricsReply) => Values,
  ): Family => ({
    name,
    type,
    help,
    samples: pools.flatMap((reply) =>
      values(reply).map(([labels, value]) => ({ labels: { pool: reply.stats.pool, ...labels }, value })),
    ),
  });
  const histogram = (
    name: string,
    help: string,
    values: (pool: MetricsReply) => [labels: Labels, values: HistogramReply][],
    unit = {},
  ): Family => ({
    name,
    type: "histogram",
    help,
    samples: pools.flatMap((reply) =>
      values(reply).flatMap(([labels, counts]) =>
        histogramSamples({ pool: reply.stats.pool, ...labels }, counts, unit),
      ),
    ),
  });
  const led = new Set(pools.map(({ stats }) => stats.pool));
  return [
    {
      name: "remuda_pool_led",
      type: "gauge",
      help: "1: the open pool has a leader that is caught up. 0: it has none at the moment.",
      samples: open.map((pool) => ({ labels: { pool }, value: led.has(pool) ? 1 : 0 })),
    },
    each("gauge", "remuda_leader_term", "Term of the leader; it grows with every change of leader.", ({ stats }) =>
      one(stats.leader.term),
    ),
    each("counter", "remuda_leases_granted_total", "Leases granted.", ({ stats }) => one(stats.leases.granted)),
    each("counter", "remuda_leases_expired_total", "Leases that ended at their time.", ({ stats }) =>
      one(stats.leases.expired),
    ),
    each("gauge", "remuda_leases_open", "Leases that are open.", ({ stats }) => one(stats.leases.open)),
    each("counter", "remuda_refusals_total", "Requests refused, by word.", ({ stats }) => by("code", stats.refused)),
    each(
      "counter",
      "remuda_lease_requests_held_back_total",
      "Requests not granted at once, by each rule that held a matching proxy back.",
      ({ heldBack }) => by("rule", { ...heldBack }),
    ),
    each(
      "counter",
      "remuda_requests_rejected_total",
      "Requests of any kind that were answered undecided: no room, no acknowledgement, a ledger nearly full.",
      ({ rejected }) => by("code", rejected),
    ),
    each("gauge", "remuda_lease_requests_waiting", "Requests that wait.", ({ stats }) => one(stats.waiting)),
    each("counter", "remuda_lease_requests_cancelled_total", "Waiting requests taken back.", ({ cancelled }) =>
      one(cancelled),
    ),
    histogram(
      "remuda_lease_request_duration_seconds",
      "From the arrival of a lease request at the picker to its answer, waiting included.",
      ({ waitMs }) => [
        [{ result: "granted" }, waitMs.granted],
        [{ result: "refused" }, waitMs.refused],
      ],
      ms,
    ),
    each("counter", "remuda_outcomes_total", "Outcomes ingested.", ({ stats }) => by("result", stats.outcomes)),
    each(
      "gauge",
      "remuda_outcome_lag_seconds",
      "Age of the oldest outcome that is stored and not ingested; 0: there is none.",
      ({ outcomeLagMs }) => one(outcomeLagMs / 1000),
    ),
    each("gauge", "remuda_proxies", "Proxies by state.", ({ stats: { proxies } }) => {
      const { leasable: _, ...states } = proxies;
      return by("state", states);
    }),
    each("gauge", "remuda_proxies_leasable", "Proxies that could be leased now.", ({ stats }) =>
      one(stats.proxies.leasable),
    ),
    each("counter", "remuda_commits_total", "Commits in the ledger.", ({ stats }) => one(stats.commits)),
    histogram(
      "remuda_commit_duration_seconds",
      "From the sending of a commit to its acknowledgement.",
      ({ commitMs }) => [[{}, commitMs]],
      ms,
    ),
    histogram("remuda_commit_events", "Events in a commit.", ({ eventsPerCommit }) => [[{}, eventsPerCommit]]),
    histogram("remuda_commit_answers", "Requests that a commit answered.", ({ answersPerCommit }) => [
      [{}, answersPerCommit],
    ]),
    each(
      "counter",
      "remuda_commit_ambiguous_attempts_total",
      "Attempts to store a commit whose result was not certain, and that were made again.",
      ({ ambiguousAttempts }) => one(ambiguousAttempts),
    ),
    histogram(
      "remuda_leader_stall_seconds",
      "Of each second of the process that leads the pool: the longest time that its event loop was held up.",
      ({ stallMs }) => [[{}, stallMs]],
      ms,
    ),
  ];
}

function one(value: number): Values {
  return [[{}, value]];
}

function by(label: string, values: Partial<Record<string, number>>): Values {
  return Object.entries(values).map(([name, value = 0]) => [{ [label]: name }, value]);
}
