// The two requests of an executor to a pool's leader: to take a refresh, and to bring its result. A value is stored
// under its refresh's id before the ledger says that the refresh succeeded.
//
// A refresh is given to one executor, once. Its name is written to the bucket before it gets the refresh. Only the
// first write succeeds, whichever leader makes it. So a new leader goes on giving out refreshes that no executor has. A
// refresh of a killed executor waits until its deadline: a second executor at the same time would be worse.
import type { z } from "zod";
import { refuse } from "../../protocol/refusal.ts";
import type { TokenJob, TokenResult, tokenTakeRequestSchema } from "../../protocol/token.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import { refreshOf } from "../../state-machines/decide/token.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import type { Token } from "../../state-machines/machines/token.ts";
import type { Call } from "./inbox.ts";
import type { Leader } from "./leader.ts";
import { addressOf } from "./replies.ts";
import { type StoredValue, takenBy, wantedTokens } from "./token-values.ts";

const pruneEveryMs = 60_000;

export class TokenExchange {
  readonly #leader: Leader;
  readonly #secrets: Pick<Secrets, "putAs" | "claim" | "get" | "prune">;
  #prunedAt = 0;

  constructor({ leader, secrets }: { leader: Leader; secrets: Pick<Secrets, "putAs" | "claim" | "get" | "prune"> }) {
    this.#leader = leader;
    this.#secrets = secrets;
  }

  get #state(): PoolState {
    return this.#leader.engine.state;
  }

  /** An executor requests this refresh. `{}` means that the refresh is not to be done, or not by this executor. */
  async take({ tokenId, executor }: z.infer<typeof tokenTakeRequestSchema>, call: Call): Promise<void> {
    const { arrivedAt, respond } = call;
    let holder: string | undefined;
    try {
      if (this.#jobOf(tokenId, arrivedAt) !== undefined) holder = await this.#secrets.claim(takenBy(tokenId), executor);
    } catch {
      return respond(
        refuse("unavailable", "The executor of this refresh could not be stored: the broker does not answer.", {
          retryAfterMs: 500,
        }),
      );
    }
    const job = (): object => (holder === executor ? (this.#jobOf(tokenId, arrivedAt) ?? {}) : {});
    this.#leader.submit({ type: "look" }, { ...call, reply: job });
  }

  async result(given: TokenResult, call: Call): Promise<void> {
    const { tokenId, leaseId, outcome, value, lifeMs, leftMs, why } = given;
    const refresh = refreshOf(this.#state, tokenId);
    const stored: StoredValue | undefined =
      value === undefined || refresh === undefined
        ? undefined
        : { value, ...(lifeMs === undefined ? {} : { expiresAt: this.#sentAt(refresh, leftMs) + lifeMs }) };
    try {
      // Stored before the command enters the loop: the next leader finds it there, and fetches no other.
      if (stored !== undefined) await this.#secrets.putAs(tokenId, JSON.stringify(stored));
    } catch {
      return call.respond(refuse("unavailable", "The token could not be stored.", { retryAfterMs: 500 }));
    }
    const result = { tokenId, leaseId, outcome, stored, why };
    this.#leader.submit(
      { type: "finish-refresh", result },
      {
        ...call,
        reply: (answer) => {
          this.#prune();
          return answer;
        },
      },
    );
  }

  #jobOf(tokenId: string, arrivedAt: number): TokenJob | undefined {
    const state = this.#state;
    const token = refreshOf(state, tokenId);
    const { token: policy } = state.rules.policy;
    const lease = token?.refresh ? state.leases.get(token.refresh.leaseId) : undefined;
    if (token === undefined || lease === undefined || policy === null) return undefined;
    // By another leader's clock the deadline may come this much earlier. Then nothing may still be on its way.
    const deadlineMs = token.deadlineAt - arrivedAt;
    const leftMs = deadlineMs - state.rules.policy.marginMs;
    if (leftMs <= 0) return undefined;
    const address = addressOf(lease.proxy, this.#secrets);
    const { source } = policy;
    return { tokenId, leaseId: lease.id, proxyId: lease.proxy.id, ...address, leftMs, deadlineMs, source };
  }

  /**
   * When its request was sent, or slightly earlier. The token's life may have begun then, however late it is brought.
   */
  #sentAt({ deadlineAt, refresh }: Token, leftMs = Infinity): number {
    const leaseId = refresh?.leaseId ?? "";
    const lease = this.#state.leases.get(leaseId) ?? this.#state.closedLeases.get(leaseId);
    return Math.max(lease?.grantedAt ?? 0, deadlineAt - leftMs);
  }

  /** Values that no lease can get any more are removed from the bucket from time to time. */
  #prune(): void {
    const now = this.#leader.now();
    if (now - this.#prunedAt < pruneEveryMs) return;
    this.#prunedAt = now;
    const wanted = wantedTokens(this.#state);
    this.#secrets.prune((id) => !/^(t|taken)_/.test(id) || wanted(id)).catch(() => {}); // Retried the next time.
  }
}
