// A NATS cluster whose servers have not all found each other yet. JetStream has no leader or no suitable servers then,
// or does not answer at all. That is not a wrong set-up, and it passes.
import { type Bus, isNoResponders } from "./bus.ts";
import { Fault, messageOf } from "./fault.ts";
import { JsError, jsErrors } from "./jetstream-api.ts";

const formingErrors: readonly number[] = [
  jsErrors.noSuitablePeers,
  jsErrors.clusterNotAvailable,
  jsErrors.clusterNotLeader,
];
/** How long a cluster may take to form, and the pauses between the attempts. */
const formingMsMax = 60_000;
const pauseMs = { first: 100, max: 2000 };

/** Repeats a call that fails because the cluster is still forming. @throws Fault "retry-later" if it does not form. */
export async function whenFormed<T>(bus: Bus, act: () => Promise<T>, msMax = formingMsMax): Promise<T> {
  const until = performance.now() + msMax;
  for (let waitMs = pauseMs.first; ; waitMs = Math.min(waitMs * 2, pauseMs.max)) {
    try {
      return await act();
    } catch (error) {
      if (!isForming(bus, error)) throw error;
      const message = `The NATS cluster has not formed: ${messageOf(error)}. Start its other servers.`;
      if (performance.now() >= until) throw new Fault("retry-later", message, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
}

function isForming(bus: Bus, error: unknown): boolean {
  if (bus.nc.info?.cluster === undefined) return false;
  const cause = error instanceof Fault ? error.cause : error;
  return isNoResponders(cause) || (cause instanceof JsError && formingErrors.includes(cause.number));
}
