// The counts of the gateway (docs/protocol.md §8.10). Labels hold fixed words and pools' names, never a target.
import { Durations, type Family, gauge } from "../../runtime/prometheus.ts";

export type Kind = "http" | "connect" | "socks5" | "reverse";
/**
 * `answered`: bytes of the target, or a tunnel, reached the client. `refused`: no lease, or a request that is not
 * allowed. `failed`: every try failed. `aborted`: the client left before.
 */
export type Result = "answered" | "refused" | "failed" | "aborted";
export type ClosedBy = "client" | "upstream" | "error" | "idle" | "age" | "uses" | "lease" | "h2" | "drain";

/** More pools than these are counted as one. */
const poolsMax = 1000;
const otherPools = "(other)";

export class Metrics {
  readonly #requests = new Counter();
  readonly #closed = new Counter();
  readonly #retries = new Counter();
  readonly #pools = new Set<string>();
  readonly #waits = new Durations();
  readonly #connects = new Durations();
  tunnels = 0;
  bytesUp = 0;
  bytesDown = 0;

  request(pool: string, kind: Kind, result: Result): void {
    if (this.#pools.size < poolsMax) this.#pools.add(pool);
    this.#requests.add({ pool: this.#pools.has(pool) ? pool : otherPools, kind, result });
  }

  closed(reason: ClosedBy): void {
    this.#closed.add({ reason });
  }

  retried(): void {
    this.#retries.add({});
  }

  waited(ms: number): void {
    this.#waits.observe({}, ms / 1000);
  }

  connected(ms: number): void {
    this.#connects.observe({}, ms / 1000);
  }

  families(): Family[] {
    const counter = (name: string, help: string, samples: Family["samples"]): Family => ({
      name,
      type: "counter",
      help,
      samples,
    });
    const histogram = (name: string, help: string, durations: Durations): Family => ({
      name,
      type: "histogram",
      help,
      samples: durations.samples(),
    });
    const bytes = [
      { labels: { direction: "up" }, value: this.bytesUp },
      { labels: { direction: "down" }, value: this.bytesDown },
    ];
    return [
      counter(
        "remuda_gateway_requests_total",
        "Requests and tunnels of clients, by their end.",
        this.#requests.samples(),
      ),
      gauge("remuda_gateway_tunnels", "Tunnels that are open.", this.tunnels),
      counter("remuda_gateway_tunnels_closed_total", "Tunnels that have ended, by the cause.", this.#closed.samples()),
      counter("remuda_gateway_bytes_total", "Bytes relayed: up is from the client.", bytes),
      histogram("remuda_gateway_lease_wait_seconds", "Wait of requests for a use.", this.#waits),
      histogram("remuda_gateway_connect_seconds", "Time to open a tunnel through a proxy.", this.#connects),
      counter(
        "remuda_gateway_retries_total",
        "Requests that were tried again on another proxy.",
        this.#retries.samples(),
      ),
    ];
  }
}

class Counter {
  readonly #counts = new Map<string, { labels: Record<string, string>; value: number }>();

  add(labels: Record<string, string>): void {
    const key = JSON.stringify(labels);
    const known = this.#counts.get(key);
    if (known === undefined) this.#counts.set(key, { labels, value: 1 });
    else known.value += 1;
  }

  samples(): Family["samples"] {
    return [...this.#counts.values()].map(({ labels, value }) => ({ labels, value }));
  }
}
