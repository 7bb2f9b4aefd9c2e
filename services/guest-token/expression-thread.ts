// The thread in which expressions run; see expressions.ts. An expression may backtrack without end, so its time is
// bounded. On a busy machine the thread may hardly have run in that time, so that even a simple expression did not
// finish. Then it is tried once more, for longer.
import { runInNewContext } from "node:vm";
import { parentPort } from "node:worker_threads";

const expressionMs = 250;
const triesMs = [expressionMs, 4 * expressionMs];
const code = 'const found = new RegExp(regex, "u").exec(text); found && (found.length > 1 ? found[1] : found[0])';

parentPort?.on("message", ({ text, regex }: { text: string; regex: string }) => {
  const found = firstMatch(text, regex);
  parentPort?.postMessage({ found: typeof found === "string" ? found : undefined });
});

function firstMatch(text: string, regex: string): unknown {
  const before = ranMs();
  for (const timeout of triesMs) {
    try {
      return runInNewContext(code, { text, regex }, { timeout });
    } catch {
      if (ranMs() - before >= expressionMs / 2) break; // It took too long: no match.
    }
  }
  return undefined;
}

/** How long this thread has run. Node before 23.9 does not tell: then all elapsed time counts. */
function ranMs(): number {
  if (typeof process.threadCpuUsage !== "function") return performance.now();
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
