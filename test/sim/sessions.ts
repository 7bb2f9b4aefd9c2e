// Sessions in an outsider's reading of the ledger: who is bound to which proxy, and until when.
import type { BookLease, BookProxy } from "./book.ts";

interface Session {
  proxy: BookProxy;
  open: Set<BookLease>;
  /** When its last lease was granted or ended. */
  usedAt: number;
}

export class Sessions {
  /** The one that has been idle for longest comes first among those that are idle. */
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

  forget(at: number, ttlMs: number): void {
    for (const [name, { open, usedAt }] of this.#all)
      if (open.size === 0 && usedAt + ttlMs <= at) this.#all.delete(name);
  }

  proxyOf(name: string): BookProxy | undefined {
    return this.#all.get(name)?.proxy;
  }

  /** Is there room for a session of this name? */
  hasRoom(name: string, max: number): boolean {
    return this.#all.has(name) || this.#all.size < max || [...this.#all.values()].some(({ open }) => open.size === 0);
  }
}
