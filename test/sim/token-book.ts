// The tokens that the ledger describes: each current token, and each refresh under way. It shares no code with the
// decisions or the fold.
import type { Event } from "../../events/event.ts";
import type { Policy } from "../../events/policy.ts";

export interface BookToken {
  /** The proxy's id, or "pool". */
  key: string;
  current: { id: string; mintedAt: number; expiresAt: number; rejected: boolean } | undefined;
  refresh: { id: string; deadlineAt: number } | undefined;
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
        const { tokenId: id, deadlineAt } = event;
        this.#at(event.proxyId).refresh = { id, deadlineAt };
        return;
      }
      case "TokenMinted": {
        const token = this.#at(event.proxyId);
        const { tokenId: id, mintedAt, expiresAt = Infinity } = event;
        this.minted.push(id);
        token.refresh = undefined;
        token.current = { id, mintedAt, expiresAt, rejected: false };
        return this.#forget(token);
      }
      case "TokenRefused": {
        const token = this.#at(event.proxyId);
        token.refresh = undefined;
        return this.#forget(token);
      }
      case "TokenRejected": {
        const token = this.tokens.get(event.proxyId ?? "pool");
        if (event.count !== undefined || token?.current === undefined) return;
        token.current.rejected = true;
      }
    }
  }

  #at(key = "pool"): BookToken {
    const token = this.tokens.get(key) ?? { key, current: undefined, refresh: undefined };
    this.tokens.set(key, token);
    return token;
  }

  /** An entry of another scope than the policy's is dropped when it has no refresh under way. */
  #forget({ key, refresh }: BookToken): void {
    const scope = key === "pool" ? "pool" : "proxy";
    if (refresh === undefined && scope !== this.#scope) this.tokens.delete(key);
  }
}
