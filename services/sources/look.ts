// One look at a source. It reads the source's current list, adds new proxies on top of the pool, and retires proxies
// that the list no longer names if the source allows that. `seen` remembers the proxies that the source has named. The
// follower decides when the next look comes.

import { toSend } from "../../lists/list.ts";
import type { ProxyEntry } from "../../protocol/proxy.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import type { Source, SourceReply } from "../../protocol/source.ts";
import type { Clock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Outbound } from "../../transport/outbound.ts";
import { doubtMs, goneOf } from "./doubt.ts";
import { entriesIn } from "./entries.ts";
import { PoolAway, type PoolPort } from "./pool.ts";
import { type Reading, readListFile, runCommand } from "./reading.ts";
import type { Share } from "./room.ts";
import { addressIn, digestOfText, idsByAddress, namedTo, type Pause, type Seen } from "./seen.ts";
import { readUrl } from "./url.ts";

export interface LookPorts {
  pools: PoolPort;
  clock: Clock;
  seen: Seen;
  /** In `up` the picker shares this process, so long work is done in pieces. */
  pause: Pause;
  /** Does another source of this pool still name the proxy? */
  namedElsewhere(id: string): boolean;
  /** This source's share of the room for lists. It counts the text that is read here, until the pool has it. */
  share: Share;
  /** Ends the work that is under way. */
  stopping: AbortSignal;
  /** Where a request for a list may go. */
  outbound: Outbound;
}

const addedAtOnce = 1000;
/** Entries that are read before the next pause. */
const readAtOnce = 250;
const comparedAtOnce = 1000;
const lookedUpAtOnce = 50;
const retiredAtOnce = 10_000;
/** Well below the largest allowed request. */
const addBytesMax = 256 * 1024;

export type Tally = Omit<NonNullable<SourceReply["last"]>, "at">;

/** An entry that the source did not have before. */
interface Newcomer {
  digest: string;
  sent: ProxyEntry;
  /** The proxy at that address, if the source gave other details for it before. */
  id: string | undefined;
}

/** The proxies that the list names. */
interface Named {
  byEntry: Map<string, string>;
  ids: Set<string>;
}

export class Look {
  readonly #source: Source;
  readonly #ports: LookPorts;

  constructor(source: Source, ports: LookPorts) {
    this.#source = source;
    this.#ports = ports;
  }

  /** @throws Fault if the source gives no whole list now; PoolAway if the source is a pool that does not answer. */
  async read(seenMark: string | undefined): Promise<Reading> {
    const { share } = this.#ports;
    share.free();
    try {
      return await this.#read(seenMark);
    } catch (error) {
      share.free();
      throw error;
    }
  }

