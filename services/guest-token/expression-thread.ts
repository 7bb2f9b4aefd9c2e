// The thread in which expressions run; see expressions.ts.
import { runInNewContext } from "node:vm";
import { parentPort } from "node:worker_threads";

/** An expression may backtrack without end: this is what ends it. */
const expressionMs = 250;
const code = 'const found = new RegExp(regex, "u").exec(text); found && (found.length > 1 ? found[1] : found[0])';

parentPort?.on("message", ({ id, text, regex }: { id: number; text: string; regex: string }) => {
  let found: unknown;
  try {
    found = runInNewContext(code, { text, regex }, { timeout: expressionMs });
  } catch {
    // It took too long: nothing was found.
  }
  parentPort?.postMessage({ id, found: typeof found === "string" ? found : undefined });
});
