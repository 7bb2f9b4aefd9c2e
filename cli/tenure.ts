// Keeps a lease for as long as its holder needs it. It is renewed when half of its time is over, until the service
// refuses. No use may be made after `leftMs`, counted on this machine's monotonic clock from the moment of the request.
// So the holder is warned a little earlier, and notified at the end.
import type { LeaseReply } from "../protocol/lease.ts";
import type { Clock } from "../runtime/clock.ts";

export interface TenurePorts {
  clock: Clock;
  /** Requests a renewal. */
  renew: () => Promise<Pick<LeaseReply, "leftMs">>;
  /** Is this error of `renew` final? Others are retried. */
  isFinal: (error: unknown) => boolean;
  /** The lease ends soon. Called once. @param why it was not renewed. */
  onEnding: (why: unknown) => void;
  /** From now on no use may be made. Called once, after `onEnding`. */
  onEnded: () => void;
}

/** The time between warning and end, in which the command can finish. At most a quarter of the lease. */
const warningMs = 3000;
const retryMs = 1000;

/** @param lease.askedAt on the monotonic clock. Returns a function that stops it. */
export function keepLease(lease: { leftMs: number; askedAt: number }, ports: TenurePorts): () => void {
  const { clock } = ports;
  let stopped = false;
  let why: unknown;
  let cancels: (() => void)[] = [];
  const after = (ms: number, callback: () => void): void =>
    void cancels.push(clock.after(ms, () => stopped || callback()));

  const begin = (leftMs: number, askedAt: number): void => {
    for (const cancel of cancels) cancel();
    cancels = [];
    const endsAt = askedAt + leftMs;
    const left = endsAt - clock.monotonic();
    after(left - Math.min(warningMs, leftMs / 4), () => {
      // A later renewal is ignored, because the holder was warned and is ending.
      stopped = true;
      ports.onEnding(why);
      cancels.push(clock.after(endsAt - clock.monotonic(), ports.onEnded));
    });
    after(left / 2, () => void renew());
  };
  const renew = async (): Promise<void> => {
    const askedAt = clock.monotonic();
    try {
      const { leftMs } = await ports.renew();
      if (!stopped) begin(leftMs, askedAt);
    } catch (error) {
      why = error;
      if (!stopped && !ports.isFinal(error)) after(retryMs, () => void renew());
    }
  };
  begin(lease.leftMs, lease.askedAt);
  return () => {
    stopped = true;
    for (const cancel of cancels) cancel();
  };
}
