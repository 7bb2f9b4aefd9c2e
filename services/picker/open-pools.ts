// The quota of open pools. A pool counts for the user who opened it, as its ledger says. Requests of one user are
// checked one after another, so they cannot pass the quota together. Another picker may check one at the same moment.
import type { PoolReply } from "../../protocol/pool.ts";
import { overQuota } from "../../protocol/quota.ts";
import { isRefusal, overloaded, refuse } from "../../protocol/refusal.ts";
import { atMost } from "../../runtime/at-most.ts";
import type { Opener } from "./openers.ts";

/** It is not known when a pool will be closed. */
const retryMs = 60_000;
/** At most this many requests of one user wait to be checked. Further ones are rejected. */
const checksMax = 100;
/** At most this many pools that are led elsewhere are asked at the same time. */
const looksAtOnce = 50;

export interface OpenPoolsPorts {
  /** Of all open pools. */
  names(): Promise<string[]>;
  /** The pool, or a refusal if its leader does not answer. */
  look(pool: string): Promise<object>;
}

export class OpenPools {
  readonly #ports: OpenPoolsPorts;
  readonly #looks = atMost(looksAtOnce);
  /** By user: its last check, how many there are, and the pools that are being opened for it. */
  readonly #checks = new Map<string, { last: Promise<void>; count: number }>();
  readonly #opening = new Map<string, Set<string>>();

  constructor(ports: OpenPoolsPorts) {
    this.#ports = ports;
  }

  /**
   * Opens the pool if the user's quota allows it, and answers otherwise. A pool that is open already needs no quota.
   */
  async admit(pool: string, opener: Opener, open: (opener: Opener) => void): Promise<void> {
    const { name = "" } = opener.who;
    const checks = this.#checks.get(name) ?? { last: Promise.resolve(), count: 0 };
    if (checks.count >= checksMax)
      return opener.respond(overloaded(`More than ${checksMax} requests of ${name} to open pools are waiting.`));
    this.#checks.set(name, checks);
    checks.count++;
    checks.last = checks.last.then(() => this.#check(pool, opener, open));
    await checks.last;
    if (--checks.count === 0) this.#checks.delete(name);
  }

  async #check(pool: string, opener: Opener, open: (opener: Opener) => void): Promise<void> {
    const { name = "", quota } = opener.who;
    const most = quota?.openPools ?? Infinity;
    try {
      const names = await this.#ports.names();
      if (names.includes(pool)) return open(opener);
      const own = new Set(await this.#openedBy(name, names));
      const opening = this.#opening.get(name) ?? new Set();
      if (new Set([...own, ...opening]).size >= most)
        return opener.respond(overloaded(overQuota(name, "openPools", most), retryMs));
      this.#opening.set(name, opening.add(pool));
      open({ ...opener, respond: (answer) => this.#opened(name, pool, () => opener.respond(answer)) });
    } catch {
      const why = "The user's open pools cannot be counted: the broker does not answer.";
      opener.respond(refuse("unavailable", why, { retryAfterMs: 1000 }));
    }
  }

  #opened(name: string, pool: string, respond: () => void): void {
    const opening = this.#opening.get(name);
    opening?.delete(pool);
    if (opening?.size === 0) this.#opening.delete(name);
    respond();
  }

  /** A pool whose leader does not answer is not counted. */
  async #openedBy(name: string, names: readonly string[]): Promise<string[]> {
    const looks = await Promise.all(names.map((each) => this.#looks(() => this.#ports.look(each))));
    return names.filter((_, i) => {
      const pool = looks[i];
      return pool !== undefined && !isRefusal(pool) && (pool as PoolReply).openedBy === name; // The reply of pool.get.
    });
  }
}
