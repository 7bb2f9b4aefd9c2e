// Guest tokens, as the site, the executors and the workers see them. Two requests for one token never arrive at the
// site at once. A token is minted only if it was brought, and in time. A rejection with an outcome is heeded. A token
// is given out with its own value.
import type { Event } from "../../events/event.ts";
import type { UseReported } from "../../events/outcome.ts";
import type { TokenMinted } from "../../events/token.ts";
import { type Court, short } from "./court.ts";
import type { Ask } from "./service.ts";
import { secretMark } from "./setting.ts";

/** The value that the site gives for a refresh. */
export const valueOf = (tokenId: string): string => `${secretMark}${tokenId}`;

/** A request for a token, from its arrival at the site. */
interface Visit {
  key: string;
  tokenId: string;
  /** When its executor has to be done with it, by the clock on the wall. */
  until: number;
}

export class TokenChecker {
  readonly #court: Court;
  /** How far a leader's clock may be from the true time. */
  readonly #clockMs: number;
  readonly #aheadMs: () => number;
  readonly #visits = new Set<Visit>();
  /** When a value for a refresh first reached a leader, by that leader's clock. */
  readonly #brought = new Map<string, number>();
  /** When the request for it reached the site, and how long it lives from then on. */
  readonly #lives = new Map<string, { visitedAt?: number; lifeMs?: number }>();
  #asks: Ask[] = [];
  /** The token that the event before this one rejected. */
  #rejected: string | undefined;

  /** @param aheadMs how far the pool's time may be ahead of true time. */
  constructor(court: Court, clockMs: number, aheadMs: () => number) {
    this.#court = court;
    this.#clockMs = clockMs;
    this.#aheadMs = aheadMs;
  }

  asked(ask: Ask): void {
    const { verb, body, arrivedAt } = ask;
    const tokenId = String(body["tokenId"]);
    if (verb === "token.get") this.#asks.push(ask);
    if (verb !== "token.result" || body["value"] === undefined) return;
    const { lifeMs } = body;
    if (typeof lifeMs === "number") this.#lives.set(tokenId, { ...this.#lives.get(tokenId), lifeMs });
    this.#brought.set(tokenId, Math.min(arrivedAt, this.#brought.get(tokenId) ?? Infinity));
  }

  /** Those that are waiting for a token of a leader that lives. */
  get unanswered(): Ask[] {
    return this.#asks.filter((ask) => ask.answer === undefined && ask.life.leads);
  }

