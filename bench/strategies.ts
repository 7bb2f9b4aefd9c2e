// Every strategy, for benches and tests that try them all.

/** @param given the times of the strategies that have one, ms. */
export function everyStrategy({ intervalMs, halfLifeMs }: { intervalMs: number; halfLifeMs: number }) {
  return [
    { kind: "best" },
    { kind: "lifo" },
    { kind: "round-robin" },
    { kind: "random" },
    { kind: "least-used" },
    { kind: "least-connections" },
    { kind: "drain" },
    { kind: "time-based", intervalMs },
    { kind: "bandit", halfLifeMs },
    { kind: "bandit", halfLifeMs, by: "target" },
  ] as const;
}
