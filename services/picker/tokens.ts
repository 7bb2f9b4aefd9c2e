// The executors' two questions at a pool's leader: may I do this refresh, and here is what it brought. A value is stored
// under its refresh's id before the refresh is known to have brought it.
//
// A refresh is given to one executor, once: who has it is noted in the bucket before it is told, which only the first can
// do, whichever leader writes it. So a leader that takes over goes on giving away what nobody had yet. One that a killed
// executor had is waited for until its deadline: a second one at the same time would be worse.
import type { z } from "zod";
import { refuse } from "../../protocol/refusal.ts";
import type { TokenJob, TokenResult, tokenTakeRequestSchema } from "../../protocol/token.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import { refreshOf } from "../../state-machines/decide/token.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import type { Token } from "../../state-machines/machines/token.ts";
import type { Call } from "./caller.ts";
import type { Leader } from "./leader.ts";
import { addressOf } from "./lease-url.ts";
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

  /** An executor wants to do this refresh. `{}`: it is not to be done, or not by this one. */
  async take({ tokenId, executor }: z.infer<typeof tokenTakeRequestSchema>, call: Call): Promise<void> {
    const { arrivedAt, respond } = call;
    let holder: string | undefined;
    try {
      if (this.#jobOf(tokenId, arrivedAt) !== undefined) holder = await this.#secrets.claim(takenBy(tokenId), executor);
    } catch {
      return respond(refuse("unavailable", "It could not be noted who does this refresh.", { retryAfterMs: 500 }));
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
      // Before the command enters the loop: the next leader finds it there, and fetches no other.
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
    // By another leader's clock the deadline may come that much earlier: nothing is on its way then.
    const deadlineMs = token.deadlineAt - arrivedAt;
    const leftMs = deadlineMs - state.rules.policy.marginMs;
    if (leftMs <= 0) return undefined;
    const address = addressOf(lease.proxy, this.#secrets);
    const { source } = policy;
    return { tokenId, leaseId: lease.id, proxyId: lease.proxy.id, ...address, leftMs, deadlineMs, source };
  }

  /** When its request was sent, or some time before: its life may have begun then, however late it is brought. */
  #sentAt({ deadlineAt, refresh }: Token, leftMs = Infinity): number {
    const leaseId = refresh?.leaseId ?? "";
    const lease = this.#state.leases.get(leaseId) ?? this.#state.closedLeases.get(leaseId);
    return Math.max(lease?.grantedAt ?? 0, deadlineAt - leftMs);
  }

  /** Values that can be given to nobody any more are taken out of the bucket, now and then. */
  #prune(): void {
    const now = this.#leader.now();
    if (now - this.#prunedAt < pruneEveryMs) return;
    this.#prunedAt = now;
    const wanted = wantedTokens(this.#state);
    this.#secrets.prune((id) => !/^(t|taken)_/.test(id) || wanted(id)).catch(() => {}); // The next time.
  }
}
