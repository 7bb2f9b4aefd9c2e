// The sessions that the ledger describes: which session is bound to which proxy, and until when.
import type { BookLease, BookProxy } from "./account.ts";

interface Session {
  proxy: BookProxy;
  open: Set<BookLease>;
  /** When its last lease was granted or ended. */
  usedAt: number;
}

export class Sessions {
  /** The session that has been idle for longest comes first among the idle ones. */
  readonly #all = new Map<string, Session>();

  grant(name: string, lease: BookLease, given: { at: number; max: number }): void {
    const session = this.#all.get(name) ?? { proxy: lease.proxy, open: new Set(), usedAt: given.at };
    this.#all.delete(name);
    this.#all.set(name, session);
    session.proxy = lease.proxy;
    session.usedAt = given.at;
    session.open.add(lease);
    for (const [other, { open }] of this.#all)
      if (this.#all.size > given.max && open.size === 0) this.#all.delete(other);
  }

  close(name: string, lease: BookLease, at: number): void {
    const session = this.#all.get(name);
    if (session?.open.delete(lease) !== true) return;
    session.usedAt = at;
    this.#all.delete(name);
    this.#all.set(name, session);
  }

  /** The sessions that have been idle for long enough by then. */
  forget(at: number, ttlMs: number): void {
    for (const name of this.#all.keys()) if (this.#isOver(name, { at, ttlMs })) this.#all.delete(name);
  }

  proxyOf(name: string, when: { at: number; ttlMs: number }): BookProxy | undefined {
    return this.#isOver(name, when) ? undefined : this.#all.get(name)?.proxy;
  }

  #isOver(name: string, { at, ttlMs }: { at: number; ttlMs: number }): boolean {
    const session = this.#all.get(name);
    return session !== undefined && session.open.size === 0 && session.usedAt + ttlMs <= at;
  }

  /** Is there room for a session of this name? An idle session is dropped to make room. */
  hasRoom(name: string, max: number): boolean {
    return this.#all.has(name) || this.#all.size < max || [...this.#all.values()].some(({ open }) => open.size === 0);
  }
}
