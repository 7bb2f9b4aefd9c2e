// How long something takes in the time that this process has run. While the machine gives it no turn, no time passes.
import { setTimeout as sleep } from "node:timers/promises";

const sliceMs = 25;

/**
 * Gives the promise's result, if it comes before this process has lived for `ms`. For what goes on in this process: of
 * another one's time it knows nothing.
 */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let over = false;
  const late = async (): Promise<never> => {
    for (let lived = 0; lived < ms && !over; lived += sliceMs) await sleep(sliceMs);
    throw new Error(`it was not there within ${ms} ms`);
  };
  try {
    return await Promise.race([promise, late()]);
  } finally {
    over = true;
  }
}
