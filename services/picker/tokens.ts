// Guest tokens at a pool's leader: who asks for one, who rejects one, and the executors' two questions. Values are in the
// sealed bucket and in replies; a value is stored under its refresh's id before the refresh is known to have brought it.
//
// A refresh is given to one executor, once, by the leader that asked for it. One that a killed executor had, or that a
// killed leader may have given away, is waited for until its deadline: a second one at the same time would be worse.
import { type Refusal, refuse } from "../../events/refusal.ts";
import { readAs } from "../../events/request.ts";
import {
  type TokenJob,
  type TokenReply,
  tokenGetRequestSchema,
  tokenRejectRequestSchema,
  tokenResultRequestSchema,
  tokenTakeRequestSchema,
} from "../../events/token.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import type { Demands } from "../../state-machines/choice.ts";
import { release } from "../../state-machines/lease.ts";
import { lose, mint, ownerOf, refreshOf, refuseRefresh, reject } from "../../state-machines/refresh.ts";
import {
  askForToken,
  askForTokenOf,
  noTokenSource,
  tokenExpectedAt,
  tokenUnavailable,
} from "../../state-machines/refreshes.ts";
import { takeUp } from "../../state-machines/report.ts";
import type { Lease, PoolState, Proxy } from "../../state-machines/state.ts";
import { isGood, isUnavailable, poolKey, type Token } from "../../state-machines/token.ts";
import type { Turn } from "../../state-machines/turn.ts";
import { once } from "./job.ts";
import { closed, type Leader } from "./leader.ts";
import { addressOf } from "./lease-url.ts";

type Respond = (answer: object) => void;

export interface TokenPorts {
  leader: Leader;
  secrets: Pick<Secrets, "putAs" | "get" | "prune">;
}

/** What is stored of a token. */
interface StoredToken {
  value: string;
  expiresAt?: number | undefined;
}

/** Somebody who waits for a token. */
interface Asker {
  respond: Respond;
  deadline: number;
  /** Of this proxy; of the pool or, where each proxy has its own, of any. */
  proxy: Proxy | undefined;
  demands: Demands;
}

const anyWithToken = { minUses: 1, token: true } as const;
const retryUnknownMs = 1000;
const pruneEveryMs = 60_000;

export class Tokens {
  readonly #ports: TokenPorts;
  readonly #askers = new Set<Asker>();
  /** Which executor has which refresh. */
  readonly #taken = new Map<string, string>();
  #prunedAt = 0;

  constructor(ports: TokenPorts) {
    this.#ports = ports;
  }

