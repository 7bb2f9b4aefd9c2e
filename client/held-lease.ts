// The lease that `withLease` passes to its function. It counts its uses, and ends with its signal.
import type { Response } from "undici";
import type { LeaseReply, Outcome } from "../protocol/wire.ts";
import type { Block } from "./block.ts";
import { RemudaFault } from "./fault.ts";
import type { FetchInit, FetchInput } from "./fetch.ts";
import { HeldOutcomes } from "./held-outcomes.ts";

/** A lease, and when it ends by this process's own clock. */
export interface Lease extends LeaseReply {
  /** An instant of `performance.now()`: send nothing later. */
  readonly endsAt: number;
}

export interface HeldLease extends LeaseReply {
  /** Aborts when the lease's time is over. Send nothing after that. */
  readonly signal: AbortSignal;
  /** The same as an instant of `performance.now()`. */
  readonly endsAt: number;
  /** Uses not yet taken. */
  readonly usesLeft: number;
  /** Takes the next use, before its request is sent. Returns its number. @throws RemudaFault "lease-over". */
  take(): number;
  /**
   * Reports the outcome of a use. Without `n` it is the last use taken, or the next if none was taken. After `fetch` it
   * completes the outcome of that request: within a second of its end, and before the next use.
   */
  report(outcome: Omit<Outcome, "leaseId">): void;
  /** Sends a request through this proxy: takes a use, and reports it. */
  fetch(input: FetchInput, init?: FetchInit): Promise<Response>;
}

export interface Holding {
  lease: HeldLease;
  /** Uses that were reported, in any way. */
  reported: ReadonlySet<number>;
  /** The function has returned: nothing waits for its reports. */
  over(): void;
}

/** The uses that `lease.fetch` has made, as far as they are known. */
export interface Seen {
  reported: Set<number>;
  held: HeldOutcomes;
}

/** @param cut aborted when the block's time is over. */
export function holdLease(
  block: Block,
  given: {
    cut: AbortController;
    report(outcome: Outcome): void;
    fetch(input: FetchInput, init: FetchInit | undefined, seen: Seen): Promise<Response>;
    /** A report came after the outcome of that use had been sent. */
    late(n: number): void;
  },
): Holding {
  const reported = new Set<number>();
  const held = new HeldOutcomes();
  block.onCut(() => held.over());
  const { lease: reply, endsAt } = block;
  const lease: HeldLease = {
    ...reply,
    endsAt,
    signal: given.cut.signal,
    get usesLeft() {
      return Math.max(0, reply.uses - block.taken);
    },
    take() {
      const use = block.take();
      if (use === undefined)
        throw new RemudaFault("lease-over", `The lease has no time or no use left (of ${reply.uses}).`);
      held.flush();
      use.end(); // The caller decides when its request ends.
      return use.n;
    },
    report(outcome) {
      const isLast = block.taken > 0 && (!reported.has(block.taken) || held.awaited(block.taken));
      const n = outcome.n ?? (isLast ? block.taken : block.taken + 1);
      if (held.awaited(n)) return held.report(n, outcome);
      if (held.wasSent(n)) return given.late(n);
      if (n > block.taken) block.taken = Math.min(n, reply.uses);
      reported.add(n);
      given.report({ ...outcome, leaseId: reply.leaseId, n });
    },
    fetch: (input, init) => given.fetch(input, init, { reported, held }),
  };
  return { lease, reported, over: () => held.over() };
}
