// A lease that is kept for as long as somebody needs it: renewed when half of what was left is over, until the service will
// not. No use may be made after `leftMs`, counted on our own monotonic clock from the moment at which the lease, or its
// renewal, was asked for. So its holder is warned a little earlier, and told when it is over.
import type { LeaseReply } from "../protocol/lease.ts";
import type { Clock } from "../runtime/clock.ts";

export interface TenurePorts {
  clock: Clock;
  /** Asks for a renewal. @throws Refused where there will be none; anything else is tried again. */
  renew: () => Promise<Pick<LeaseReply, "leftMs">>;
  /** Is this the end of all trying? */
  isFinal: (error: unknown) => boolean;
  /** It ends soon. Called once. @param why it was not renewed. */
  onEnding: (why: unknown) => void;
  /** From now on no use may be made. Called once, after `onEnding`. */
  onEnded: () => void;
}

/** Between warning and end: for a command to come to its end. At most a quarter of the lease. */
const warningMs = 3000;
const retryMs = 1000;

/** @param lease.askedAt on the monotonic clock. Returns what stops it. */
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
      // An answer that comes now comes too late: who has been warned is ending.
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
