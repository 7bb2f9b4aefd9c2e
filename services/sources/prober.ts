// Probes proxies that have not been used yet, before a worker gets them. `best` takes never-used proxies first, and
// most proxies of a fresh list may be dead. A probe is a use. It leases that proxy, so that no limit is exceeded, and
// reports its outcome, so that the policy rests dead proxies. At most one probe is made every 60 000 / perMinute ms.
// Missed probes are not repeated.
import { isRefusal } from "../../protocol/refusal.ts";
import type { SourceReply } from "../../protocol/source.ts";
import type { Clock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Outbound } from "../../transport/outbound.ts";
import type { PoolPort } from "./pool.ts";
import { type Probing, probeThrough } from "./probe.ts";

/** Concurrent probes. At this number no new one begins. */
const probesMax = 32;
/**
 * Proxies that are inspected for one probe. Proxies that have been used meanwhile are skipped. Each costs a request to
 * the picker.
 */
const lookedAtMax = 20;

interface ProberPorts {
  pools: Pick<PoolPort, "proxy" | "lease" | "report">;
  clock: Clock;
  outbound: Outbound;
  /** Ids of the proxies that the source names. */
  ids(): ReadonlySet<string>;
  onDefect(bug: unknown): void;
}

export class Prober {
  readonly #pool: string;
  readonly #probing: Probing;
  readonly #ports: ProberPorts;
  readonly #stopping = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  /** Proxies that were used or probed, as far as this process knows. They are not inspected again. */
  #done = new Set<string>();
  readonly #inHand = new Set<string>();
  #left: { of: ReadonlySet<string>; ids: Iterator<string> } | undefined;
  #cancel = () => {};
  readonly #tally = { succeeded: 0, failed: 0, neutral: 0 };

  constructor(pool: string, probing: Probing, ports: ProberPorts) {
    this.#pool = pool;
    this.#probing = probing;
    this.#ports = ports;
  }

  start(): void {
    if (this.#stopping.signal.aborted) return;
    this.#cancel = this.#ports.clock.after(60_000 / this.#probing.perMinute, () => {
      this.start();
      if (this.#underWay.size >= probesMax) return;
      const probe = this.#probeNext().finally(() => this.#underWay.delete(probe));
      this.#underWay.add(probe);
    });
  }

  /** Probes under way are cut. Their outcomes say nothing about the proxy. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#cancel();
    await Promise.all(this.#underWay);
  }

  view(): NonNullable<SourceReply["probes"]> {
    return { ...this.#tally };
  }

  async #probeNext(): Promise<void> {
    try {
      for (let looked = 0; looked < lookedAtMax && !this.#stopping.signal.aborted; looked++) {
        const id = this.#next();
        if (id === undefined) return;
        this.#inHand.add(id);
        const isProbed = await this.#probe(id).finally(() => this.#inHand.delete(id));
        if (isProbed) return;
      }
    } catch (error) {
      // If a pool does not answer, the next proxy is tried at its time.
      if (!(error instanceof Fault)) this.#ports.onDefect(error);
    }
  }

  /** True if a probe was made. */
  async #probe(id: string): Promise<boolean> {
    const { pools, outbound } = this.#ports;
    const proxy = await pools.proxy(this.#pool, id);
    if (isRefusal(proxy)) return false;
    if (proxy.state === "retired" || proxy.totals.granted > 0) {
      this.#done.add(id);
      return false;
    }
    if (proxy.state !== "available" || proxy.openLeases > 0 || this.#stopping.signal.aborted) return false;
    const lease = await pools.lease(this.#pool, { proxyId: id, holder: "probe" });
    if (isRefusal(lease)) return false;
    this.#done.add(id);
    const outcome = await probeThrough(lease, this.#probing, { signal: this.#stopping.signal, outbound });
    await pools.report(this.#pool, outcome);
    const after = await pools.proxy(this.#pool, id);
    if (!isRefusal(after)) {
      const { succeeded, failed } = after.totals;
      this.#tally[succeeded > 0 ? "succeeded" : failed > 0 ? "failed" : "neutral"]++;
    }
    return true;
  }

  /** Goes through the list in order, again and again. Proxies that could not be leased come again in the next round. */
  #next(): string | undefined {
    const ids = this.#ports.ids();
    if (this.#left?.of !== ids) {
      this.#done = new Set([...this.#done].filter((id) => ids.has(id)));
      this.#left = { of: ids, ids: ids.values() };
    }
    for (let passed = 0; passed < 10_000; passed++) {
      const next = this.#left.ids.next();
      if (next.done === true) {
        this.#left = { of: ids, ids: ids.values() };
        return undefined;
      }
      if (!this.#done.has(next.value) && !this.#inHand.has(next.value)) return next.value;
    }
    return undefined;
  }
}
