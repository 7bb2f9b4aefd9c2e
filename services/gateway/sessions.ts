// Sessions with a lifetime of their own (option `ttl`). The pool knows one lifetime for all its sessions. So a session
// that was not used for its own time gets another name here, and with it another proxy. After a restart of the gateway
// the first name is used again.
import { randomBytes } from "node:crypto";

/** Beyond this the sessions that were used least recently begin anew under their first name. */
const sessionsMax = 100_000;

export class Sessions {
  /** By user, pool and session, the least recently used first. */
  readonly #known = new Map<string, { usedAt: number; suffix: string }>();

  /** The name to lease under. @param now `performance.now()` */
  nameFor(of: { user: string; pool: string; session: string; ttlMs: number }, now: number): string {
    const { user, pool, session, ttlMs } = of;
    const key = JSON.stringify([user, pool, session]);
    const known = this.#known.get(key);
    const isOver = known !== undefined && now - known.usedAt > ttlMs;
    const suffix = isOver ? `~${randomBytes(6).toString("base64url")}` : (known?.suffix ?? "");
    this.#known.delete(key);
    this.#known.set(key, { usedAt: now, suffix });
    const [oldest = ""] = this.#known.keys();
    if (this.#known.size > sessionsMax) this.#known.delete(oldest);
    return `${session.slice(0, 128 - suffix.length)}${suffix}`;
  }
}
