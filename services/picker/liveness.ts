// Which pools are led, and by which picker. Each picker answers for all of its pools on one subject, on a connection of
// its own: a flood of requests or reports delays no answer. So "no subscriber" there means that all of its pools may be
// claimed. A picker that is asked for the first time about a pool asks on the pool's subject.
//
// A leader's last proof shows whether it leads. Its own word does not. A picker takes a pool over only while it reaches
// the broker itself: its own broken connection must not look like a dead leader, and in an election all leaders are
// silent.
import type { Msg, Subscription } from "@nats-io/transport-node";
import { pickerOfSubject, pickerSubject } from "../../protocol/subjects.ts";
import { isNoResponders, requestOn } from "../../runtime/bus.ts";
import { type Clock, systemClock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import { isInbox } from "../../runtime/responder.ts";
import { foreignKey } from "./fold.ts";
import type { Leader } from "./leader.ts";
import type { Seen } from "./pool-time.ts";
import type { Reach } from "./reach.ts";
import type { PickerOptions } from "./serving.ts";
import { anybody } from "./who.ts";

type Led = Pick<Leader, "leads" | "state" | "now" | "isSure" | "silentMs" | "submit">;

interface Entry {
  term: number;
  /** The pool's time. */
  at: number;
  /** For how long it has had no proof that it leads. */
  silentMs: number;
}

/** A picker's report about itself. */
interface Sheet {
  picker: string;
  /** Fingerprint of the installation's key. */
  key: string;
  pools: Record<string, Entry>;
}

const askMs = 500;
/** A picker that fails to answer this often in a row counts as hung. A missing subscriber must be seen twice. */
const hungAfter = 3;
const gonePauseMs = 50;
/** How often to look whether the process of a leader lives. */
const watchMs = 40;
/** A question that only shows whether the process is there. */
const onlyAlive = "?";
/** Pools that are looked at within this time share a question. */
const sharedMs = 150;
/** A leader without a proof for longer is suspected. */
const silentMsMax = 1500;
/** A suspected leader loses its pool if it stays silent for this long while this picker reaches the ledger. */
const patienceMs = 2500;
/** An answer waits this long for a fresh proof. */
const proofMs = 300;

export class Liveness {
  readonly #id: string;
  readonly #options: Pick<PickerOptions, "buses" | "key">;
  readonly #reach: Reach;
  readonly #clock: Clock;
  readonly #led = new Map<string, Led>();
  /** The picker that led each pool last. */
  readonly #leaders = new Map<string, string>();
  readonly #seen = new Map<string, Seen>();
  readonly #asked = new Map<string, { on: number; answer: Promise<Sheet | "gone" | "hung"> }>();
  readonly #suspectedOn = new Map<string, number>();
  readonly #subscription: Subscription;
  /** By pool that is followed. */
  readonly #watchers = new Map<string, () => void>();
  #isWatching = false;
  #isStopped = false;

  /** @param id the id of this picker. */
  constructor(id: string, options: Pick<PickerOptions, "buses" | "key" | "clock">, reach: Reach) {
    this.#id = id;
    this.#options = options;
    this.#reach = reach;
    this.#clock = options.clock ?? systemClock;
    this.#subscription = this.#answerOn(pickerSubject(id), () => [...this.#led.keys()]);
  }

  /**
   * Also true if this picker cannot tell.
   * @throws Fault "fix-setup" if the pool's leader has another installation's key.
   */
  async isLed(pool: string): Promise<boolean> {
    const entry = await this.#entryOf(pool);
    if (entry !== undefined && entry.silentMs <= silentMsMax) {
      this.#suspectedOn.delete(pool);
      return true;
    }
    if (!(await this.#reach.isWhole(pool))) {
      this.#suspectedOn.delete(pool);
      return true;
    }
    if (entry === undefined) return false;
    const on = this.#clock.monotonic();
    const since = this.#suspectedOn.get(pool) ?? on;
    this.#suspectedOn.set(pool, since);
    return on - since < patienceMs;
  }

  /** The picker that leads the pool, as far as is known. */
  leaderOf(pool: string): string | undefined {
    return this.#leaders.get(pool);
  }

  /**
   * Calls back when the process of the pool's leader is gone, until the returned function is called. Whether the pool
   * may be claimed must be asked then.
   */
  onGone(pool: string, callback: () => void): () => void {
    this.#watchers.set(pool, callback);
    if (!this.#isWatching) void this.#watch();
    return () => {
      if (this.#watchers.get(pool) === callback) this.#watchers.delete(pool);
    };
  }

  /** The pool's time as its leader last reported it. */
  seen(pool: string): Seen | undefined {
    return this.#seen.get(pool);
  }

  /** A picker has said that it leads the pool. */
  noticed(pool: string, picker: string): void {
    this.#leaders.set(pool, picker);
  }

  /** Answers for this pool as well, until the returned function is called. */
  add(pool: string, leader: Led): () => void {
    this.#led.set(pool, leader);
    const subscription = this.#answerOn(pickerOfSubject(pool), () => [pool]);
    return () => {
      subscription.unsubscribe();
      if (this.#led.get(pool) === leader) this.#led.delete(pool);
    };
  }

  stop(): void {
    this.#isStopped = true;
    this.#subscription.unsubscribe();
  }

  /** Ends when no pool is watched any more. A question to a process that dies is lost, so none is waited for. */
  async #watch(): Promise<void> {
    this.#isWatching = true;
    while (this.#watchers.size > 0 && !this.#isStopped) {
      const pickers = new Set([...this.#watchers.keys()].flatMap((pool) => this.#leaders.get(pool) ?? []));
      for (const picker of pickers) void this.#isGone(picker).then((isGone) => isGone && this.#tellGone(picker));
      await new Promise((resolve) => setTimeout(resolve, watchMs));
    }
    this.#isWatching = false;
  }

  #tellGone(picker: string): void {
    this.#asked.delete(picker); // It may wait for an answer.
    for (const [pool, tell] of [...this.#watchers]) if (this.#leaders.get(pool) === picker) tell();
  }

  /** It is only sure that no subscriber was there at that moment. */
  async #isGone(picker: string): Promise<boolean> {
    try {
      await requestOn(this.#options.buses.peers, pickerSubject(picker), onlyAlive, { timeoutMs: askMs });
      return false;
    } catch (error) {
      return isNoResponders(error);
    }
  }

  #answerOn(subject: string, pools: () => string[]): Subscription {
    const callback = async (error: Error | null, message: Msg): Promise<void> => {
      if (error !== null || !isInbox(message.reply)) return;
      if (message.data.length === onlyAlive.length) return void message.respond();
      // If this process has stood still, its last look at the broker is too old.
      if (this.#reach.silentMs > silentMsMax)
        await Promise.race([this.#reach.look(), new Promise((resolve) => setTimeout(resolve, proofMs))]);
      const { fingerprint: key } = this.#options.key;
      const entries = pools().flatMap((pool) => this.#own(pool) ?? []);
      const sheet: Sheet = { picker: this.#id, key, pools: Object.fromEntries(entries) };
      if (!this.#options.buses.peers.nc.isClosed()) message.respond(JSON.stringify(sheet));
    };
    const { nc } = this.#options.buses.peers;
    return nc.subscribe(subject, { callback: (error, message) => void callback(error, message) });
  }

  #own(pool: string): [string, Entry][] | undefined {
    const leader = this.#led.get(pool);
    if (leader === undefined) return undefined;
    // It may have been deposed while this process did not run. It proves itself, and is silent until then.
    if (!leader.isSure && leader.leads)
      leader.submit({ type: "look" }, { arrivedAt: leader.now(), who: anybody, respond() {}, reply: () => undefined });
    const silentMs = Math.round(Math.max(this.#reach.silentMs, leader.silentMs));
    return [[pool, { term: leader.state.term, at: leader.now(), silentMs }]];
  }

  async #entryOf(pool: string): Promise<Entry | undefined> {
    const known = this.#leaders.get(pool);
    let times = 2;
    if (known !== undefined) {
      const answer = await this.#askPicker(known);
      if (answer === "hung") return undefined;
      const entry = answer === "gone" ? undefined : answer.pools[pool];
      if (entry !== undefined) return entry;
      this.#leaders.delete(pool);
      if (answer === "gone") times = 1; // The other time was just now.
    }
    const answer = await this.#ask(pickerOfSubject(pool), { times });
    if (typeof answer === "string") return undefined;
    if (answer.key !== this.#options.key.fingerprint) throw foreignKey(pool);
    this.#leaders.set(pool, answer.picker);
    return answer.pools[pool];
  }

  #askPicker(id: string): Promise<Sheet | "gone" | "hung"> {
    const on = this.#clock.monotonic();
    const last = this.#asked.get(id);
    if (last !== undefined && on - last.on < sharedMs) return last.answer;
    const answer = this.#ask(pickerSubject(id), { times: 1 });
    this.#asked.set(id, { on, answer });
    // "gone" is shared only while the question is under way.
    void answer.then((found) => {
      if (found === "gone") this.#asked.delete(id);
    });
    return answer;
  }

  /** @param given.times how often "no subscriber" must be seen. */
  async #ask(subject: string, given: { times: number }): Promise<Sheet | "gone" | "hung"> {
    let unanswered = 0;
    for (let attempt = 0; attempt < hungAfter && unanswered < given.times; attempt++) {
      try {
        const sheet = (await requestOn(this.#options.buses.peers, subject, "", { timeoutMs: askMs })).json<Sheet>();
        const on = this.#clock.monotonic();
        for (const [pool, { term, at }] of Object.entries(sheet.pools)) this.#seen.set(pool, { term, at, on });
        return sheet;
      } catch (error) {
        if (error instanceof Fault) return "hung"; // The connection is down.
        if (!isNoResponders(error)) continue;
        unanswered++;
        if (unanswered < given.times) await new Promise((resolve) => setTimeout(resolve, gonePauseMs));
      }
    }
    return unanswered < given.times ? "hung" : "gone";
  }
}
