// How far long work has come, with an estimate of what is left: one line on a terminal, nothing in a pipe.
import { showDuration } from "./output.ts";

const everyMs = 200;

export interface Progress {
  tell(done: number): void;
  /** Takes the line away. */
  end(): void;
}

/** @param what `verifying`. @param size what `done` will come to. */
export function progressOf(what: string, size: number): Progress {
  const { stderr } = process;
  if (!stderr.isTTY || size <= 0) return { tell: () => {}, end: () => {} };
  const startedOn = performance.now();
  let toldOn = startedOn;
  let told = false;
  return {
    tell(done) {
      const now = performance.now();
      if (now - toldOn < everyMs) return;
      toldOn = now;
      told = true;
      const share = Math.min(1, done / size);
      const left = share > 0.01 ? `, about ${showDuration(((now - startedOn) * (1 - share)) / share)} left` : "";
      stderr.write(`\r\u001b[K${what}: ${Math.floor(share * 100)} %${left}`);
    },
    end() {
      if (told) stderr.write("\r\u001b[K");
    },
  };
}
