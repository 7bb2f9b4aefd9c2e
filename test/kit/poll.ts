// Waits for a condition without a fixed sleep: asks repeatedly until it holds or the time is over.

import { setTimeout as sleep } from "node:timers/promises";

/** Not a promise: a busy machine may be slow. A condition that never holds is still reported. */
const TIMEOUT_MS = 20_000;
const EVERY_MS = 20;

/**
 * Calls `check` until it does not throw, and returns its result. After `timeoutMs` throws an error: its message ends
 * with that of the check's last error, which is its `cause`. A check that hangs is given up then, too.
 */
export async function eventually<T>(
  check: () => T | Promise<T>,
  { timeoutMs = TIMEOUT_MS, everyMs = EVERY_MS }: { timeoutMs?: number; everyMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let lastError: unknown = new Error("the check never answered");
  for (;;) {
    const leftMs = deadline - performance.now();
    const outcome = await firstOf(check, Math.max(leftMs, everyMs));
    if (outcome.kind === "so") return outcome.value;
    if (outcome.kind === "not so") lastError = outcome.lastError;
    if (performance.now() + everyMs > deadline) {
      const why = lastError instanceof Error ? lastError.message : String(lastError);
      throw new Error(`the condition did not hold within ${timeoutMs} ms: ${why}`, { cause: lastError });
    }
    await sleep(everyMs);
  }
}

type Outcome<T> = { kind: "so"; value: T } | { kind: "not so"; lastError: unknown } | { kind: "hung" };

async function firstOf<T>(check: () => T | Promise<T>, hungAfterMs: number): Promise<Outcome<T>> {
  const timer = new AbortController();
  const answered = (async (): Promise<Outcome<T>> => {
    try {
      return { kind: "so", value: await check() };
    } catch (lastError) {
      return { kind: "not so", lastError };
    }
  })();
  const hung = sleep<Outcome<T>>(hungAfterMs, { kind: "hung" }, { signal: timer.signal });
  // The loser of the race is told to stop and rejects. Nothing else listens to it.
  hung.catch(() => {});
  try {
    return await Promise.race([answered, hung]);
  } finally {
    timer.abort();
  }
}
