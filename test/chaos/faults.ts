// The faults of a chaos run, and after how long the service must serve again. A seed fixes which faults come, and in
// which order. docs/chaos.md has the list.
import { ledgerStream, outcomesStream, secretsBucket, snapshotsBucket } from "../../protocol/subjects.ts";
import { type Seeded, seeded } from "../kit/seed.ts";

/**
 * `leader`: the picker that leads the pool with limits. `broker`: of three, the one that leads the ledgers' stream.
 * `majority`: two brokers of three. `all`: the pickers, the API and the brokers.
 */
export type Part = "leader" | "standby" | "api" | "broker" | "majority" | "all";

export type Fault =
  | { kind: "signal"; signal: "SIGKILL" | "SIGTERM"; part: Part }
  /** SIGSTOP, and SIGCONT later. */
  | { kind: "freeze"; part: Exclude<Part, "all">; forMs: number }
  | { kind: "connection"; part: "leader" | "api"; name: string; how: Break }
  /** `followed`: the leader is killed, and a standby takes over. `cold`: there is no standby. */
  | { kind: "clock"; takeover: "followed" | "cold" | "cold, all clocks"; byMs: number }
  /** The stream is deleted, and everything is restarted. */
  | { kind: "stream"; stream: string; signal: "SIGKILL" | "SIGTERM" }
  | { kind: "payload"; bytesMax: number };

/**
 * `cut`: ends abruptly. `half-open`: stays open, and nothing comes through. `full`: the same, and its buffers are full
 * of bytes that it has to send. `deaf`: what it sends arrives, and no answer comes back.
 */
export type Break = "cut" | "half-open" | "full" | "deaf";

const parts = ["leader", "standby", "api", "broker"] as const;
const partsOf = (nodes: 1 | 3) => (nodes === 3 ? ([...parts, "majority"] as const) : parts);
const signals = ["SIGKILL", "SIGTERM"] as const;
const breaks = ["cut", "half-open", "deaf"] as const;
const connections = {
  leader: ["remuda ledger", "remuda front", "remuda follower", "remuda peers"],
  api: ["remuda api requests", "remuda api events", "remuda api control"],
} as const;
/** The only connection on which a picker can be made to send much. */
const filled = { kind: "connection", part: "leader", name: "remuda front", how: "full" } as const;
const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

/** A standby takes over, or a broker starts. */
const takeoverMs = 10_000;
/** A process of ours starts, because there is only one of its kind. */
const startOneMs = 20_000;
/** A silent connection or leader must be noticed first. */
const noticeMs = 15_000;
/** Everything starts. */
const startMs = 30_000;

/** A round has this many of each kind, in a random order. */
const round = { signal: 3, freeze: 2, connection: 3, clock: 1, stream: 1, payload: 1 } as const;

/** Each variant comes once before any comes twice. */
const variants: { [K in Fault["kind"]]: (random: Seeded, nodes: 1 | 3) => Extract<Fault, { kind: K }>[] } = {
  signal: (_, nodes) =>
    signals.flatMap((signal) =>
      [...partsOf(nodes), "all" as const].map((part) => ({ kind: "signal", signal, part }) as const),
    ),
  freeze: (random, nodes) =>
    partsOf(nodes).map((part) => ({ kind: "freeze", part, forMs: random.int(500, 5000) }) as const),
  connection: () => [
    filled,
    ...(["leader", "api"] as const).flatMap((part) =>
      connections[part].flatMap((name) => breaks.map((how) => ({ kind: "connection", part, name, how }) as const)),
    ),
  ],
  clock: () =>
    (["followed", "cold", "cold, all clocks"] as const).flatMap((takeover) =>
      [hourMs, -minuteMs].map((byMs) => ({ kind: "clock", takeover, byMs }) as const),
    ),
  stream: (random) =>
    [ledgerStream, outcomesStream, `KV_${secretsBucket}`, `OBJ_${snapshotsBucket}`].map((stream) => {
      return { kind: "stream", stream, signal: random.pick(signals) } as const;
    }),
  payload: (random) => [{ kind: "payload", bytesMax: random.pick([4096, 65_536]) }],
};

export function* faultsOf(seed: number, nodes: 1 | 3 = 1): Generator<Fault, never> {
  const random = seeded(seed);
  const kinds = Object.entries(round).flatMap(([kind, count]) =>
    Array<Fault["kind"]>(count).fill(kind as keyof typeof round),
  );
  const left = new Map<Fault["kind"], Fault[]>();
  for (;;) {
    for (const kind of shuffled(kinds, random)) {
      let those = left.get(kind) ?? [];
      if (those.length === 0) those = shuffled<Fault>(variants[kind](random, nodes), random);
      yield those.pop()!; // There is at least one variant.
      left.set(kind, those);
    }
  }
}

/** From the fault on, or from its end if nothing can be served until then. On a machine that is not overloaded. */
export function servesWithinMs(fault: Fault): number {
  switch (fault.kind) {
    case "signal":
      if (fault.part === "all") return startMs;
      return fault.part === "api" ? startOneMs : takeoverMs;
    case "freeze":
      return fault.part === "leader" ? noticeMs : takeoverMs;
    case "connection":
      return fault.how === "cut" ? takeoverMs : noticeMs;
    case "clock":
      return fault.takeover === "followed" ? takeoverMs : startMs;
    case "stream":
      return startMs;
    case "payload":
      return takeoverMs;
  }
}

export function describeFault(fault: Fault): string {
  switch (fault.kind) {
    case "signal":
      return `${fault.signal} to ${fault.part}`;
    case "freeze":
      return `SIGSTOP to ${fault.part}, for at least ${fault.forMs} ms`;
    case "connection":
      return `connection "${fault.name}" of ${fault.part}: ${fault.how}`;
    case "clock":
      return `broker's clock ${fault.byMs > 0 ? "+" : ""}${fault.byMs / 1000} s between two leaders (${fault.takeover})`;
    case "stream":
      return `stream ${fault.stream} deleted, then ${fault.signal} to all`;
    case "payload":
      return `max_payload ${fault.bytesMax}`;
  }
}

function shuffled<T>(all: readonly T[], random: Seeded): T[] {
  const left = [...all];
  return all.map(() => left.splice(random.int(0, left.length - 1), 1)[0]!); // One is left for each.
}
