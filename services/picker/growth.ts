// Keeps a reserve of the ledger's bound for events that must not be refused: reports, renewals, releases and ends.
// Grants and added proxies cannot use it. Their future size counts from the moment when they are accepted, because
// thousands may wait for a turn, or for a proxy. The pools of this process share the reserve, because their ledgers
// share a stream. The open leases of other pickers' pools are not counted.
import type { Clock } from "../../runtime/clock.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import type { Request } from "../../state-machines/command.ts";
import type { Lease } from "../../state-machines/fold/state.ts";

const lookMs = 5000;
/** This share of the bound is always kept, whatever leases are open. Claims need some of it. */
const reserveShare = 0.1;
/** At most this share of the bound is kept, whatever leases are open: a ledger that is nearly empty always has room. */
const reserveShareMax = 0.9;
/** The most that is stored for a grant, for a report of one use, and for a lease's end, each in its own commit. */
const grantBytes = 1500;
const useBytes = 700;
const endBytes = 500;
/** So many reports may each need a commit of their own. The reports of further uses share commits. */
const usesAlone = 10_000;
const useBytesInMany = 250;
const addBytes = 400;
/**
 * One request reserves at most this share of the bound for the ends of its leases. How many uses it may have is decided
 * by the pool's policy, not here.
 */
const endsShareMax = 0.4;
/** Counting the open leases takes some milliseconds if there are very many. */
const countEveryMs = 1000;

/** Bytes that may still be stored. */
export interface Demand {
  /** By accepted requests. */
  pending: number;
  /** By reports and ends of the open leases: as counted, and for leases granted since. */
  needed: number;
}

interface GrowthPorts {
  ledger: Pick<Ledger, "room" | "measure">;
  clock: Pick<Clock, "after" | "monotonic">;
  leases: () => Iterable<Lease>;
  /** Of all pools whose ledgers share the stream. Absent: it has no other pool. */
  demand?: Demand | undefined;
}

export class Growth {
  readonly #ports: GrowthPorts;
  readonly #all: Demand;
  /** This pool's part of it. */
  readonly #own = noDemand();
  #countedOn = Number.NEGATIVE_INFINITY;
  #cancel = (): void => {};
  #isOver = false;

  constructor(ports: GrowthPorts) {
    this.#ports = ports;
    this.#all = ports.demand ?? noDemand();
  }

  /** Asks how full the ledger is, and again every few seconds. Resolves after the first time. */
  async watch(): Promise<void> {
    const { ledger, clock } = this.#ports;
    await ledger.measure().catch(() => {}); // The broker is away. The commit in flight shows the same more clearly.
    if (this.#isOver) return;
    // Leases have ended since. As long as the ledger is nearly empty, nothing depends on their number.
    const { bytes, bytesMax } = ledger.room();
    if (bytesMax - bytes < bytesMax * reserveShareMax) this.#count();
    else this.#forget();
    this.#cancel = clock.after(lookMs, () => void this.watch());
  }

  stop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancel();
    this.#forget();
    this.#add({ pending: -this.#own.pending });
  }

  /** Returns the caller to answer. Undefined: the request would use the reserve. */
  admit<C extends { respond(answer: object): void }>(request: Request, caller: C): C | undefined {
    const size = sizeOf(request);
    const { bytes, bytesMax } = this.#ports.ledger.room();
    if (size === undefined || bytesMax === Number.POSITIVE_INFINITY) return caller;
    const { own } = size;
    const ends = Math.min(size.ends, bytesMax * endsShareMax);
    const left = bytesMax - bytes - this.#all.pending - own - ends;
    if (left < bytesMax * reserveShareMax && left < this.#reserve(bytesMax)) return undefined;
    this.#add({ pending: own + ends });
    let isPending = true;
    return {
      ...caller,
      respond: (answer: object) => {
        if (isPending && !this.#isOver) this.#add({ pending: -own - ends, needed: ends });
        isPending = false;
        caller.respond(answer);
      },
    };
  }

  #reserve(bytesMax: number): number {
    if (this.#ports.clock.monotonic() - this.#countedOn >= countEveryMs) this.#count();
    return bytesMax * reserveShare + Math.min(this.#all.needed, bytesMax * (reserveShareMax - reserveShare));
  }

  #count(): void {
    this.#countedOn = this.#ports.clock.monotonic();
    this.#add({ needed: neededBy(this.#ports.leases()) - this.#own.needed });
  }

  #forget(): void {
    this.#countedOn = Number.NEGATIVE_INFINITY;
    this.#add({ needed: -this.#own.needed });
  }

  #add({ pending = 0, needed = 0 }: Partial<Demand>): void {
    this.#own.pending += pending;
    this.#own.needed += needed;
    this.#all.pending += pending;
    this.#all.needed += needed;
  }
}

export function noDemand(): Demand {
  return { pending: 0, needed: 0 };
}

function neededBy(leases: Iterable<Lease>): number {
  let uses = 0;
  let count = 0;
  for (const lease of leases) {
    count++;
    uses += lease.uses - lease.reportedTo - lease.reportedMore.length;
  }
  return count * endBytes + reportsOf(uses);
}

function reportsOf(uses: number): number {
  return Math.min(uses, usesAlone) * useBytes + Math.max(0, uses - usesAlone) * useBytesInMany;
}

/**
 * Bytes. `own`: the request itself may store them. `ends`: its leases need them later. Undefined: the request is never
 * refused for lack of room.
 */
function sizeOf(request: Request): { own: number; ends: number } | undefined {
  switch (request.type) {
    case "each":
      if (request.commands[0]?.type !== "add") return undefined;
      return { own: JSON.stringify(request.commands).length + request.commands.length * addBytes, ends: 0 };
    case "lease": {
      const { count = 1, uses, labels, exclude } = request.request;
      const details = labels === undefined && exclude === undefined ? 0 : JSON.stringify(request.request).length;
      return { own: count * (grantBytes + details), ends: count * (reportsOf(uses) + endBytes) };
    }
    case "get-token":
      return { own: grantBytes, ends: useBytes + endBytes };
    default:
      return undefined;
  }
}
