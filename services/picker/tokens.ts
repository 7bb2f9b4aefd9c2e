// Guest tokens at a pool's leader: who rejects one, and the executors' two questions. Values are in the sealed bucket and in
// replies; a value is stored under its refresh's id before the refresh is known to have brought it.
//
// A refresh is given to one executor, once: who has it is noted in the bucket before it is told, which only the first can
// do, whichever leader writes it. So a leader that takes over goes on giving away what nobody had yet. One that a killed
// executor had is waited for until its deadline: a second one at the same time would be worse.

import { refuse } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import {
  type RejectReply,
  type TokenJob,
  type TokenReply,
  tokenGetRequestSchema,
  tokenRejectRequestSchema,
  tokenResultRequestSchema,
  tokenTakeRequestSchema,
} from "../../protocol/token.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import { release } from "../../state-machines/decide/lease.ts";
import { noTokenSource, tokenDueAt } from "../../state-machines/decide/refreshes.ts";
import { takeUp } from "../../state-machines/decide/report.ts";
import {
  grantsLeases,
  lose,
  mint,
  ownerOf,
  refreshOf,
  refuseRefresh,
  reject,
} from "../../state-machines/decide/token.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { Lease, PoolState } from "../../state-machines/fold/state.ts";
import type { Token } from "../../state-machines/machines/token.ts";
import { isGood } from "../../state-machines/rules/token.ts";
import { Askers } from "./askers.ts";
import { once } from "./job.ts";
import type { Leader } from "./leader.ts";
import { addressOf } from "./lease-url.ts";

type Respond = (answer: object) => void;

export interface TokenPorts {
  leader: Leader;
  secrets: Pick<Secrets, "putAs" | "claim" | "look" | "get" | "prune">;
}

/** What is stored of a token. */
interface StoredToken {
  value: string;
  /** In the pool's time: whoever leads when it is minted. */
  expiresAt?: number | undefined;
}

const pruneEveryMs = 60_000;
/** Of what is stored: who has a refresh. */
const takenBy = (tokenId: string): string => `taken_${tokenId}`;

export class Tokens {
  readonly #ports: TokenPorts;
  readonly #askers: Askers;
  #prunedAt = 0;

  constructor(ports: TokenPorts) {
    this.#ports = ports;
    this.#askers = new Askers({ leader: ports.leader, replyOf: (token) => this.#replyOf(token) });
  }

