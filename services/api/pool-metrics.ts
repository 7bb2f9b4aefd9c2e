// The metrics of pools, as reported by their leaders. Counts from the ledger (granted, refused, outcomes, commits)
// outlive a leader. Counts in memory (waits, commits' times, stalls) begin again with each leader, as counters may.
import type { HistogramReply, MetricsReply } from "../../protocol/metrics.ts";
import { type Family, histogramSamples, type Labels } from "../../runtime/prometheus.ts";

/** One number, or one for each value of a label. */
type Measured = number | [label: string, values: Partial<Record<string, number>>];
type Measure = (pool: MetricsReply) => Measured;

const ms = { unit: 0.001 };

/**
 * @param pools those whose leaders answer.
 * @param open the names of all open pools.
 * @param unusable the names of those whose ledger cannot be led.
 */
export function poolFamilies(
  pools: readonly MetricsReply[],
  open: readonly string[],
  unusable: readonly string[],
): Family[] {
  const family = (type: "counter" | "gauge", name: string, help: string, measure: Measure): Family => ({
    ...{ name, type, help },
    samples: pools.flatMap((reply) => samplesOf(reply.stats.pool, measure(reply))),
  });
  const counter = (name: string, help: string, measure: Measure) => family("counter", name, help, measure);
  const gauge = (name: string, help: string, measure: Measure) => family("gauge", name, help, measure);
  const histogram = (
    name: string,
    help: string,
    values: (pool: MetricsReply) => [labels: Labels, values: HistogramReply][],
    unit = {},
  ): Family => ({
    ...{ name, type: "histogram", help },
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
    {
      name: "remuda_pool_unusable",
      type: "gauge",
      help: "1: the pool's ledger is damaged, has lost commits, or is of a newer version. `doctor` says what to do.",
      samples: unusable.map((pool) => ({ labels: { pool }, value: 1 })),
    },
    gauge(
      "remuda_leader_term",
      "Term of the leader; it grows with every change of leader.",
      ({ stats }) => stats.leader.term,
    ),
    counter("remuda_leases_granted_total", "Leases granted.", ({ stats }) => stats.leases.granted),
    counter("remuda_leases_expired_total", "Leases that ended at their time.", ({ stats }) => stats.leases.expired),
    gauge("remuda_leases_open", "Leases that are open.", ({ stats }) => stats.leases.open),
    counter("remuda_refusals_total", "Requests refused, by code.", ({ stats }) => ["code", stats.refused]),
    counter(
      "remuda_lease_requests_held_back_total",
      "Requests not granted at once, by each rule that held a matching proxy back.",
      ({ heldBack }) => ["rule", { ...heldBack }],
    ),
    counter(
      "remuda_requests_rejected_total",
      "Requests of any kind that were answered undecided: no room, no acknowledgement, a ledger nearly full.",
      ({ rejected }) => ["code", rejected],
    ),
    gauge("remuda_lease_requests_waiting", "Requests that wait.", ({ stats }) => stats.waiting),
    counter("remuda_lease_requests_cancelled_total", "Waiting requests cancelled.", ({ cancelled }) => cancelled),
    histogram(
      "remuda_lease_request_duration_seconds",
      "From the arrival of a lease request at the picker to its answer, waiting included.",
      ({ waitMs }) => [
        [{ result: "granted" }, waitMs.granted],
        [{ result: "refused" }, waitMs.refused],
      ],
      ms,
    ),
    counter("remuda_outcomes_total", "Outcomes ingested.", ({ stats }) => ["result", stats.outcomes]),
    gauge(
      "remuda_outcome_lag_seconds",
      "Age of the oldest outcome that is not ingested yet; 0 if all are ingested.",
      ({ outcomeLagMs }) => outcomeLagMs / 1000,
    ),
    gauge("remuda_proxies", "Proxies by state.", ({ stats: { proxies } }) => {
      const { leasable: _, ...states } = proxies;
      return ["state", states];
    }),
    gauge("remuda_proxies_leasable", "Proxies that could be leased now.", ({ stats }) => stats.proxies.leasable),
    counter("remuda_commits_total", "Commits in the ledger.", ({ stats }) => stats.commits),
    histogram(
      "remuda_commit_duration_seconds",
      "From the sending of a commit to its acknowledgement.",
      ({ commitMs }) => [[{}, commitMs]],
      ms,
    ),
    histogram("remuda_commit_events", "Events in a commit.", ({ eventsPerCommit }) => [[{}, eventsPerCommit]]),
    histogram("remuda_commit_answers", "Requests that a commit answered.", (reply) => [[{}, reply.answersPerCommit]]),
    counter(
      "remuda_commit_ambiguous_attempts_total",
      "Attempts to store a commit whose result was not certain, and that were made again.",
      ({ ambiguousAttempts }) => ambiguousAttempts,
    ),
    counter(
      "remuda_pool_defects_total",
      "Failures of the pool's leader because of bugs. The log names them.",
      ({ defects }) => defects,
    ),
    histogram(
      "remuda_leader_stall_seconds",
      "Per second, the longest time that the event loop of the leader's process was blocked.",
      ({ stallMs }) => [[{}, stallMs]],
      ms,
    ),
  ];
}

function samplesOf(pool: string, measured: Measured): Family["samples"] {
  if (typeof measured === "number") return [{ labels: { pool }, value: measured }];
  const [label, values] = measured;
  return Object.entries(values).map(([name, value = 0]) => ({ labels: { pool, [label]: name }, value }));
}