  async #read(seenMark: string | undefined): Promise<Reading> {
    const { from } = this.#source;
    const { clock, seen, stopping, outbound } = this.#ports;
    const take = (bytes: number): void => this.#ports.share.take(bytes);
    // A source whose doubt is over is asked for its whole list again.
    const isOver = seen.doubtedSince !== undefined && clock.monotonic() - seen.doubtedSince >= doubtMs;
    const mark = isOver ? undefined : seenMark;
    switch (from.kind) {
      case "file":
        return readListFile(from, mark, clock.wall(), take);
      case "url":
        return readUrl(from, mark, { signal: stopping, outbound, take });
      case "command":
        return runCommand(from, stopping, take);
      case "pool": {
        const pages: string[] = [];
        for await (const proxies of this.#ports.pools.proxies(from.pool, from.labels)) {
          const page = proxies.map(({ id: _, ...entry }) => `${JSON.stringify(entry)}\n`).join("");
          take(page.length);
          pages.push(page);
          if (stopping.aborted) throw new Fault("retry-later", "the source is no longer followed");
        }
        return { text: pages.join("") };
      }
    }
  }

  /**
   * Returns the result; undefined if nothing has changed.
   * @throws Fault; PoolAway if the pool does not accept it now.
   */
  async apply(reading: Reading): Promise<Tally | undefined> {
    let isKept = false;
    try {
      return await this.#apply(reading);
    } catch (error) {
      isKept = error instanceof PoolAway; // The caller offers it again.
      throw error;
    } finally {
      if (!isKept) this.#ports.share.free();
    }
  }

  async #apply(reading: Reading): Promise<Tally | undefined> {
    if (reading === "unchanged") return undefined;
    const { text } = reading;
    const { seen } = this.#ports;
    await this.#recognise();
    const digest = await digestOfText(text, this.#ports.pause);
    if (digest === seen.textDigest && seen.doubtedSince === undefined) return undefined;
    const named: Named = { byEntry: new Map(), ids: new Set() };
    const tally = await this.#add(text, named);
    tally.retired = await this.#retireVanished(named);
    seen.textDigest = digest;
    return tally;
  }

  async #add(text: string, named: Named): Promise<Tally> {
    const { seen, pause, stopping } = this.#ports;
    const tally = { read: 0, added: 0, updated: 0, rejected: 0, retired: 0 };
    // Some lines of a markup page may look like entries.
    if (/^\s*</.test(text)) throw new Fault("retry-later", `${this.#name()} gives an HTML page, not a list`);
    let unread = 0;
    /** The error of the first of them. */
    let why = "";
    let batch: Newcomer[] = [];
    let bytes = 0;
    let byAddress: Map<string, string> | undefined;
    const flush = async () => {
      await this.#addBatch(batch, named, tally);
      batch = [];
      bytes = 0;
    };
    for await (const entry of entriesIn(text, { ...this.#ports, scheme: this.#source.scheme })) {
      tally.read += 1;
      if (tally.read % readAtOnce === 0) await pause();
      if (!entry.ok) {
        unread += 1;
        why ||= entry.why;
        continue;
      }
      const sent = toSend(entry, this.#source.labels);
      const digest = seen.digestOf(sent);
      const id = seen.named.byEntry.get(digest);
      // Only new entries are added. Otherwise a proxy that was retired manually would come back with every look.
      if (id !== undefined) name(named, digest, id);
      else {
        byAddress ??= await idsByAddress(seen.named, pause);
        batch.push({ digest, sent, id: byAddress.get(addressIn(digest)) });
        bytes += Buffer.byteLength(JSON.stringify(sent));
      }
      if (batch.length >= addedAtOnce || bytes >= addBytesMax) await flush();
      if (stopping.aborted) throw new Fault("retry-later", "the source is no longer followed");
    }
    // An error message is not a list, not even an empty one.
    if (tally.read > 0 && unread === tally.read)
      throw new Fault(
        "retry-later",
        `${this.#name()} gives no list: none of ${tally.read} entries can be read (the first ${why})`,
      );
    await flush();
    tally.rejected += unread;
    return tally;
  }

  async #addBatch(all: readonly Newcomer[], named: Named, tally: Tally): Promise<void> {
    const retired = await this.#retiredAmong(all);
    const isRetired = ({ id }: Newcomer): boolean => id !== undefined && retired.has(id);
    for (const newcomer of all.filter(isRetired)) name(named, newcomer.digest, newcomer.id ?? "");
    const batch = all.filter((newcomer) => !isRetired(newcomer));
    if (batch.length === 0) return;
    const proxies = batch.map(({ sent }) => sent);
    const reply = await this.#ports.pools.add(this.#source.pool, proxies);
    tally.added += reply.added;
    tally.updated += reply.updated;
    tally.rejected += reply.rejectedCount;
    for (const [place, id] of (reply.ids ?? []).entries()) {
      const entry = batch[place];
      if (id !== null && entry !== undefined) name(named, entry.digest, id);
    }
  }

  /**
   * If the pool does not have the proxies that the source named before, all of them count as new. The pool is then on
   * another NATS, or its store was lost.
   */
  async #recognise(): Promise<void> {
    const { pools, seen, pause } = this.#ports;
    const { pool } = this.#source;
    const openedAt = await pools.openedAt(pool);
    if (openedAt === seen.named.openedAt) return;
    const there = new Set<string>();
    if (seen.named.ids.size > 0) for await (const page of pools.ids(pool)) for (const id of page) there.add(id);
    seen.named = await namedTo({ openedAt, there }, seen.named, pause); // Kept in the file together with the new list.
    seen.textDigest = undefined;
  }

  /**
   * Retired proxies for which the source gives other details than before. If they were sent, manually retired proxies
   * would come back.
   */
  async #retiredAmong(batch: readonly Newcomer[]): Promise<Set<string>> {
    const { pools } = this.#ports;
    const retired = new Set<string>();
    const known = batch.flatMap(({ id }) => (id === undefined ? [] : [id]));
    for (let from = 0; from < known.length; from += lookedUpAtOnce) {
      const some = known.slice(from, from + lookedUpAtOnce);
      for (const proxy of await Promise.all(some.map((id) => pools.proxy(this.#source.pool, id))))
        if (!isRefusal(proxy) && proxy.state === "retired") retired.add(proxy.id);
    }
    return retired;
  }

  /** Returns how many proxies were retired. */
  async #retireVanished({ byEntry, ids }: Named): Promise<number> {
    const { seen, clock, pools, namedElsewhere } = this.#ports;
    const { pool, name, retire } = this.#source;
    const before = seen.named;
    const vanished = await this.#without(before.ids, ids);
    const { gone, doubtedSince } = goneOf(vanished, {
      ...{ known: before.ids.size, unsure: before.unsure, at: clock.monotonic() },
      doubtedSince: seen.doubtedSince,
    });
    const leaving = retire ? gone.filter((id) => !namedElsewhere(id)) : [];
    let retired = 0;
    for (let from = 0; from < leaving.length; from += retiredAtOnce) {
      const reply = await pools.retire(pool, leaving.slice(from, from + retiredAtOnce), `no longer named by ${name}`);
      retired += reply.changed;
    }
    seen.doubtedSince = doubtedSince;
    if (doubtedSince === undefined) await seen.keep({ byEntry, ids, unsure: new Set(), openedAt: before.openedAt });
    else {
      // The proxies of the previous list stay known. Otherwise they would be new when the list is whole again,
      // and manually retired ones would come back.
      const newcomers = await this.#without(ids, before.ids);
      await seen.keep({
        byEntry: new Map(await this.#joined(before.byEntry, byEntry)),
        ids: new Set(await this.#joined(before.ids, newcomers)),
        unsure: new Set(await this.#joined(before.unsure, newcomers)),
        openedAt: before.openedAt,
      });
    }
    return retired;
  }

  async #joined<T>(...all: Iterable<T>[]): Promise<T[]> {
    const joined: T[] = [];
    for (const items of all) {
      for (const item of items) if (joined.push(item) % comparedAtOnce === 0) await this.#ports.pause();
    }
    return joined;
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

  /** The part of the name that may be shown. The remainder may be a secret. */
  #name(): string {
    const { from } = this.#source;
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

function name({ byEntry, ids }: Named, digest: string, id: string): void {
  byEntry.set(digest, id);
  ids.add(id);
}
