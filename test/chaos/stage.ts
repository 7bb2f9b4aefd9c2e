// The stage of a chaos run: two pickers, the API and one broker or three, each a process, and a relay before each
// client of the brokers. The pickers share a data directory, as on one machine.
import { cp, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jsErrors } from "../../runtime/jetstream-api.ts";
import { eventually } from "../kit/poll.ts";
import { removeAtEnd, stopAllRemudas } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { type Relay, startRelay } from "../kit/relay.ts";
import { type Brokers, startOne, startThree } from "./brokers.ts";
import type { Part } from "./faults.ts";
import { Piece } from "./piece.ts";
import { SteppedClock } from "./stepped-clock.ts";

type PieceName = "first" | "second" | "api";
type Relays = Record<PieceName | "clients", Relay>;

/** A cluster that starts has no leaders at first. */
const deleteMsMax = 60_000;
/** The relays replace its port. */
const brokersUrl = "nats://127.0.0.1:4222";
const lateClock = new URL("late-clock.ts", import.meta.url).href;

export class Stage {
  readonly clock = new SteppedClock();
  readonly #dataDir: string;
  readonly #pieces: Record<PieceName, Piece>;
  readonly #relays: Relays;
  readonly #startBrokers: () => Promise<Brokers>;
  #brokers: Brokers;
  /** The error of the clock of each picker's machine. */
  #clockOffMs = 0;

  static async open({ nodes }: { nodes: 1 | 3 }): Promise<Stage> {
    const dataDir = await mkdtemp(join(tmpdir(), "chaos-"));
    removeAtEnd(dataDir);
    const startBrokers = (): Promise<Brokers> => (nodes === 1 ? startOne(dataDir) : startThree(dataDir));
    const stage = new Stage(dataDir, startBrokers, await startBrokers(), {} as Relays); // Filled below.
    for (const name of ["first", "second", "api"] as const)
      stage.#relays[name] = await startRelay(stage, stage.clock.lenses());
    stage.#relays.clients = await startRelay(stage);
    return stage;
  }

  private constructor(dataDir: string, startBrokers: () => Promise<Brokers>, brokers: Brokers, relays: Relays) {
    this.#dataDir = dataDir;
    this.#startBrokers = startBrokers;
    this.#brokers = brokers;
    this.#relays = relays;
    const piece = (name: PieceName, args: string[]): Piece =>
      new Piece(() => ({
        dataDir,
        args: ["run", ...args],
        env: {
          REMUDA_NATS_URL: this.#relays[name].urlOf(brokersUrl),
          REMUDA_LOG_LEVEL: "info",
          NODE_OPTIONS: `--import=${lateClock}`,
          REMUDA_CHAOS_CLOCK_MS: String(this.#clockOffMs),
        },
      }));
    this.#pieces = {
      first: piece("first", ["picker"]),
      second: piece("second", ["picker"]),
      api: piece("api", ["api"]),
    };
  }

  /** Of a broker that runs now. */
  get port(): number {
    return this.#brokers.port;
  }

  /** For clients. It stays when the brokers' ports change. */
  get natsUrl(): string {
    return this.#relays.clients.urlOf(brokersUrl);
  }

  get httpUrl(): string | undefined {
    return this.#pieces.api.running?.httpUrl;
  }

  get nodes(): number {
    return this.#brokers.stores.length;
  }

  get dataDir(): string {
    return this.#dataDir;
  }

  start(): void {
    for (const piece of Object.values(this.#pieces)) piece.start();
  }

  /** All of them run. */
  get isWhole(): boolean {
    return Object.values(this.#pieces).every((piece) => piece.running !== undefined);
  }

  /** Ends of processes that no fault asked for. */
  ends(): string[] {
    return Object.entries(this.#pieces).flatMap(([name, { ends }]) => ends.map((end) => `${name}: ${end}`));
  }

  said(): string {
    return Object.entries(this.#pieces)
      .flatMap(([name, piece]) => [...piece.said, piece.running?.output() ?? ""].map((text) => `--- ${name}\n${text}`))
      .join("\n");
  }

  /** @param term of the leader. */
  nameOf(part: Exclude<Part, "broker" | "majority" | "all">, leads: { pool: string; term: number }): PieceName {
    if (part === "api") return "api";
    const line = new RegExp(`"pool":"${leads.pool}","term":${leads.term},.*"leading the pool"`);
    const leader = line.test(this.#pieces.first.running?.output() ?? "") ? "first" : "second";
    return (part === "leader") === (leader === "first") ? "first" : "second";
  }

  relay(name: PieceName): Relay {
    return this.#relays[name];
  }

  signal(whom: PieceName, signal: NodeJS.Signals): void {
    this.#pieces[whom].signal(signal);
  }

  /** To everything. */
  async signalAll(signal: NodeJS.Signals): Promise<void> {
    for (const pid of await this.#brokers.pids("all")) process.kill(pid, signal);
    for (const piece of Object.values(this.#pieces)) piece.signal(signal);
  }

  brokerPids(which: Parameters<Brokers["pids"]>[0]): Promise<number[]> {
    return this.#brokers.pids(which);
  }

  /** The pickers' machines have a wrong clock, from their next start on. */
  setClocks(offMs: number): void {
    this.#clockOffMs = offMs;
  }

  async deleteStream(stream: string): Promise<void> {
    const nats = await connectRaw(this.natsUrl);
    try {
      const answer = await nats.request(`$JS.API.STREAM.DELETE.${stream}`);
      const { success, error } = answer.json<{
        success?: boolean;
        error?: { err_code: number; description: string };
      }>();
      if (success !== true && error?.err_code !== jsErrors.streamNotFound)
        throw new Error(`${stream} was not deleted: ${error?.description}`);
    } finally {
      await nats.close();
    }
  }

  /** Everything ends, and a copy of the brokers' files is kept. Then everything starts again without the stream. */
  async restartWithout(stream: string, signal: NodeJS.Signals): Promise<void> {
    await this.#stopAll(signal);
    for (const store of this.#brokers.stores) await cp(store, `${store}-copy`, { recursive: true });
    this.#brokers = await this.#startBrokers();
    await eventually(() => this.deleteStream(stream), { timeoutMs: deleteMsMax });
    this.start();
  }

  /** Everything ends, and starts again with the brokers' files as they were. */
  async restore(signal: NodeJS.Signals): Promise<void> {
    await this.#stopAll(signal);
    for (const store of this.#brokers.stores) {
      await rm(store, { recursive: true });
      await rename(`${store}-copy`, store);
    }
    this.#brokers = await this.#startBrokers();
    this.start();
  }

  /** All connections of the service are made anew. */
  async setMaxPayload(bytes: number): Promise<void> {
    await this.#brokers.setMaxPayload(bytes);
    for (const name of ["first", "second", "api"] as const) this.#relays[name].cut();
  }

  async close(): Promise<void> {
    await Promise.all(Object.values(this.#pieces).map((piece) => piece.stop("SIGKILL")));
    await stopAllRemudas();
    await Promise.all(Object.values(this.#relays).map((relay) => relay.close()));
    await this.#brokers.stop();
    await rm(this.#dataDir, { recursive: true, force: true });
  }

  async #stopAll(signal: NodeJS.Signals): Promise<void> {
    await Promise.all(Object.values(this.#pieces).map((piece) => piece.stop(signal)));
    await this.#brokers.stop();
  }
}
