// Watches the streams that a picker needs. A stream may be deleted, changed, full, or frozen by a disk that was full,
// while its pools seem well: nothing shows it before the next commit or outcome. The picker is not ready meanwhile, and
// its log has one line. The stream of outcomes is only a buffer, so it is made again.
import type { Logger } from "pino";
import { messageOf } from "../../runtime/fault.ts";
import { callJs, ifStream, isJsError, jsErrors, type StreamInfo, streamInfo } from "../../runtime/jetstream-api.ts";
import { payloadFault } from "../../runtime/payload.ts";
import { changesTo, ensureStream, wrongIn, wrongSetting } from "../../runtime/streams.ts";
import type { NeededStream } from "./stream-settings.ts";

const everyMsDefault = 2000;
/** A probe is more expensive, so only each fifth look makes one. */
const looksPerProbe = 5;
/** A stream above this share of its bound has room for hardly any message. */
const fullShare = 0.98;
/** No pool has this name, so no message has this subject. */
const noPool = "_";

interface WatchPorts {
  needed: readonly NeededStream[];
  log: Pick<Logger, "error" | "warn">;
  /** How many entries the pools that are led here have in the bucket of secrets, at least. */
  secretEntries: () => number;
  /** A stream has taken no messages since its disk was full. Called at each look. */
  onFrozen?: ((message: string) => void) | undefined;
  everyMs?: number | undefined;
}

export class StreamWatch {
  readonly #ports: WatchPorts;
  /** The problem of each stream that has one. */
  readonly #troubles = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #looks = 0;
  #isOver = false;
  /** The bucket had too few entries at the last look. */
  #wasShort = false;

  constructor(ports: WatchPorts) {
    this.#ports = ports;
  }

  start(): void {
    const { everyMs = everyMsDefault } = this.#ports;
    this.#timer = setTimeout(() => void this.#lookAgain(), everyMs).unref();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  troubles(): { stream: string; message: string }[] {
    return [...this.#troubles].map(([stream, message]) => ({ stream, message }));
  }

  async look(): Promise<void> {
    const probes = this.#looks++ % looksPerProbe === 0;
    for (const needed of this.#ports.needed) {
      const { name } = needed.settings;
      const before = this.#troubles.get(name);
      let found: string | undefined;
      try {
        found = await this.#troubleOf(needed, probes || before !== undefined);
      } catch {
        continue; // The broker does not answer, which says nothing about the stream.
      }
      if (this.#isOver) return;
      if (found === undefined) this.#troubles.delete(name);
      else this.#troubles.set(name, found);
      if (found !== undefined && found !== before) this.#ports.log.error({ stream: name }, found);
      if (found === undefined && before !== undefined)
        this.#ports.log.warn({ stream: name }, "the stream can be used again");
    }
  }

  async #lookAgain(): Promise<void> {
    await this.look();
    if (!this.#isOver) this.start();
  }

  /** @throws if the broker does not answer. */
  async #troubleOf(needed: NeededStream, probes: boolean): Promise<string | undefined> {
    const { bus, settings, isBuffer, todo } = needed;
    const { name } = settings;
    const payload = payloadFault(bus);
    if (payload !== undefined) return payload.message;
    const entries = this.#ports.secretEntries();
    const info = await ifStream(streamInfo(bus, name));
    if (info === undefined) {
      if (!isBuffer) return `The JetStream stream ${name} is missing. ${todo}.`;
      return this.#made(needed, "the stream was missing, and has been made again");
    }
    const [wrong] = wrongIn(info.config, settings);
    if (wrong !== undefined)
      return `${wrongSetting(name, wrong)}. Change it: nats stream edit ${name}. Or restore it from a backup.`;
    // A bound that an operator lowers now holds until the next start.
    if (changesTo(info.config, { ...settings, raised: {} }) !== undefined)
      return this.#made(needed, "the stream had wrong settings, and has been corrected");
    if (isFull(info)) {
      const { state, config } = info;
      const raise = `nats stream edit ${name} --max-bytes=…`;
      return `The JetStream stream ${name} is full: ${state.bytes} of ${Number(config["max_bytes"])} bytes. Raise its bound: ${raise}`;
    }
    if (settings.name.startsWith("KV_") && this.#isShort(info, entries))
      return `The JetStream stream ${name} was purged: ${info.state.messages} of at least ${entries} entries are left. ${todo}.`;
    return probes ? this.#frozen(needed, info) : this.#troubles.get(name);
  }

  /** Twice in a row, because entries come and go meanwhile. */
  #isShort(info: StreamInfo, entries: number): boolean {
    const wasShort = this.#wasShort;
    this.#wasShort = info.state.messages < entries;
    return this.#wasShort && wasShort;
  }

  async #made({ bus, settings }: NeededStream, what: string): Promise<string | undefined> {
    try {
      await ensureStream(bus, { ...settings, raised: {} });
      this.#ports.log.warn({ stream: settings.name }, what);
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  /**
   * A stream that failed to write once takes no messages until its server restarts. It neither refuses nor acknowledges
   * them. Only a purge shows the error, even a purge of nothing.
   */
  async #frozen({ bus, settings }: NeededStream, { config }: StreamInfo): Promise<string | undefined> {
    if (Number(config["num_replicas"] ?? 1) > 1) return undefined; // Another replica leads it then.
    const [subjects = ""] = settings.fixed["subjects"] as string[]; // Each of ours has one.
    try {
      await callJs(bus, `STREAM.PURGE.${settings.name}`, { filter: subjects.replace(/[*>]$/, noPool) });
      return undefined;
    } catch (error) {
      if (!isJsError(error, jsErrors.purgeFailed)) return undefined; // Perhaps this login may not purge.
      const message =
        `The JetStream stream ${settings.name} has taken no messages since a write to its disk failed ` +
        `(${messageOf(error)}). Make room there. Then restart the NATS server; "remuda up" restarts its own server by itself.`;
      this.#ports.onFrozen?.(message);
      return message;
    }
  }
}

function isFull({ config, state }: StreamInfo): boolean {
  const max = Number(config["max_bytes"] ?? -1);
  return config["discard"] === "new" && max > 0 && state.bytes > max * fullShare;
}
