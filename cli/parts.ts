// The parts of a service's process: stops them together, and notes bugs that none of them has caught.
import type { Logger } from "pino";
import { Defects } from "../runtime/defects.ts";

export type Stop = () => Promise<void> | void;

/** A part that does not stop within this time is abandoned. */
const stopMsMax = 4500;

/** A rejection that no part has caught ends nothing: only a bug of that part is behind it. */
export function watchDefects(log: Logger): Defects {
  const defects = new Defects(log);
  process.on("unhandledRejection", (error) => defects.note("process", error));
  return defects;
}

export function onSignals(stop: () => Promise<void>): void {
  let asked = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (asked) return;
      asked = true;
      setTimeout(() => process.exit(1), stopMsMax).unref();
      void stop().then(() => process.exit(0));
    });
  }
}

/** Stops all parts, the last first. A part that fails to stop ends with the process. */
export async function stopAll(stopping: Stop[]): Promise<void> {
  for (const stop of stopping.splice(0).reverse()) {
    await Promise.resolve()
      .then(stop)
      .catch(() => {});
  }
}
