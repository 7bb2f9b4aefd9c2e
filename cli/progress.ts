// The progress of long work, with an estimate of the remaining time: one line on a terminal, nothing in a pipe.
import { showDuration } from "./output.ts";

const everyMs = 200;

export type OnProgress = (done: number) => void;

/**
 * Removes the line when `work` has ended.
 * @param given.what `verifying`.
 * @param given.size the final value of `done`.
 */
export async function withProgress<T>(
  { what, size }: { what: string; size: number },
  work: (onProgress: OnProgress) => Promise<T>,
): Promise<T> {
  const { stderr } = process;
  if (!stderr.isTTY || size <= 0) return work(() => {});
  const startedOn = performance.now();
  let toldOn = startedOn;
  const tell: OnProgress = (done) => {
    const now = performance.now();
    if (now - toldOn < everyMs) return;
    toldOn = now;
    const share = Math.min(1, done / size);
    const left = share > 0.01 ? `, about ${showDuration(((now - startedOn) * (1 - share)) / share)} left` : "";
    stderr.write(`\r\u001b[K${what}: ${Math.floor(share * 100)} %${left}`);
  };
  try {
    return await work(tell);
  } finally {
    if (toldOn !== startedOn) stderr.write("\r\u001b[K");
  }
}