  get #state(): PoolState {
    return this.#ports.leader.state;
  }

  get(body: unknown, respond: Respond, arrivedAt: number): void {
    const { leader } = this.#ports;
    const read = readAs(tokenGetRequestSchema, body);
    if ("refusal" in read) return this.#answer(respond, arrivedAt, () => read.refusal);
    const { proxyId, waitMs } = read.value;
    let answer: TokenReply | Refusal | "waits" = "waits";
    leader.submit({
      grows: true,
      arrivedAt,
      run: once((turn) => {
        answer = this.#decideGet(turn, { proxyId, respond, deadline: arrivedAt + waitMs });
      }),
      answer: () => (answer === "waits" ? {} : answer),
      respond: (told) => {
        if (answer !== "waits" || "code" in told) respond(told);
      },
    });
  }

  reject(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(tokenRejectRequestSchema, body);
    if ("refusal" in read) return this.#answer(respond, arrivedAt, () => read.refusal);
    let answer: object = {};
    this.#ports.leader.submit({
      grows: false,
      arrivedAt,
      run: once((turn) => {
        answer = turn.state.rules.policy.token === null ? noTokenSource() : reject(turn, read.value);
      }),
      answer: () => answer,
      respond,
    });
  }

  /** An executor wants to do this refresh. `{}`: it is not to be done, or not by this one. */
  take(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(tokenTakeRequestSchema, body);
    if ("refusal" in read) return this.#answer(respond, arrivedAt, () => read.refusal);
    const { tokenId, executor } = read.value;
    this.#answer(respond, arrivedAt, () => {
      for (const id of this.#taken.keys()) if (refreshOf(this.#state, id) === undefined) this.#taken.delete(id);
      const job = this.#jobOf(tokenId, arrivedAt);
      const holder = this.#taken.get(tokenId) ?? executor;
      if (job === undefined || holder !== executor) return {};
      this.#taken.set(tokenId, executor);
      return job;
    });
  }

  async result(body: unknown, respond: Respond, arrivedAt: number): Promise<void> {
    const { leader, secrets } = this.#ports;
    const read = readAs(tokenResultRequestSchema, body);
    if ("refusal" in read) return this.#answer(respond, arrivedAt, () => read.refusal);
    const { tokenId, leaseId, outcome, value, lifeMs, why } = read.value;
    const stored: StoredToken | undefined =
      value === undefined ? undefined : { value, ...(lifeMs === undefined ? {} : { expiresAt: arrivedAt + lifeMs }) };
    try {
      // Before the command enters the loop: whoever leads next finds it there, and fetches no other.
      if (stored !== undefined && refreshOf(this.#state, tokenId) !== undefined) {
        await secrets.putAs(tokenId, JSON.stringify(stored));
      }
    } catch {
      return respond(refuse("unavailable", "The token could not be stored.", { retryAfterMs: 500 }));
    }
    let accepted = false;
    leader.submit({
      grows: false,
      arrivedAt,
      run: once((turn) => {
        if (outcome === undefined) release(turn, { leaseId, used: 0 });
        else takeUp(turn, { ...outcome, leaseId, n: 1 }, turn.at);
        const token = refreshOf(turn.state, tokenId);
        if (token === undefined) return;
        if (stored !== undefined) accepted = mint(turn, { tokenId, expiresAt: stored.expiresAt });
        else {
          refuseRefresh(turn, token, { why: why ?? "no-value", status: outcome?.status });
          accepted = true;
        }
      }),
      answer: () => {
        this.#prune();
        return { accepted };
      },
      respond,
    });
  }

  /** In the first turn of a leader: what was stored and not yet known, and what is known and not stored. */
  recover(turn: Turn): void {
    for (const token of [...turn.state.tokens.values()]) {
      const stored = token.refresh === null ? undefined : this.#stored(token.refresh.tokenId);
      if (stored !== undefined && token.refresh !== null)
        mint(turn, { tokenId: token.refresh.tokenId, expiresAt: stored.expiresAt });
      else if (isGood(turn.state, token) && this.#stored(token.tokenId) === undefined) lose(turn, token);
    }
  }

  /** After what the turn has decided: who waits, and can be answered. */
  serve(turn: Turn): void {
    if (this.#askers.size === 0) return;
    const { leader } = this.#ports;
    for (const asker of [...this.#askers]) {
      const answer = this.#find(asker) ?? this.#refusalOf(turn, asker);
      if (answer === undefined) continue;
      this.#leave(asker);
      leader.afterwards(() => asker.respond(answer));
    }
  }

  /** When one of those who wait has waited long enough. */
  wakeAt(): number {
    let at = Infinity;
    for (const { deadline } of this.#askers) at = Math.min(at, deadline);
    return at;
  }

  close(): void {
    for (const asker of [...this.#askers]) {
      this.#leave(asker);
      asker.respond(closed());
    }
  }

  /** The token that was given with this lease. */
  of(lease: Lease): Omit<TokenReply, "proxyId"> | undefined {
    if (lease.token === null) return undefined;
    const { tokenId, mintedAt, expiresAt } = lease.token;
    const stored = this.#stored(tokenId);
    return stored && { tokenId, value: stored.value, mintedAt, ...(expiresAt === 0 ? {} : { expiresAt }) };
  }

  #decideGet(
    turn: Turn,
    asked: { proxyId: string | undefined; respond: Respond; deadline: number },
  ): TokenReply | Refusal | "waits" {
    const { leader } = this.#ports;
    const { state } = turn;
    const { token: policy } = state.rules.policy;
    if (policy === null) return noTokenSource();
    const proxy = asked.proxyId === undefined ? undefined : state.proxies.get(asked.proxyId);
    if (asked.proxyId !== undefined && (proxy === undefined || proxy.state === "retired"))
      return refuse("unknown-proxy", "No proxy of this pool has this id.");
    const demands = leader.choice.demandsOf(anyWithToken);
    if (demands === undefined)
      return refuse("overloaded", "Too many different wishes are waiting.", { retryAfterMs: 1000 });
    const { respond, deadline } = asked;
    const asker: Asker = { respond, deadline, proxy: policy.scope === "pool" ? undefined : proxy, demands };
    const found = this.#find(asker);
    if (found !== undefined) return found;
    if (asker.proxy === undefined) {
      askForToken(turn, leader.choice, { demands, excluded: new Set(), bound: undefined });
    } else askForTokenOf(turn, asker.proxy);
    const refusal = this.#refusalOf(turn, asker);
    if (refusal !== undefined) return refusal;
    const { max } = state.rules.policy.waiting;
    if (this.#askers.size >= max) return refuse("overloaded", `More than ${max} wait already.`, { retryAfterMs: 1000 });
    this.#askers.add(asker);
    if (asker.proxy !== undefined) state.askFor(asker.proxy.id, 1);
    else {
      leader.waiting.refreshes.waits(1, demands);
      for (const demand of new Set(Object.values(demands))) leader.choice.keep(demand);
    }
    return "waits";
  }

  #leave(asker: Asker): void {
    const { leader } = this.#ports;
    if (!this.#askers.delete(asker)) return;
    if (asker.proxy !== undefined) return this.#state.askFor(asker.proxy.id, -1);
    leader.waiting.refreshes.waits(-1, asker.demands);
    for (const demand of new Set(Object.values(asker.demands))) leader.choice.letGo(demand);
  }

  #find({ proxy, demands }: Pick<Asker, "proxy" | "demands">): TokenReply | undefined {
    const state = this.#state;
    if (proxy !== undefined) return this.#replyOf(state.tokens.get(proxy.id));
    if (demands.wanting === undefined) return this.#replyOf(state.tokens.get(poolKey));
    this.#ports.leader.choice.settle();
    demands.able.advance();
    const chosen = demands.able.choose(new Set());
    if (chosen !== undefined && "proxy" in chosen) return this.#replyOf(state.tokens.get(chosen.proxy.id));
    if (demands.able.size === 0) return undefined;
    // Their proxies are busy; their tokens are good all the same.
    for (const token of state.tokens.values()) {
      if (isGood(state, token) && state.proxies.get(token.key)?.state !== "retired") return this.#replyOf(token);
    }
    return undefined;
  }

  /** If it is to be told now that there is none. */
  #refusalOf(turn: Turn, { proxy, demands, deadline }: Asker): Refusal | undefined {
    const { state } = turn;
    if (state.rules.policy.token === null) return noTokenSource();
    const token = state.tokens.get(proxy?.id ?? poolKey);
    if (deadline > turn.at && !isUnavailable(state, token)) return undefined;
    const knownAt = tokenExpectedAt(state, demands, proxy);
    const at = knownAt === Infinity ? demands.plain.leasableAt(new Set()) : knownAt;
    return tokenUnavailable(state, at === Infinity ? turn.at + retryUnknownMs : at);
  }

  #replyOf(token: Token | undefined): TokenReply | undefined {
    if (token === undefined || !isGood(this.#state, token)) return undefined;
    const { tokenId, mintedAt, expiresAt } = token;
    const stored = this.#stored(tokenId);
    if (stored === undefined) return undefined;
    return {
      tokenId,
      value: stored.value,
      mintedAt,
      ...(expiresAt === 0 ? {} : { expiresAt }),
      ...ownerOf(token.key),
    };
  }

  #jobOf(tokenId: string, arrivedAt: number): TokenJob | undefined {
    const state = this.#state;
    const token = refreshOf(state, tokenId);
    const { token: policy } = state.rules.policy;
    const lease = token?.refresh ? state.leases.get(token.refresh.leaseId) : undefined;
    if (!token?.refresh || lease === undefined || policy === null || token.refresh.term !== state.term)
      return undefined;
    const leftMs = token.deadlineAt - arrivedAt;
    if (leftMs <= 0) return undefined;
    const address = addressOf(lease.proxy, this.#ports.secrets);
    return { tokenId, leaseId: lease.id, proxyId: lease.proxy.id, ...address, leftMs, source: policy.source };
  }

  #stored(tokenId: string): StoredToken | undefined {
    const text = this.#ports.secrets.get(tokenId);
    return text === undefined ? undefined : (JSON.parse(text) as StoredToken); // As it was put there, above.
  }

  #answer(respond: Respond, arrivedAt: number, answer: () => object): void {
    this.#ports.leader.submit({ grows: false, run: () => true, answer, respond, arrivedAt });
  }

  /** Values that nobody can be given any more are taken out of the bucket, now and then. */
  #prune(): void {
    const { leader, secrets } = this.#ports;
    if (leader.now() - this.#prunedAt < pruneEveryMs) return;
    this.#prunedAt = leader.now();
    const given = tokensGiven(this.#state);
    secrets.prune((id) => !id.startsWith("t_") || this.#state.tokenIds.has(id) || given.has(id)).catch(() => {}); // The next time.
  }
}

/** Those that open leases were given with. */
export function tokensGiven(state: PoolState): Set<string> {
  return new Set([...state.leases.values()].flatMap(({ token }) => (token === null ? [] : [token.tokenId])));
}
