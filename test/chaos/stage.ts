// The stage of a chaos run: two pickers, the API and a broker, each a process, and a relay before each client of the
// broker. The pickers share a data directory, as on one machine.
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Broker, openBroker } from "../../runtime/broker/broker.ts";
import { openFiles } from "../../runtime/broker/files.ts";
import { reloadServer } from "../../runtime/broker/reload.ts";
import { findTestBinary } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { removeAtEnd, stopAllRemudas } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { type Relay, startRelay } from "../kit/relay.ts";
import type { Part } from "./faults.ts";
import { Piece } from "./piece.ts";
import { SteppedClock } from "./stepped-clock.ts";

type PieceName = "first" | "second" | "api";
type Relays = Record<PieceName | "clients", Relay>;

const lateClock = new URL("late-clock.ts", import.meta.url).href;

export class Stage {
  readonly clock = new SteppedClock();
  readonly #dataDir: string;
  readonly #pieces: Record<PieceName, Piece>;
  readonly #relays: Relays;
  #broker: Broker;
  /** How wrong the clock of each picker's machine is. */
  #clockOffMs = 0;

  static async open(): Promise<Stage> {
    const dataDir = await mkdtemp(join(tmpdir(), "chaos-"));
    removeAtEnd(dataDir);
    const broker = await startBroker(dataDir);
    const stage = new Stage(dataDir, broker, {} as Relays); // Filled below.
    for (const name of ["first", "second", "api"] as const)
      stage.#relays[name] = await startRelay(stage, stage.clock.lenses());
    stage.#relays.clients = await startRelay(stage);
    return stage;
  }

  private constructor(dataDir: string, broker: Broker, relays: Relays) {
    this.#dataDir = dataDir;
    this.#broker = broker;
    this.#relays = relays;
    const piece = (name: PieceName, args: string[]): Piece =>
      new Piece(() => ({
        dataDir,
        args: ["run", ...args],
        env: {
          REMUDA_NATS_URL: this.#relays[name].urlOf(this.#broker.url),
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

  /** Of the broker that runs now. */
  get port(): number {
    return this.#broker.port;
  }

  /** For clients. It stays when the broker's port changes. */
  get natsUrl(): string {
    return this.#relays.clients.urlOf(this.#broker.url);
  }

  get httpUrl(): string | undefined {
    return this.#pieces.api.running?.httpUrl;
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
  nameOf(part: Exclude<Part, "broker" | "all">, leads: { pool: string; term: number }): PieceName {
    if (part === "api") return "api";
    const line = new RegExp(`"pool":"${leads.pool}","term":${leads.term},.*"leading the pool"`);
    const leader = line.test(this.#pieces.first.running?.output() ?? "") ? "first" : "second";
    return (part === "leader") === (leader === "first") ? "first" : "second";
  }

  relay(name: PieceName): Relay {
    return this.#relays[name];
  }

  signal(whom: PieceName | "broker" | "all", signal: NodeJS.Signals): void {
    if (whom === "broker" || whom === "all") process.kill(this.#broker.pid, signal);
    for (const [name, piece] of Object.entries(this.#pieces)) if (whom === name || whom === "all") piece.signal(signal);
  }

  /** The pickers' machines have a wrong clock, from their next start on. */
  setClocks(offMs: number): void {
    this.#clockOffMs = offMs;
  }

  /** Calls JetStream without a relay. */
  async deleteStream(stream: string): Promise<void> {
    const nats = await connectRaw(this.#broker.url);
    try {
      const answer = await nats.request(`$JS.API.STREAM.DELETE.${stream}`);
      const { success, error } = answer.json<{ success?: boolean; error?: { description: string } }>();
      if (success !== true) throw new Error(`${stream} was not deleted: ${error?.description}`);
    } finally {
      await nats.close();
    }
  }

  /** Everything ends, and a copy of the broker's files is kept. Then everything starts again without the stream. */
  async restartWithout(stream: string, signal: NodeJS.Signals): Promise<void> {
    await this.#stopAll(signal);
    await cp(this.#store, this.#copy, { recursive: true });
    this.#broker = await startBroker(this.#dataDir);
    await this.deleteStream(stream);
    this.start();
  }

  /** Everything ends, and starts again with the broker's files as they were. */
  async restore(signal: NodeJS.Signals): Promise<void> {
    await this.#stopAll(signal);
    await rm(this.#store, { recursive: true });
    await cp(this.#copy, this.#store, { recursive: true });
    await rm(this.#copy, { recursive: true });
    this.#broker = await startBroker(this.#dataDir);
    this.start();
  }

  /** In the configuration of the broker that runs, until it restarts. All connections of the service are made anew. */
  async setMaxPayload(bytes: number): Promise<void> {
    const files = openFiles(this.#dataDir);
    const text = await readFile(files.conf, "utf8");
    await writeFile(files.conf, text.replace(/^max_payload: .*$/m, `max_payload: ${bytes}`));
    await reloadServer(files);
    await eventually(async () => {
      const nats = await connectRaw(this.#broker.url);
      await nats.close();
      if (nats.info["max_payload"] !== bytes) throw new Error(`max_payload is ${nats.info["max_payload"]}`);
    });
    for (const name of ["first", "second", "api"] as const) this.#relays[name].cut();
  }

  async close(): Promise<void> {
    await Promise.all(Object.values(this.#pieces).map((piece) => piece.stop("SIGKILL")));
    await stopAllRemudas();
    await Promise.all(Object.values(this.#relays).map((relay) => relay.close()));
    await this.#broker.stop();
    await rm(this.#dataDir, { recursive: true, force: true });
  }

  get #store(): string {
    return openFiles(this.#dataDir).store;
  }

  get #copy(): string {
    return `${this.#store}-copy`;
  }

  async #stopAll(signal: NodeJS.Signals): Promise<void> {
    await Promise.all(Object.values(this.#pieces).map((piece) => piece.stop(signal)));
    await this.#broker.stop();
  }
}

async function startBroker(dataDir: string): Promise<Broker> {
  return openBroker({ dataDir, host: "127.0.0.1", port: 0, binary: () => findTestBinary(), say: () => {} });
}
