// The answer to a request, once its commit is stored.
import type { Answer } from "../../state-machines/command.ts";
import { type Caller, unavailable } from "./inbox.ts";
import type { PoolMetrics } from "./metrics.ts";

/** @param given.storedAt in the pool's time. @param given.onDefect the reply could not be made, because of a bug. */
export function giveAnswer(
  caller: Caller,
  answer: Answer,
  given: {
    storedAt: number;
    metrics: Pick<PoolMetrics, "waitMs">;
    onDefect?: ((error: unknown, where: object) => void) | undefined;
  },
): void {
  const { storedAt, metrics, onDefect } = given;
  if (caller.isLease === true && !("cancelled" in answer))
    metrics.waitMs["lease" in answer ? "granted" : "refused"].observe(storedAt - caller.arrivedAt);
  try {
    const reply = "refusal" in answer ? answer.refusal : caller.reply(answer);
    if (reply !== undefined) caller.respond(reply);
  } catch (error) {
    // The decision is stored, and no decision depends on a reply.
    onDefect?.(error, { answer: Object.keys(answer)[0] });
    caller.respond(unavailable("The request was decided, but its answer cannot be shown because of a bug."));
  }
}
