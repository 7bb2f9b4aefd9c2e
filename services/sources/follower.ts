// One source, followed: looked at every so often, what is new added on top of the pool, what it names no longer retired if
// it says that it may. One look at a time. Whatever a look comes to, the next one comes; nothing here ends the process.

import type { SplitRow } from "../../lists/csv.ts";
import { readList, toSend } from "../../lists/list.ts";
import type { ProxyEntry } from "../../protocol/proxy.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import type { Source, SourceReply } from "../../protocol/source.ts";
import type { Clock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import { doubtMs, judgeVanished } from "./doubt.ts";
import { PoolAway, type PoolPort } from "./pool.ts";
import { Prober } from "./prober.ts";
import { BeingWritten, type Reading, readListFile, runCommand } from "./reading.ts";
import { addressIn, digestOfText, idsByAddress, namedTo, type Pause, type Seen } from "./seen.ts";
import { PutOff, readUrl } from "./url.ts";

export interface FollowerPorts {
  pools: PoolPort;
  clock: Clock;
  splitRow: SplitRow;
  seen: Seen;
  /** In \`up\` this process is the picker's, too: what takes long is done in pieces. */
  pause: Pause;
  /** Does another source of this pool still name it? */
  namedElsewhere(id: string): boolean;
  onTrouble(why: string): void;
}

/** A file is looked at this often, whatever `everyMs` says: a look that finds nothing new costs one stat. */
const fileLookMs = 1000;
/** After a first failure; after each further one twice as long, up to `everyMs`: a vendor counts its visitors, too. */
const retryMs = 30_000;
/** While the pool does not take what was read. */
const poolRetryMs = 5000;
const addedAtOnce = 1000;
/** Gone through at a time. */
const readAtOnce = 250;
const comparedAtOnce = 1000;
const lookedUpAtOnce = 50;
const retiredAtOnce = 10_000;
/** Well below what a request may have. */
const addBytesMax = 256 * 1024;

/** An entry that the source did not have before. */
interface Newcomer {
  digest: string;
  sent: ProxyEntry;
  /** Of the proxy at that address, of which it told something else before. */
  id: string | undefined;
}

export class Follower {
  readonly source: Source;
  readonly #ports: FollowerPorts;
  readonly #stopping = new AbortController();
  #mark: string | undefined;
  #digest: string | undefined;
  #doubtedSince: number | undefined;
  #last: SourceReply["last"];
  #trouble: SourceReply["trouble"];
  /** Of the source, in a row. */
  #failures = 0;
  /** What the pool has not taken yet: nobody is asked, nor a command run, once more for it. */
  #untaken: { reading: Reading; at: number } | undefined;
  #isPoolAway = false;
  /** Monotonic: the source has said that it is not to be asked before. */
  #putOffUntil = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;
  #cancel = () => {};
  #nextAt: number | undefined;
  readonly #prober: Prober | undefined;

  constructor(source: Source, ports: FollowerPorts) {
    this.source = source;
    this.#ports = ports;
    const { pools, clock, seen } = ports;
    if (source.probe !== undefined)
      this.#prober = new Prober(source.pool, source.probe, { pools, clock, ids: () => seen.named.ids });
  }

  start(): void {
    this.#prober?.start();
    void this.lookNow();
  }

  /** Resolves when a look that began after the call has ended. @param whole read even if it says that it has not changed. */
  async lookNow({ whole = false } = {}): Promise<void> {
    await this.#looking;
    if (this.#stopping.signal.aborted) return;
    if (whole) {
      this.#mark = undefined;
      this.#untaken = undefined;
    }
    this.#cancel();
    this.#nextAt = undefined;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#plan();
    });
    await this.#looking;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#cancel();
    await Promise.all([this.#looking, this.#prober?.stop()]);
  }

  get isLooking(): boolean {
    return this.#looking !== undefined;
  }

  get isPutOff(): boolean {
    return this.#ports.clock.monotonic() < this.#putOffUntil;
  }

  /** Is this proxy among those that it named when it was last believed? */
  readonly names = (id: string): boolean => this.#ports.seen.has(id);

  view(): SourceReply {
    const { name, pool, from, everyMs, retire } = this.source;
    const { wall, monotonic } = this.#ports.clock;
    return {
      ...{ name, pool, kind: from.kind, everyMs, retire },
      proxies: this.#ports.seen.named.ids.size,
      ...(this.#last && { last: this.#last }),
      ...(this.#trouble && { trouble: this.#trouble }),
      ...(this.#doubtedSince !== undefined && {
        doubtedUntil: Math.round(wall() + this.#doubtedSince + doubtMs - monotonic()),
      }),
      ...(this.#nextAt !== undefined && { nextAt: this.#nextAt }),
      ...(this.#prober && { probes: this.#prober.view() }),
    };
  }

  #plan(): void {
    if (this.#stopping.signal.aborted) return;
    const { everyMs, from } = this.source;
    const { clock } = this.#ports;
    let afterMs = everyMs;
    if (this.#failures > 0) afterMs = Math.min(afterMs, retryMs * 2 ** Math.min(this.#failures - 1, 16));
    if (this.#isPoolAway) afterMs = Math.min(afterMs, poolRetryMs);
    // The second word of a source that is doubted.
    if (this.#doubtedSince !== undefined) afterMs = Math.min(afterMs, doubtMs);
    if (from.kind === "file") afterMs = Math.min(afterMs, fileLookMs);
    afterMs = Math.max(afterMs, this.#putOffUntil - clock.monotonic());
    this.#nextAt = Math.round(clock.wall() + afterMs);
    this.#cancel = clock.after(afterMs, () => void this.lookNow());
  }

  async #look(): Promise<void> {
    const { clock, onTrouble } = this.#ports;
    this.#isPoolAway = false;
    this.#putOffUntil = Number.NEGATIVE_INFINITY;
    try {
      const { everyMs, from } = this.source;
      const isDear = from.kind === "url" || from.kind === "command";
      const isFresh = isDear && this.#untaken !== undefined && clock.monotonic() - this.#untaken.at < everyMs;
      if (!isFresh) this.#untaken = { at: clock.monotonic(), reading: await this.#read() };
      if (this.#stopping.signal.aborted || this.#untaken === undefined) return;
      const { reading } = this.#untaken;
      if (reading !== "unchanged") await this.#take(reading);
      this.#untaken = undefined;
      this.#trouble = undefined;
      this.#failures = 0;
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      if (!(error instanceof Fault)) throw error;
      this.#isPoolAway = error instanceof PoolAway;
      if (error instanceof PutOff) this.#putOffUntil = clock.monotonic() + error.forMs;
      if (!this.#isPoolAway) {
        this.#untaken = undefined;
        this.#failures += 1;
      }
      const isNew = this.#trouble?.why !== error.message;
      this.#trouble = { since: this.#trouble?.since ?? clock.wall(), why: error.message };
      if (isNew && !(error instanceof BeingWritten)) onTrouble(error.message);
    }
  }

  async #read(): Promise<Reading> {
    const { from } = this.source;
    const { clock } = this.#ports;
    // Whose doubt is over is asked for its whole list again.
    const isOver = this.#doubtedSince !== undefined && clock.monotonic() - this.#doubtedSince >= doubtMs;
    const mark = isOver ? undefined : this.#mark;
    switch (from.kind) {
      case "file":
        return readListFile(from, mark, clock.wall());
      case "url":
        return readUrl(from, mark, this.#stopping.signal);
      case "command":
        return runCommand(from, this.#stopping.signal);
      case "pool": {
        const proxies = await this.#ports.pools.proxies(from.pool, from.labels);
        const lines: string[] = [];
        for (const { id: _, ...entry } of proxies) {
          lines.push(JSON.stringify(entry));
          if (lines.length % comparedAtOnce === 0) await this.#ports.pause();
        }
        return { text: lines.join("\n") };
      }
    }
  }

  async #take({ text, mark }: Exclude<Reading, "unchanged">): Promise<void> {
    await this.#recognise();
    const digest = digestOfText(text);
    if (digest === this.#digest && this.#doubtedSince === undefined) {
      this.#mark = mark;
      return;
    }
    const { seen } = this.#ports;
    const named = new Map<string, string>();
    const ids = new Set<string>();
    const name = (entryDigest: string, id: string): void => {
      named.set(entryDigest, id);
      ids.add(id);
    };
    const tally = { read: 0, added: 0, updated: 0, rejected: 0, retired: 0 };
    // Of markup some lines may look like entries.
    if (/^\s*</.test(text)) throw new Fault("retry-later", `${this.#name()} gives a page, and no list`);
    let unread = 0;
    /** What was wrong with the first of them. */
    let why = "";
    let batch: Newcomer[] = [];
    let bytes = 0;
    let byAddress: Map<string, string> | undefined;
    const flush = async () => {
      const retired = await this.#retiredAmong(batch);
      for (const { digest: entryDigest, id } of batch) if (id !== undefined && retired.has(id)) name(entryDigest, id);
      batch = batch.filter(({ id }) => id === undefined || !retired.has(id));
      if (batch.length === 0) return;
      const reply = await this.#ports.pools.add(
        this.source.pool,
        batch.map(({ sent }) => sent),
      );
      tally.added += reply.added;
      tally.updated += reply.updated;
      tally.rejected += reply.rejectedCount;
      for (const [place, id] of (reply.ids ?? []).entries()) {
        const entry = batch[place];
        if (id !== null && entry !== undefined) name(entry.digest, id);
      }
      batch = [];
      bytes = 0;
    };
    for (const entry of readList(text, this.#ports.splitRow)) {
      tally.read += 1;
      if (tally.read % readAtOnce === 0) await this.#ports.pause();
      if (!entry.ok) {
        tally.rejected += 1;
        unread += 1;
        why ||= entry.why;
        continue;
      }
      const sent = toSend(entry, this.source.labels);
      const entryDigest = seen.digestOf(sent);
      const id = seen.named.byEntry.get(entryDigest);
      // Only what is new: a proxy that was retired by hand is not to come back with every look.
      if (id !== undefined) name(entryDigest, id);
      else {
        byAddress ??= await idsByAddress(seen.named, this.#ports.pause);
        batch.push({ digest: entryDigest, sent, id: byAddress.get(addressIn(entryDigest)) });
        bytes += Buffer.byteLength(JSON.stringify(sent));
      }
      if (batch.length >= addedAtOnce || bytes >= addBytesMax) await flush();
      if (this.#stopping.signal.aborted) return;
    }
    // An error message is no list, not even an empty one.
    if (tally.read > 0 && unread === tally.read)
      throw new Fault(
        "retry-later",
        `${this.#name()} gives no list: none of ${tally.read} entries can be read (the first ${why})`,
      );
    await flush();
    await this.#settle({ named, ids, tally });
    this.#mark = mark;
    this.#digest = digest;
  }

  /** To a pool that does not have what it named before, all of it is new: another NATS, or a store that was lost. */
  async #recognise(): Promise<void> {
    const { pools, seen, pause } = this.#ports;
    const { pool } = this.source;
    const openedAt = await pools.openedAt(pool);
    if (openedAt === seen.named.openedAt) return;
    const there = new Set<string>();
    if (seen.named.ids.size > 0) for await (const page of pools.ids(pool)) for (const id of page) there.add(id);
    seen.named = await namedTo({ openedAt, there }, seen.named, pause); // Kept with what is named to it now.
    this.#digest = undefined;
  }

  /** Of whom something else is told than before: were they sent, those that somebody has retired would come back. */
  async #retiredAmong(batch: readonly Newcomer[]): Promise<Set<string>> {
    const { pools } = this.#ports;
    const retired = new Set<string>();
    const known = batch.flatMap(({ id }) => (id === undefined ? [] : [id]));
    for (let from = 0; from < known.length; from += lookedUpAtOnce) {
      const some = known.slice(from, from + lookedUpAtOnce);
      for (const proxy of await Promise.all(some.map((id) => pools.proxy(this.source.pool, id))))
        if (!isRefusal(proxy) && proxy.state === "retired") retired.add(proxy.id);
    }
    return retired;
  }

  async #settle({
    named,
    ids,
    tally,
  }: {
    named: ReadonlyMap<string, string>;
    ids: ReadonlySet<string>;
    tally: Omit<NonNullable<SourceReply["last"]>, "at">;
  }): Promise<void> {
    const { seen, clock, pools, namedElsewhere } = this.#ports;
    const { pool, name } = this.source;
    const before = seen.named;
    const vanished = await this.#without(before.ids, ids);
    const { gone, doubtedSince } = judgeVanished(vanished, {
      ...{ known: before.ids.size, unsure: before.unsure, at: clock.monotonic() },
      doubtedSince: this.#doubtedSince,
    });
    const leaving = this.source.retire ? gone.filter((id) => !namedElsewhere(id)) : [];
    for (let from = 0; from < leaving.length; from += retiredAtOnce) {
      const reply = await pools.retire(pool, leaving.slice(from, from + retiredAtOnce), `no longer named by ${name}`);
      tally.retired += reply.changed;
    }
    this.#doubtedSince = doubtedSince;
    if (doubtedSince === undefined)
      await seen.keep({ byEntry: named, ids, unsure: new Set(), openedAt: before.openedAt });
    else {
      // What it named before stays known: else it would be new when the list is whole again, and come back where it had been
      // retired by hand.
      const newcomers = await this.#without(ids, before.ids);
      await seen.keep({
        byEntry: new Map([...before.byEntry, ...named]),
        ids: new Set([...before.ids, ...newcomers]),
        unsure: new Set([...before.unsure, ...newcomers]),
        openedAt: before.openedAt,
      });
    }
    this.#last = { at: clock.wall(), ...tally };
  }

  async #without(ids: ReadonlySet<string>, others: ReadonlySet<string>): Promise<string[]> {
    const left: string[] = [];
    let looked = 0;
    for (const id of ids) {
      if (!others.has(id)) left.push(id);
      if (++looked % comparedAtOnce === 0) await this.#ports.pause();
    }
    return left;
  }

  /** As it may be said: the rest of it may be a secret. */
  #name(): string {
    const { from } = this.source;
    switch (from.kind) {
      case "file":
        return from.path;
      case "url":
        return new URL(from.url).host;
      case "command":
        return from.command[0] ?? "";
      case "pool":
        return `the pool ${from.pool}`;
    }
  }
}
