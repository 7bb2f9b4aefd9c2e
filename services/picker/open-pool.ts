// Opens a pool that a picker is to open when it starts.
import { isRefusal, type Refusal } from "../../protocol/refusal.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Leadership } from "./leadership.ts";
import { anybody, type Who } from "./who.ts";

/**
 * Opens the pool. Retries after transient failures.
 * @throws Fault "fix-setup" if the refusal is permanent.
 */
export async function openPool(leadership: Leadership, pool: string): Promise<void> {
  const who: Who = { ...anybody, name: "remuda" };
  let refusal: Refusal | undefined;
  for (let attempt = 0; attempt < 20; attempt++) {
    const answer = await new Promise<object>((respond) => leadership.open(pool, { body: {}, respond, who }));
    if (!isRefusal(answer)) return;
    refusal = answer;
    if (answer.code !== "unavailable" && answer.code !== "unknown-pool") break;
    // The other pools are served all the same. The log says why this one is not.
    if (leadership.unusable().some((each) => each.pool === pool)) return;
    await new Promise((resolve) => setTimeout(resolve, answer.retryAfterMs ?? 500));
  }
  throw new Fault("fix-setup", `The pool ${pool} cannot be opened: ${refusal?.message ?? ""}`);
}
