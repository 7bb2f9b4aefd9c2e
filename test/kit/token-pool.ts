// A pool in virtual time whose policy has a token source. The executor is the test: it says what each refresh brought.
import { expect } from "vitest";
import type { TokenRequested, WhyRefused } from "../../events/token.ts";
import type { LeaseRequest } from "../../protocol/lease.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import { release } from "../../state-machines/decide/lease.ts";
import { takeUp } from "../../state-machines/decide/report.ts";
import { mint, refreshOf, refuseRefresh, reject } from "../../state-machines/decide/token.ts";
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
    // Never two at once, judged by the ledger alone.
    for (const token of this.state.tokens.values()) {
      const open = this.requested.filter(({ tokenId }) => refreshOf(this.state, tokenId) === token);
      expect(open.length, `refreshes of ${token.key}`).toBeLessThanOrEqual(1);
    }
    for (const { request } of this.queue ?? []) if (request.token === true) this.#expectCare(request);
    return result;
  }

  /** Nobody waits for a token that could be fetched now while none is being fetched that might serve him. */
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

  /** The refresh brings a token: its use and its result are reported at once, as an executor does it. */
  minted(lifeMs?: number, request = this.fetching[0]): string {
    if (request === undefined) throw new Error("no refresh is under way");
    this.turn((turn) => {
      takeUp(turn, { leaseId: request.leaseId, n: 1, status: 200 }, turn.at);
      mint(turn, { tokenId: request.tokenId, expiresAt: lifeMs === undefined ? undefined : turn.at + lifeMs });
    });
    return request.tokenId;
  }

  failed(why: WhyRefused = "status", request = this.fetching[0]): void {
    if (request === undefined) throw new Error("no refresh is under way");
    this.turn((turn) => {
      release(turn, { leaseId: request.leaseId, used: 0 });
      const token = refreshOf(turn.state, request.tokenId);
      if (token !== undefined) refuseRefresh(turn, token, { why });
    });
  }

  /** A first token, by asking for a lease with one. */
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