  get #state(): PoolState {
    return this.#ports.leader.state;
  }

  get(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(tokenGetRequestSchema, body);
    if ("refusal" in read) return this.#answer(respond, arrivedAt, () => read.refusal);
    const { proxyId, waitMs } = read.value;
    let answer: Exclude<ReturnType<Askers["ask"]>, "aside"> = "waits";
    this.#ports.leader.submit({
      grows: true,
      arrivedAt,
      run: (turn, room) => {
        if (!room()) return false;
        const said = this.#askers.ask(turn, { proxyId, respond, deadline: arrivedAt + waitMs });
        if (said === "aside") return said;
        answer = said;
        return true;
      },
      answer: () => (answer === "waits" ? {} : answer),
      respond: (told) => {
        if (answer !== "waits" || "code" in told) respond(told);
      },
    });
  }

  reject(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(tokenRejectRequestSchema, body);
    if ("refusal" in read) return this.#answer(respond, arrivedAt, () => read.refusal);
    let answer: ReturnType<typeof noTokenSource> | RejectReply = noTokenSource();
    this.#ports.leader.submit({
      grows: false,
      arrivedAt,
      run: once((turn) => {
        if (turn.state.rules.policy.token !== null) answer = reject(turn, read.value);
      }),
      // At the end of the turn, in which the refresh has begun if it could.
      answer: () => ("action" in answer && answer.action === "refreshing" ? this.#withTime(answer) : answer),
      respond,
    });
  }

  /** An executor wants to do this refresh. `{}`: it is not to be done, or not by this one. */
  async take(body: unknown, respond: Respond, arrivedAt: number): Promise<void> {
    const read = readAs(tokenTakeRequestSchema, body);
    if ("refusal" in read) return this.#answer(respond, arrivedAt, () => read.refusal);
    const { tokenId, executor } = read.value;
    let holder: string | undefined;
    try {
      if (this.#jobOf(tokenId, arrivedAt) !== undefined)
        holder = await this.#ports.secrets.claim(takenBy(tokenId), executor);
    } catch {
      return respond(refuse("unavailable", "It could not be noted who does this refresh.", { retryAfterMs: 500 }));
    }
    this.#answer(respond, arrivedAt, () => (holder === executor ? (this.#jobOf(tokenId, arrivedAt) ?? {}) : {}));
  }

  async result(body: unknown, respond: Respond, arrivedAt: number): Promise<void> {
    const { leader, secrets } = this.#ports;
    const read = readAs(tokenResultRequestSchema, body);
    if ("refusal" in read) return this.#answer(respond, arrivedAt, () => read.refusal);
    const { tokenId, leaseId, outcome, value, lifeMs, leftMs, why } = read.value;
    const refresh = refreshOf(this.#state, tokenId);
    const stored: StoredToken | undefined =
      value === undefined || refresh === undefined
        ? undefined
        : { value, ...(lifeMs === undefined ? {} : { expiresAt: this.#sentAt(refresh, leftMs) + lifeMs }) };
    try {
      // Before the command enters the loop: whoever leads next finds it there, and fetches no other.
      if (stored !== undefined) await secrets.putAs(tokenId, JSON.stringify(stored));
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

  /** Before a new leader serves: what others have stored until it had claimed the ledger, and not told. */
  async prepare(): Promise<void> {
    const ids = [...this.#state.tokens.values()].flatMap((token) => {
      const { refresh } = token;
      const fetched = refresh === null ? [] : [refresh.tokenId, takenBy(refresh.tokenId)];
      return isGood(this.#state, token) ? [token.tokenId, ...fetched] : fetched;
    });
    const given = [...this.#state.leases.values()].flatMap(({ token }) => (token === null ? [] : [token.tokenId]));
    await this.#ports.secrets.look([...new Set([...ids, ...given])]);
  }

  /**
   * In the first turns of a leader: what was stored and not yet known, and what is known and not stored. False: there was
   * not room for all of it.
   */
  recover(turn: Turn, room: () => boolean): boolean {
    for (const token of [...turn.state.tokens.values()]) {
      if (!room()) return false;
      const stored = token.refresh === null ? undefined : this.#stored(token.refresh.tokenId);
      if (stored !== undefined && token.refresh !== null)
        mint(turn, { tokenId: token.refresh.tokenId, expiresAt: stored.expiresAt });
      // Also where what was stored has run out by now.
      if (isGood(turn.state, token) && this.#stored(token.tokenId) === undefined) lose(turn, token);
    }
    return true;
  }

  /** Before anything is served: a change of policy may mean other tokens. */
  regroup(): void {
    this.#askers.regroup();
  }

  /** After what the turn has decided: who waits, and can be answered. */
  serve(turn: Turn): void {
    this.#askers.serve(turn);
  }

  /** When one of those who wait has waited long enough. */
  wakeAt(): number {
    return this.#askers.wakeAt();
  }

  close(): void {
    this.#askers.close();
  }

  /** The token that was given with this lease. */
  of(lease: Lease): Omit<TokenReply, "proxyId"> | undefined {
    if (lease.token === null) return undefined;
    const { tokenId, mintedAt, expiresAt } = lease.token;
    const stored = this.#stored(tokenId);
    return stored && { tokenId, value: stored.value, mintedAt, ...(expiresAt === 0 ? {} : { expiresAt }) };
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
    if (token === undefined || lease === undefined || policy === null) return undefined;
    // By another leader's clock the deadline may come that much earlier: nothing is on its way then.
    const deadlineMs = token.deadlineAt - arrivedAt;
    const leftMs = deadlineMs - state.rules.policy.marginMs;
    if (leftMs <= 0) return undefined;
    const address = addressOf(lease.proxy, this.#ports.secrets);
    return {
      tokenId,
      leaseId: lease.id,
      proxyId: lease.proxy.id,
      ...address,
      leftMs,
      deadlineMs,
      source: policy.source,
    };
  }

  #withTime(answer: RejectReply): RejectReply {
    const state = this.#state;
    const token = state.tokenIds.get(answer.tokenId);
    const at =
      token === undefined || !grantsLeases(state)
        ? Infinity
        : tokenDueAt(state, this.#ports.leader.candidates, token.key);
    return at === Infinity ? answer : { ...answer, retryAfterMs: Math.max(1, at - state.at) };
  }

  /** When its request was sent, or some time before: its life may have begun then, however late it is brought. */
  #sentAt({ deadlineAt, refresh }: Token, leftMs = Infinity): number {
    const leaseId = refresh?.leaseId ?? "";
    const lease = this.#state.leases.get(leaseId) ?? this.#state.closedLeases.get(leaseId);
    return Math.max(lease?.grantedAt ?? 0, deadlineAt - leftMs);
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
    const wanted = wantedTokens(this.#state);
    secrets.prune((id) => !/^(t|taken)_/.test(id) || wanted(id)).catch(() => {}); // The next time.
  }
}

/** Of what is stored for tokens: those that are current, being fetched, or given with open leases; and who fetches them. */
export function wantedTokens(state: PoolState): (id: string) => boolean {
  const wanted = new Set<string>();
  for (const { tokenId, refresh } of state.tokens.values()) {
    wanted.add(tokenId);
    if (refresh !== null) wanted.add(refresh.tokenId).add(takenBy(refresh.tokenId));
  }
  for (const { token } of state.leases.values()) if (token !== null) wanted.add(token.tokenId);
  return (id) => wanted.has(id);
}
