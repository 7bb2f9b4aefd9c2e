// The tokens that the ledger describes: each current token, and each refresh under way. It shares no code with the
// decisions or the fold.
import type { Event } from "../../events/event.ts";
import type { Policy } from "../../events/policy.ts";

export interface BookToken {
  /** The proxy's id, or "pool". */
  key: string;
  current: { id: string; mintedAt: number; expiresAt: number; rejected: boolean } | undefined;
  refresh: { id: string; leaseId: string; deadlineAt: number } | undefined;
  failures: number;
  retryAt: number;
  /** True: the next refresh begins only when a token is requested or rejected. */
  unavailable?: boolean;
}

export class TokenBook {
  readonly tokens = new Map<string, BookToken>();
  /** The ids of all minted tokens, the latest last. */
  readonly minted: string[] = [];
  #scope: "proxy" | "pool" | undefined;

  /** Can the token for requests through this proxy be given out? */
  isGood(proxyId: string, at: number): boolean {
    const { current } = this.of(proxyId) ?? {};
    return current !== undefined && !current.rejected && current.expiresAt > at;
  }

  of(proxyId: string): BookToken | undefined {
    return this.#scope === undefined ? undefined : this.tokens.get(this.#scope === "pool" ? "pool" : proxyId);
  }

  /** The entry whose current token has this id, if the policy still has that scope. */
  currentlyCalled(id: string): BookToken | undefined {
    if (this.#scope === undefined) return undefined;
    return [...this.tokens.values()].find(
      ({ key, current }) => current?.id === id && (this.#scope === "proxy" || key === "pool"),
    );
  }

  policy({ token }: Policy): void {
    this.#scope = token?.scope;
    for (const token of this.tokens.values()) this.#forget(token);
  }

  write(event: Event): void {
    switch (event.type) {
      case "TokenRequested": {
        const { tokenId: id, leaseId, deadlineAt } = event;
        Object.assign(this.#at(event.proxyId), { refresh: { id, leaseId, deadlineAt }, unavailable: false });
        return;
      }
      case "TokenMinted": {
        const token = this.#at(event.proxyId);
        const { tokenId: id, mintedAt, expiresAt = Infinity } = event;
        this.minted.push(id);
        Object.assign(token, { refresh: undefined, failures: 0, retryAt: 0 });
        token.current = { id, mintedAt, expiresAt, rejected: false };
        return this.#forget(token);
      }
      case "TokenRefused": {
        const token = this.#at(event.proxyId);
        const unavailable = event.token === "unavailable";
        Object.assign(token, { refresh: undefined, failures: event.failures, retryAt: event.retryAt, unavailable });
        return this.#forget(token);
      }
      case "TokenRejected": {
        const token = this.tokens.get(event.proxyId ?? "pool");
        if (event.count !== undefined || token?.current === undefined) return;
        token.current.rejected = true;
        token.unavailable = false;
      }
    }
  }

  #at(key = "pool"): BookToken {
    const token = this.tokens.get(key) ?? { key, current: undefined, refresh: undefined, failures: 0, retryAt: 0 };
    this.tokens.set(key, token);
    return token;
  }

  /** An entry of another scope than the policy's is dropped when it has no refresh under way. */
  #forget({ key, refresh }: BookToken): void {
    const scope = key === "pool" ? "pool" : "proxy";
    if (refresh === undefined && scope !== this.#scope) this.tokens.delete(key);
  }
}
