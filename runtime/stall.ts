// Measures the stalls of this process's event loop. The longest stall of each second is counted once. So no stall
// between two reads is missed, and the share of seconds with a stall can be computed for any period.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Histogram } from "./histogram.ts";

const resolutionMs = 10;
const everyMs = 1000;
const boundsMs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

export type StallWatch = ReturnType<typeof watchStalls>;

let running: ReturnType<typeof begin> | undefined;
let callers = 0;

/** All callers in a process have one watch, because it wakes the process a hundred times a second. */
export function watchStalls() {
  running ??= begin();
  callers += 1;
  const { view, end } = running;
  let isStopped = false;
  return {
    view,
    stop(): void {
      if (isStopped) return;
      isStopped = true;
      callers -= 1;
      if (callers > 0) return;
      end();
      running = undefined;
    },
  };
}

function begin() {
  const histogram = new Histogram(boundsMs);
  const delay = monitorEventLoopDelay({ resolution: resolutionMs });
  delay.enable();
  const timer = setInterval(() => {
    // The monitor measures the time from one of its ticks to the next.
    if (delay.count > 0) histogram.observe(Math.max(0, delay.max / 1e6 - resolutionMs));
    delay.reset();
  }, everyMs);
  timer.unref();
  return {
    view: () => histogram.view(),
    end(): void {
      clearInterval(timer);
      delay.disable();
    },
  };
}
