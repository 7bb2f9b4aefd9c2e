// An actor that follows one source. It looks once, then waits. The result of the look decides the length of the wait.
// The source's new proxies are probed in parallel. A bug ends the actor, and it is started again with growing pauses.
import { type Actor, assign, createActor, fromPromise, setup, waitFor } from "xstate";
import type { Source, SourceReply } from "../../protocol/source.ts";
import { Fault } from "../../runtime/fault.ts";
import { Restarts } from "../../runtime/restarts.ts";
import { doubtMs } from "./doubt.ts";
import { Look, type LookPorts, type Tally } from "./look.ts";
import { PoolAway } from "./pool.ts";
import { Prober } from "./prober.ts";
import { BeingWritten, type Reading } from "./reading.ts";
import { PutOff } from "./url.ts";

export interface FollowerPorts extends Omit<LookPorts, "stopping"> {
  onTrouble(why: string): void;
  onDefect(part: "source" | "probe", bug: unknown): void;
}

interface Input {
  source: Source;
  look: Look;
  ports: FollowerPorts;
  stopping: AbortSignal;
  /** Of the actor before this one, which failed. */
  last?: SourceReply["last"];
  trouble?: SourceReply["trouble"];
}

/** Instants are monotonic, except those in `last` and `trouble`. */
interface Context extends Input {
  mark?: string | undefined;
  /**
   * A reading that the pool has not accepted yet. It is kept because a source that is expensive to ask is not asked
   * again for it.
   */
  kept?: { reading: Reading; at: number } | undefined;
  /** Failures of the source in a row. */
  failures: number;
  /** The source said that it must not be asked before this instant. */
  putOffUntil: number;
  nextAt: number;
}

/** A file is checked this often, whatever `everyMs` is. A look that finds nothing new costs one stat. */
const fileLookMs = 1000;
/**
 * The wait after a first failure. It doubles with each further failure, up to `everyMs`, because a vendor counts its
 * visitors too.
 */
const retryMs = 30_000;
/** The wait while the pool does not accept the reading. */
const poolRetryMs = 5000;

const output = { params: <Output>({ event }: { event: { output: Output } }) => event.output };
const error = { params: ({ event }: { event: { error: unknown } }) => event.error };
const noteError = [
  { type: "sayTrouble", ...error },
  { type: "noteError", ...error },
] as const;
const onError = [
  { guard: { type: "isPoolAway", ...error }, target: "waiting.poolAway", actions: noteError },
  { guard: { type: "isFault", ...error }, target: "waiting.failing", actions: noteError },
] as const;

export const sourceMachine = setup({
  types: {
    context: {} as Context,
    input: {} as Input,
    events: {} as { type: "look"; whole: boolean },
    tags: {} as "looking",
  },
  actors: {
    read: fromPromise<Reading, Context>(({ input }) => input.look.read(input.mark)),
    apply: fromPromise<Tally | undefined, Context>(({ input }) => input.look.apply(input.kept?.reading ?? "unchanged")),
  },
  guards: {
    isWhole: ({ event }) => event.type === "look" && event.whole,
    isKept: ({ context: { source, kept, ports } }) =>
      kept !== undefined &&
      (source.from.kind === "url" || source.from.kind === "command") &&
      ports.clock.monotonic() - kept.at < source.everyMs,
    isDoubted: ({ context }) => context.ports.seen.doubtedSince !== undefined,
    isPoolAway: (_, error: unknown) => error instanceof PoolAway,
    // Any other error is a bug. It ends the actor visibly.
    isFault: (_, error: unknown) => error instanceof Fault,
  },
  actions: {
    forget: assign({ mark: undefined }),
    // The next reading takes its room.
    drop: assign({ kept: undefined }),
    keep: assign({ kept: ({ context }, reading: Reading) => ({ reading, at: context.ports.clock.monotonic() }) }),
    noteSuccess: assign(({ context }, tally: Tally | undefined) => ({
      ...{ kept: undefined, trouble: undefined, failures: 0, putOffUntil: 0 },
      ...(context.kept && context.kept.reading !== "unchanged" && { mark: context.kept.reading.mark }),
      ...(tally && { last: { at: context.ports.clock.wall(), ...tally } }),
      nextAt: nextAt(context, { failures: 0 }),
    })),
    sayTrouble({ context: { trouble, ports, stopping } }, error: unknown) {
      const { message } = error as Fault; // The guards have checked this.
      const isNews = message !== trouble?.why && !(error instanceof BeingWritten);
      if (isNews && !stopping.aborted) ports.onTrouble(message);
    },
    noteError: assign(({ context }, error: unknown) => {
      const { clock } = context.ports;
      const isAway = error instanceof PoolAway;
      const failures = context.failures + (isAway ? 0 : 1);
      const putOffUntil = error instanceof PutOff ? clock.monotonic() + error.forMs : 0;
      return {
        ...{ failures, putOffUntil, kept: isAway ? context.kept : undefined },
        trouble: { since: context.trouble?.since ?? clock.wall(), why: (error as Fault).message },
        nextAt: Math.max(nextAt(context, { failures, ...(isAway && { withinMs: poolRetryMs }) }), putOffUntil),
      };
    }),
  },
  delays: { wait: ({ context: { nextAt, ports } }) => nextAt - ports.clock.monotonic() },
}).createMachine({
  id: "source",
  context: ({ input }) => ({ ...input, failures: 0, putOffUntil: 0, nextAt: 0 }),
  initial: "idle",
  states: {
    idle: { on: { look: "reading" } },
    reading: {
      tags: "looking",
      entry: "drop",
      invoke: {
        ...{ src: "read", input: ({ context }) => context, onError },
        onDone: { target: "applying", actions: { type: "keep", ...output } },
      },
    },
    applying: {
      tags: "looking",
      invoke: {
        ...{ src: "apply", input: ({ context }) => context, onError },
        onDone: [
          { guard: "isDoubted", target: "waiting.doubting", actions: { type: "noteSuccess", ...output } },
          { target: "waiting.settled", actions: { type: "noteSuccess", ...output } },
        ],
      },
    },
    waiting: {
      initial: "settled",
      states: { settled: {}, doubting: {}, failing: {}, poolAway: {} },
      on: {
        look: [
          { guard: "isWhole", target: "reading", actions: "forget" },
          { guard: "isKept", target: "applying" },
          { target: "reading" },
        ],
      },
      after: { wait: [{ guard: "isKept", target: "applying" }, { target: "reading" }] },
    },
  },
});

