// Every kind of lease request that this client's `fetch` makes (pool, labels, schemes, session, …) with its blocks, and
// the bounds over all of them together.
import type { LeaseReply, LeaseRequest } from "../protocol/wire.ts";
import type { Block, Use } from "./block.ts";
import { Blocks, type Taking } from "./blocks.ts";
import { RemudaFault } from "./fault.ts";
import type { FetchBounds } from "./options.ts";

/** A request for one lease. */
export type OneLease = Omit<LeaseRequest, "count">;
/** Which proxies a request may go through. The client itself decides how many uses to lease at once. */
export type FetchLease = Omit<LeaseRequest, "requestId" | "count" | "uses" | "minUses" | "waitMs" | "proxyId">;

export interface KindsOptions {
  bounds: FetchBounds & { quickUsesMax?: number };
  retryMs: number;
  ask(pool: string, request: LeaseRequest): Promise<{ lease: LeaseReply; askedAt: number }>;
  giveBack(pool: string, block: Block): Promise<void>;
}

const kindsMax = 1000;

export class Kinds {
  readonly #options: KindsOptions;
  readonly #blocks = new Map<string, Blocks>();
  /** Kinds that were denied a place for a lease. */
  readonly #denied = new Set<Blocks>();
  #leases = 0;
  #waiting = 0;

  constructor(options: KindsOptions) {
    this.#options = options;
  }

  /** @throws RemudaFault "queue-full", RemudaRefusal, the signal's reason. */
  take({ pool, request }: { pool: string; request: FetchLease }, taking: Taking): Promise<Use> {
    const { waitingMax } = this.#options.bounds;
    if (this.#waiting < waitingMax) return this.#blocksOf(pool, request).take(taking);
    const message = `${waitingMax} requests already wait for a proxy (fetch.waitingMax).`;
    throw new RemudaFault("queue-full", message);
  }

  /** The proxy of this lease has begun to rest. */
  stop(leaseId: string): void {
    for (const blocks of this.#blocks.values()) blocks.stop(leaseId);
  }

  /** Targets reject this token from now on. */
  stopToken(tokenId: string): void {
    for (const blocks of this.#blocks.values()) blocks.stopToken(tokenId);
  }

  close(error: Error): void {
    for (const blocks of this.#blocks.values()) blocks.close(error);
  }

  #blocksOf(pool: string, request: FetchLease): Blocks {
    const key = keyOf(pool, request);
    const known = this.#blocks.get(key);
    if (known !== undefined) return known;
    // Empty kinds are kept, up to a bound, because the size of their blocks was learned.
    for (const [each, { empty }] of this.#blocks) {
      if (this.#blocks.size < kindsMax) break;
      if (empty) this.#blocks.delete(each);
    }
    const { bounds, retryMs, ask, giveBack } = this.#options;
    const blocks: Blocks = new Blocks({
      ...bounds,
      retryMs,
      ask: ({ exclude, ...size }) => {
        const excluded = [...(request.exclude ?? []), ...exclude];
        return ask(pool, { ...request, ...size, ...(excluded.length > 0 ? { exclude: excluded } : {}) });
      },
      giveBack: (block) => giveBack(pool, block),
      reserve: () => {
        const room = this.#leases < bounds.leasesMax;
        if (room) this.#leases += 1;
        else this.#denied.add(blocks);
        return room;
      },
      free: () => {
        this.#leases -= 1;
        const denied = [...this.#denied];
        this.#denied.clear();
        if (denied.length > 0) queueMicrotask(() => denied.forEach((each) => void each.pump()));
      },
      onWaiting: (change) => {
        this.#waiting += change;
      },
    });
    this.#blocks.set(key, blocks);
    return blocks;
  }
}

/** The common key of all requests for the same proxies. */
function keyOf(pool: string, request: LeaseRequest): string {
  const sorted = Object.entries(request)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const labels = Object.entries(request.labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([pool, sorted.map(([name, value]) => [name, name === "labels" ? labels : value])]);
}
