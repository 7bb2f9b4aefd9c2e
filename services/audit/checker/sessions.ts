// Sessions, written a second time from the rules. A name is bound to the proxy of its last grant, until `ttlMs` after
// the end of its last lease. A lease request under a bound name gets that proxy, unless the proxy is retired, rests for
// longer than `patienceMs`, or does not match the request.

interface Session {
  proxyId: string;
  open: number;
  usedAt: number;
}

export class Sessions {
  readonly #all = new Map<string, Session>();
  /** Names without an open lease, in the order in which they became idle. */
  readonly #idle = new Set<string>();

  get size(): number {
    return this.#all.size;
  }

  get idle(): number {
    return this.#idle.size;
  }

  proxyOf(name: string): string | undefined {
    return this.#all.get(name)?.proxyId;
  }

  grant(name: string, proxyId: string, at: number): void {
    const session = this.#all.get(name);
    if (session === undefined) this.#all.set(name, { proxyId, open: 1, usedAt: at });
    else {
      session.proxyId = proxyId;
      session.usedAt = at;
      session.open++;
    }
    this.#idle.delete(name);
  }

  end(name: string, at: number): void {
    const session = this.#all.get(name);
    if (session === undefined) return;
    session.usedAt = at;
    if (--session.open === 0) this.#idle.add(name);
  }

  forget({ at, ttlMs }: { at: number; ttlMs: number }): void {
    for (const name of this.#idle) {
      if (this.#all.get(name)!.usedAt + ttlMs > at) return; // Idle names are in the map.
      this.#drop(name);
    }
  }

  /** Forgets the names that are idle for longest if there are more than the maximum. */
  forgetSurplus(max: number): void {
    for (const name of this.#idle) {
      if (this.#all.size <= max) return;
      this.#drop(name);
    }
  }

  #drop(name: string): void {
    this.#idle.delete(name);
    this.#all.delete(name);
  }
}
