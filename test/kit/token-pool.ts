// A pool in virtual time whose policy has a token source. The test is the executor: it decides the result of each
// refresh.
import { expect } from "vitest";
import type { TokenRequested, WhyRefused } from "../../events/token.ts";
import type { LeaseRequest } from "../../protocol/lease.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import type { TokenResult } from "../../state-machines/command.ts";
import { refreshOf, reject } from "../../state-machines/decide/token.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import { poolKey } from "../../state-machines/machines/token.ts";
import { isGood, tokenFor } from "../../state-machines/rules/token.ts";
import { candidates, hasRoom, WaitingPool } from "./waiting-pool.ts";

export const source = { url: "http://127.0.0.1:9/guest", value: { jsonPointer: "/guest_token" } };

export class TokenPool extends WaitingPool {
  /** Every refresh that was begun, in order. */
  readonly requested: TokenRequested[] = [];

  constructor(token: Record<string, unknown> = {}, policy: Record<string, unknown> = {}) {
    super({ usage: null, ...policy, token: { source, ...token } });
  }

  override turn<T>(decide: (turn: Turn) => T): T {
    const result = super.turn(decide);
    if (this.requested === undefined) return result;
    for (const event of this.facts) if (event.type === "TokenRequested") this.requested.push(event);
    // Two refreshes never run at once, by the ledger alone.
    for (const token of this.state.tokens.values()) {
      const open = this.requested.filter(({ tokenId }) => refreshOf(this.state, tokenId) === token);
      expect(open.length, `refreshes of ${token.key}`).toBeLessThanOrEqual(1);
    }
    for (const { request } of this.queue ?? []) if (request.token === true) this.#expectCare(request);
    return result;
  }

  /** No request waits for a token that could be fetched now, unless a refresh is running that may serve the request. */
  #expectCare(request: LeaseRequest): void {
    const { state } = this;
    const { token: policy } = state.rules.policy;
    if (policy === null || state.draining || !state.opened) return;
    const through = policy.scope === "pool" ? [...state.proxies.values()] : candidates(state, request);
    const minUses = policy.scope === "pool" ? 1 : request.minUses;
    const tokens = through.map((proxy) => tokenFor(state, proxy));
    if (tokens.some((token) => isGood(state, token) || (token?.refresh ?? null) !== null)) return;
    const idle = through.filter(
      (proxy) =>
        proxy.state !== "retired" &&
        (tokenFor(state, proxy)?.retryAt ?? 0) <= this.at &&
        hasRoom(state, proxy, minUses),
    );
    expect(
      idle.map(({ id }) => id),
      `nothing is fetched for ${JSON.stringify(request)}`,
    ).toEqual([]);
  }

  get fetching(): TokenRequested[] {
    return this.requested.filter(({ tokenId }) => refreshOf(this.state, tokenId) !== undefined);
  }

  /** The refresh gets a token. Its use and its result are reported at once, as an executor does. */
  minted(lifeMs?: number, request = this.fetching[0]): string {
    const stored = { expiresAt: lifeMs === undefined ? undefined : this.at + lifeMs };
    return this.#finish(request, { outcome: { n: 1, status: 200 }, stored, why: undefined });
  }

  failed(why: WhyRefused = "status", request = this.fetching[0]): void {
    this.#finish(request, { outcome: undefined, stored: undefined, why });
  }

  #finish(request: TokenRequested | undefined, result: Omit<TokenResult, "tokenId" | "leaseId">): string {
    if (request === undefined) throw new Error("no refresh is under way");
    const { tokenId, leaseId } = request;
    this.decide({ type: "finish-refresh", result: { tokenId, leaseId, ...result } });
    return tokenId;
  }

  /** Gets a first token by a lease request with a token. */
  begun(lifeMs?: number): string {
    expect(isRefusal(this.lease({ token: true }))).toBe(true);
    return this.minted(lifeMs);
  }

  reject(tokenId: string, proxyId?: string) {
    return this.turn((turn) => reject(turn, { tokenId, proxyId }));
  }

  token(key: string = poolKey) {
    return this.state.tokens.get(key);
  }
}
