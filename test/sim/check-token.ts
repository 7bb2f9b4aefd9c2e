// Guest tokens. Two refreshes of one token never run at once, by the ledger and by the site's view. A token is minted
// only on request, and in time. A rejection has the effect that the rules name. A request for a token gets the current
// one.
import type { Event } from "../../events/event.ts";
import type { LeaseGranted } from "../../events/lease.ts";
import type { UseReported } from "../../events/outcome.ts";
import type { TokenMinted, TokenRefused, TokenRejected, TokenRequested } from "../../events/token.ts";
import { type Court, short } from "./court.ts";
import type { Ask } from "./service.ts";
import { secretMark } from "./setting.ts";

/** What the site gives for a refresh. */
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
  readonly #visits = new Set<Visit>();
  /** When a value for a refresh first reached a leader, by that leader's clock. */
  readonly #brought = new Map<string, number>();
  /** When the request for it reached the site, and how long it lives from then on. */
  readonly #lives = new Map<string, { visitedAt?: number; lifeMs?: number }>();
  #asks: Ask[] = [];
  #granted: LeaseGranted | undefined;
  /** What the event before this one must lead to. */
  #rejected: string | undefined;

  constructor(court: Court, clockMs: number) {
    this.#court = court;
    this.#clockMs = clockMs;
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

  /** A request for a token reaches the site. @returns what is to be called when it is over. */
  arrived(key: string, tokenId: string, until: number): () => void {
    const { now } = this.#court.world;
    // Sent in time, and cut at its deadline: nobody waits for its answer.
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
      this.#find(`the current token ${expected} was rejected with an outcome, and is given on`);
    const granted = this.#granted;
    this.#granted = undefined;
    switch (event.type) {
      case "LeaseGranted":
        this.#granted = event;
        return this.#grant(event);
      case "UseReported":
        return this.#report(event);
      case "TokenRequested":
        return this.#requested(event, granted);
      case "TokenMinted":
        this.#court.saw(event.type);
        this.#result(event);
        return this.#minted(event);
      case "TokenRefused":
        this.#court.saw(event.type);
        this.#court.saw(`TokenRefused: ${event.why}`);
        this.#result(event);
        return this.#refused(event);
      case "TokenRejected":
        this.#court.saw(`TokenRejected: ${event.action}`);
        return this.#reject(event);
    }
  }

  /** Called at the end of a commit. */
  end(): void {
    if (this.#rejected !== undefined) this.#find(`the token ${this.#rejected} was rejected, and is given on`);
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
      this.#find(`the rejection of ${tokenId} is answered with ${action}, and it is given on`);
    if (action === "refreshing" && !this.#court.book.tokens.minted.includes(tokenId))
      this.#find(`the rejection of ${tokenId}, which never was, is answered with refreshing`);
  }

  #value({ tokenId, value }: Record<string, unknown>): void {
    const id = String(tokenId);
    if (!this.#court.book.tokens.minted.includes(id)) this.#find(`${id} is given out, and was never minted`);
    if (value !== valueOf(id)) this.#find(`${id} is given out with another token's value`);
  }

  #grant({ leaseId, proxyId, request, tokenId }: LeaseGranted): void {
    const { book } = this.#court;
    const current = book.tokens.of(proxyId)?.current;
    const who = `lease ${short(leaseId)}`;
    if (request.token !== true) {
      if (tokenId !== undefined) this.#find(`${who} was not to have a token, and has ${tokenId}`);
      return;
    }
    this.#court.saw("lease: with a token");
    if (tokenId !== current?.id) this.#find(`${who} has token ${tokenId}, the current one is ${current?.id}`);
    else if (!book.tokens.isGood(proxyId, book.at))
      this.#find(`${who} has token ${tokenId}, ${current?.rejected === true ? "which was rejected" : "which ended"}`);
  }

  #requested(event: TokenRequested, lease: LeaseGranted | undefined): void {
    this.#court.saw(event.type);
    this.#court.saw(`TokenRequested: ${event.why}`);
    const { at, rules, tokens } = this.#court.book;
    const key = event.proxyId ?? "pool";
    const { refresh, retryAt = 0 } = tokens.tokens.get(key) ?? {};
    const what = `the refresh ${event.tokenId} of ${short(key)}`;
    if (refresh !== undefined && at < refresh.deadlineAt)
      this.#find(`${what} begins at ${at}, while ${refresh.id} is under way until ${refresh.deadlineAt}`);
    if (at < retryAt) this.#find(`${what} begins at ${at}, ${retryAt - at} ms before the pause after a failure ends`);
    if (rules.token === null || rules.token.scope !== event.scope)
      return this.#find(`${what} is of scope ${event.scope}, and the policy's token is ${rules.token?.scope}`);
    if ((event.scope === "pool") !== (event.proxyId === undefined)) this.#find(`${what} is of scope ${event.scope}`);
    if (event.deadlineAt !== at + rules.token.deadlineMs) this.#find(`${what} ends ${event.deadlineAt - at} ms later`);
    if (lease?.leaseId !== event.leaseId || lease.expiresAt !== event.deadlineAt)
      return this.#find(`${what} does not follow the grant of its lease ${short(event.leaseId)}`);
    if (event.proxyId !== undefined && lease.proxyId !== event.proxyId)
      this.#find(`${what} goes through ${short(lease.proxyId)}`);
  }

  #result(event: { tokenId: string; proxyId?: string | undefined; type: string }): void {
    const { refresh } = this.#court.book.tokens.tokens.get(event.proxyId ?? "pool") ?? {};
    if (refresh?.id !== event.tokenId)
      this.#find(`${event.type} of ${event.tokenId}, and what is under way is ${refresh?.id ?? "nothing"}`);
  }

  /** Of a value that a leader had in time, and another one found, it may be written later. */
  #minted({ tokenId, expiresAt }: TokenMinted): void {
    const { tokens, at } = this.#court.book;
    const { deadlineAt = 0 } =
      [...tokens.tokens.values()].find(({ refresh }) => refresh?.id === tokenId)?.refresh ?? {};
    const broughtAt = this.#brought.get(tokenId);
    if (broughtAt === undefined) return this.#find(`${tokenId} is minted, and nobody brought it`);
    const { lifeMs, visitedAt } = this.#lives.get(tokenId) ?? {};
    const endsBy = (visitedAt ?? Infinity) + (lifeMs ?? Infinity) + this.#clockMs;
    if ((expiresAt ?? Infinity) > endsBy)
      this.#find(`${tokenId} is said to be good until ${expiresAt}; the site takes it until ${endsBy}`);
    if (at >= deadlineAt) this.#court.saw("TokenMinted: found by the next leader");
    if (broughtAt >= deadlineAt + this.#clockMs)
      this.#find(`${tokenId} is minted at ${at}; it was brought at ${broughtAt}, and its deadline was ${deadlineAt}`);
  }

  #refused(event: TokenRefused): void {
    const { at, rules, tokens } = this.#court.book;
    const { refresh, failures = 0, current } = tokens.tokens.get(event.proxyId ?? "pool") ?? {};
    const what = `the refusal of ${event.tokenId} (${event.why})`;
    if (event.why === "deadline" && at < (refresh?.deadlineAt ?? 0)) this.#find(`${what} comes before its deadline`);
    if (event.failures !== failures + 1) this.#find(`${what} is failure ${event.failures}, after ${failures}`);
    const isGood = current !== undefined && !current.rejected && current.expiresAt > at;
    if ((event.token === "fresh") !== isGood)
      this.#find(`${what} says that the earlier token is ${isGood ? "not " : ""}good`);
    if (event.token === "unavailable") this.#court.saw("token: unavailable");
    if (rules.token === null) return;
    const { baseMs, maxMs, jitterShare } = rules.token.retry;
    const ms = Math.min(maxMs, baseMs * 2 ** failures);
    const pause = event.retryAt - at;
    if (pause < ms || pause > ms + ms * jitterShare)
      this.#find(`${what} is followed by a pause of ${pause} ms, not ${ms}`);
  }

  #reject(event: TokenRejected): void {
    const { at, rules, tokens } = this.#court.book;
    const { current, unavailable } = tokens.tokens.get(event.proxyId ?? "pool") ?? {};
    const what = `the rejection of ${event.tokenId} at ${at}`;
    if (event.count !== undefined) return;
    if (event.action !== "refreshing") return this.#find(`${what} is ${event.action}, and not counted`);
    if (current === undefined || current.id !== event.tokenId)
      return this.#find(`${what} leads to a refresh, and the current one is ${current?.id}`);
    if (current.rejected && unavailable !== true) this.#find(`${what} is its second`);
    const youngest = rules.token?.minAgeMs ?? 0;
    if (!current.rejected && at - current.mintedAt < youngest)
      this.#find(`${what} leads to a refresh ${at - current.mintedAt} ms after it was minted (minAgeMs ${youngest})`);
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