function nextAt(
  { source: { everyMs, from }, ports: { seen, clock } }: Context,
  { failures, withinMs = everyMs }: { failures: number; withinMs?: number },
): number {
  const bounds = [everyMs, withinMs];
  if (failures > 0) bounds.push(retryMs * 2 ** Math.min(failures - 1, 16));
  // A doubted source is asked a second time after this long.
  if (seen.doubtedSince !== undefined) bounds.push(doubtMs);
  if (from.kind === "file") bounds.push(fileLookMs);
  return clock.monotonic() + Math.min(...bounds);
}

export class Follower {
  readonly source: Source;
  readonly #ports: FollowerPorts;
  readonly #stopping = new AbortController();
  readonly #restarts: Restarts;
  #actor: Actor<typeof sourceMachine>;
  readonly #prober: Prober | undefined;

  constructor(source: Source, ports: FollowerPorts) {
    this.source = source;
    this.#ports = ports;
    const { pools, clock, seen, outbound } = ports;
    this.#restarts = new Restarts(clock);
    this.#actor = this.#begun();
    const onDefect = (bug: unknown): void => ports.onDefect("probe", bug);
    const ids = (): ReadonlySet<string> => seen.named.ids;
    if (source.probe !== undefined)
      this.#prober = new Prober(source.pool, source.probe, { pools, clock, outbound, ids, onDefect });
  }

  #begun(before: Pick<Input, "last" | "trouble"> = {}): Actor<typeof sourceMachine> {
    const { clock } = this.#ports;
    const { signal: stopping } = this.#stopping;
    const look = new Look(this.source, { ...this.#ports, stopping });
    const actor = createActor(sourceMachine, {
      input: { source: this.source, look, ports: this.#ports, stopping, ...before },
      clock: { setTimeout: (callback, ms) => clock.after(ms, callback), clearTimeout: (cancel) => cancel() },
    });
    actor.subscribe({ error: (bug) => this.#beginAgain(bug) });
    return actor.start();
  }

  #beginAgain(bug: unknown): void {
    const { clock, onDefect, share } = this.#ports;
    const { last, trouble } = this.#actor.getSnapshot().context;
    onDefect("source", bug);
    share.free();
    const since = trouble?.since ?? clock.wall();
    const why = "it failed because of a bug, which the log of the sources names";
    clock.after(this.#restarts.pauseMs(), () => {
      if (this.#stopping.signal.aborted) return;
      this.#actor = this.#begun({ ...(last && { last }), trouble: { since, why } });
      this.#actor.send({ type: "look", whole: false });
    });
  }

  start(): void {
    this.#prober?.start();
    this.#actor.send({ type: "look", whole: false });
  }

  /**
   * Resolves when a look that began after the call has ended.
   * @param whole read even if the source says that it has not changed.
   */
  async lookNow({ whole = false } = {}): Promise<void> {
    // Another caller may have begun the next look while this one was told that the last has ended.
    while (this.isLooking) await this.#looked();
    if (this.#actor.getSnapshot().status === "active") this.#actor.send({ type: "look", whole });
    await this.#looked();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all([this.#looked(), this.#prober?.stop()]);
    this.#actor.stop();
    this.#ports.share.free();
  }

  get isLooking(): boolean {
    const snapshot = this.#actor.getSnapshot();
    return snapshot.status === "active" && snapshot.hasTag("looking");
  }

  get isPutOff(): boolean {
    return this.#ports.clock.monotonic() < this.#actor.getSnapshot().context.putOffUntil;
  }

  /** Did the source name this proxy when it was last believed? */
  readonly names = (id: string): boolean => this.#ports.seen.has(id);

  view(): SourceReply {
    const { name, pool, from, everyMs, retire } = this.source;
    const { clock, seen } = this.#ports;
    const snapshot = this.#actor.getSnapshot();
    const { last, trouble, nextAt } = snapshot.context;
    const wall = (monotonic: number): number => Math.round(clock.wall() + monotonic - clock.monotonic());
    return {
      ...{ name, pool, kind: from.kind, everyMs, retire },
      proxies: seen.named.ids.size,
      ...(last && { last }),
      ...(trouble && { trouble }),
      ...(seen.doubtedSince !== undefined && { doubtedUntil: wall(seen.doubtedSince + doubtMs) }),
      ...(snapshot.matches("waiting") && { nextAt: wall(nextAt) }),
      ...(this.#prober && { probes: this.#prober.view() }),
    };
  }

  /** Resolves when no look is under way, or when there will be none. */
  async #looked(): Promise<void> {
    // The actor has been stopped.
    await waitFor(this.#actor, (snapshot) => !snapshot.hasTag("looking")).catch(() => {});
  }
}