  /** A request for a token reaches the site. @returns a function to call when it is over. */
  arrived(key: string, tokenId: string, until: number): () => void {
    const { now } = this.#court.world;
    // Sent in time, and cut at its deadline: no executor waits for its answer.
    if (now >= until - this.#clockMs) return () => {};
    for (const visit of this.#visits) {
      if (visit.key !== key || now >= visit.until - this.#clockMs) continue;
      this.#find(
        `the site sees a request for the token of ${short(key)} at ${now} (${tokenId}), while one for ${visit.tokenId} is under way until ${visit.until}`,
      );
    }
    const visit = { key, tokenId, until };
    this.#visits.add(visit);
    this.#lives.set(tokenId, { visitedAt: now });
    this.#court.saw("token: request at the site");
    return () => this.#visits.delete(visit);
  }

  /** Asked just before the event is written. */
  before(event: Event): void {
    const expected = this.#rejected;
    this.#rejected = undefined;
    const isIt = event.type === "TokenRejected" && event.count === undefined && event.tokenId === expected;
    if (expected !== undefined && !isIt)
      this.#find(`the current token ${expected} was rejected with an outcome, and is still given out`);
    switch (event.type) {
      case "LeaseGranted":
        if (event.request.token === true) this.#court.saw("lease: with a token");
        return;
      case "UseReported":
        return this.#report(event);
      case "TokenRequested":
        this.#court.saw(event.type);
        return this.#court.saw(`TokenRequested: ${event.why}`);
      case "TokenMinted":
        this.#court.saw(event.type);
        return this.#minted(event);
      case "TokenRefused":
        this.#court.saw(event.type);
        if (event.token === "unavailable") this.#court.saw("token: unavailable");
        return this.#court.saw(`TokenRefused: ${event.why}`);
      case "TokenRejected":
        return this.#court.saw(`TokenRejected: ${event.action}`);
    }
  }

  /** Called at the end of a commit. */
  end(): void {
    if (this.#rejected !== undefined) this.#find(`the token ${this.#rejected} was rejected, and is still given out`);
    this.#rejected = undefined;
  }

  answered(ask: Ask): void {
    const answer = ask.answer ?? {};
    if (ask.verb === "token.get") this.#asks = this.#asks.filter((each) => each !== ask);
    if (answer["code"] !== undefined) return;
    if (ask.verb === "lease" || ask.verb === "renew") {
      const lease = this.#court.book.leases.get(String(answer["leaseId"]));
      const token = answer["token"] as Record<string, unknown> | undefined;
      if (token?.["tokenId"] !== lease?.tokenId)
        this.#find(`a lease is answered with token ${token?.["tokenId"]}, in the ledger it has ${lease?.tokenId}`);
      if (token !== undefined) this.#value(token);
    }
    if (ask.verb === "token.get") this.#value(answer);
    if (ask.verb !== "token.reject") return;
    const [tokenId, action] = [String(ask.body["tokenId"]), String(answer["action"])];
    this.#court.saw(`token.reject: ${action}`);
    const { current } = this.#court.book.tokens.currentlyCalled(tokenId) ?? {};
    // A leader that was deposed a moment ago may still answer as of its own last commit; that changes nothing.
    const isDeposed = (ask.life.leader?.state.term ?? 0) < this.#court.book.term;
    if (current !== undefined && !current.rejected && action !== "kept" && !(isDeposed && action === "ignored"))
      this.#find(`the rejection of ${tokenId} is answered with ${action}, and it is still given out`);
    if (action === "refreshing" && !this.#court.book.tokens.minted.includes(tokenId))
      this.#find(`the rejection of ${tokenId}, a token that never existed, is answered with refreshing`);
  }

  #value({ tokenId, value }: Record<string, unknown>): void {
    const id = String(tokenId);
    if (!this.#court.book.tokens.minted.includes(id)) this.#find(`${id} is given out, and was never minted`);
    if (value !== valueOf(id)) this.#find(`${id} is given out with another token's value`);
  }

  /** If a leader had the value in time, and the next leader found it, the event may be written after the deadline. */
  #minted({ tokenId, expiresAt }: TokenMinted): void {
    const { tokens, at } = this.#court.book;
    const { deadlineAt = 0 } =
      [...tokens.tokens.values()].find(({ refresh }) => refresh?.id === tokenId)?.refresh ?? {};
    const broughtAt = this.#brought.get(tokenId);
    if (broughtAt === undefined) return this.#find(`${tokenId} is minted, and no executor brought it`);
    const { lifeMs, visitedAt } = this.#lives.get(tokenId) ?? {};
    const endsBy = (visitedAt ?? Infinity) + (lifeMs ?? Infinity) + this.#clockMs + this.#aheadMs();
    if ((expiresAt ?? Infinity) > endsBy)
      this.#find(`${tokenId} is recorded as good until ${expiresAt}; the site accepts it until ${endsBy}`);
    if (at >= deadlineAt) this.#court.saw("TokenMinted: found by the next leader");
    if (broughtAt >= deadlineAt + this.#clockMs)
      this.#find(`${tokenId} is minted at ${at}; it was brought at ${broughtAt}, and its deadline was ${deadlineAt}`);
  }

  #report({ tokenRejected, tokenId, leaseId }: UseReported): void {
    const { book } = this.#court;
    if (tokenRejected !== true || book.rules.token === null) return;
    const id = tokenId ?? book.lease(leaseId).tokenId;
    const current = id === undefined ? undefined : book.tokens.currentlyCalled(id)?.current;
    this.#court.saw("outcome: tokenRejected");
    if (current === undefined || current.rejected || book.at - current.mintedAt < book.rules.token.minAgeMs) return;
    this.#rejected = id;
  }

  #find(sentence: string): void {
    this.#court.find("token", sentence);
  }
}
