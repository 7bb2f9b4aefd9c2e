// Every strategy, for benches, tests and the simulator. The order counts: random tests draw by their seeds from this
// list.

/** @param given the times of the strategies that have a time, ms. */
export function everyStrategy({ intervalMs, halfLifeMs }: { intervalMs: number; halfLifeMs: number }) {
  return [
    { kind: "best" },
    { kind: "lifo" },
    { kind: "round-robin" },
    { kind: "drain" },
    { kind: "random" },
    { kind: "least-used" },
    { kind: "least-connections" },
    { kind: "time-based", intervalMs },
    { kind: "bandit", halfLifeMs, by: "proxy" },
    { kind: "bandit", halfLifeMs, by: "target" },
  ] as const;
}
