// Turns the engine's answers into replies of the protocol, and adds the facts that only the shell knows: logins and the
// values of tokens. It is called once the turn is stored, so that everything told about the state is acknowledged.

import type { WhyIgnored } from "../../events/outcome.ts";
import { proxyUrl } from "../../lists/address.ts";
import type { LeaseReply } from "../../protocol/lease.ts";
import type { IgnoredOutcome, ReportReply } from "../../protocol/outcome.ts";
import type { ChangedReply } from "../../protocol/proxy.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { ignoredListedMax } from "../../protocol/reply.ts";
import type { RejectReply, TokenReply } from "../../protocol/token.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import { isResting } from "../../state-machines/candidates/group.ts";
import type { Answer, TokenGiven } from "../../state-machines/command.ts";
import { tokenDueAt } from "../../state-machines/decide/refreshes.ts";
import { grantsLeases } from "../../state-machines/decide/token.ts";
import type { Engine } from "../../state-machines/engine.ts";
import type { Lease, PoolState, Proxy } from "../../state-machines/fold/state.ts";
import { viewLease, viewPool } from "../../state-machines/view.ts";
import { loginOf } from "./logins.ts";
import { storedValue } from "./token-values.ts";

export class Replies {
  readonly #engine: Pick<Engine<never>, "state" | "candidates">;
  readonly #secrets: Pick<Secrets, "get">;

  constructor(engine: Pick<Engine<never>, "state" | "candidates">, secrets: Pick<Secrets, "get">) {
    this.#engine = engine;
    this.#secrets = secrets;
  }

  /** The reply to a request of one command. */
  to(answer: Answer, arrivedAt: number): object {
    if ("lease" in answer) return this.#lease(answer.lease, arrivedAt);
    if ("released" in answer) return answer.released;
    if ("rejected" in answer) return this.#rejected(answer.rejected);
    if ("token" in answer) return this.#token(answer.token);
    if ("found" in answer) return { cancelled: answer.found };
    if ("cancelled" in answer) return refuse("unavailable", "This request was cancelled.", { retryAfterMs: 1 });
    if ("warnings" in answer) {
      const { warnings } = answer;
      return { ...viewPool(this.#engine.state), ...(warnings.length > 0 ? { warnings } : {}) };
    }
    return answer;
  }

  /** The reply to a lease request. With `count` it has a list. */
  granted(answer: Answer, arrivedAt: number, count: number | undefined): object {
    if (count === undefined || !("lease" in answer)) return this.to(answer, arrivedAt);
    return { leases: [answer.lease, ...(answer.more ?? [])].map((lease) => this.#lease(lease, arrivedAt)) };
  }

  #lease(lease: Lease, arrivedAt: number): LeaseReply {
    const token = this.#tokenOf(lease);
    return {
      ...viewLease(this.#engine.state, lease, arrivedAt),
      ...addressOf(lease.proxy, this.#secrets),
      ...(token === undefined ? {} : { token }),
    };
  }

  /** The token that was given with this lease. */
  #tokenOf({ token }: Lease): Omit<TokenReply, "proxyId"> | undefined {
    const stored = token === null ? undefined : storedValue(this.#secrets, token.tokenId);
    if (token === null || stored === undefined) return undefined;
    const { tokenId, mintedAt, expiresAt } = token;
    return { tokenId, value: stored.value, mintedAt, ...(expiresAt === 0 ? {} : { expiresAt }) };
  }

  #token({ tokenId, ...given }: TokenGiven): TokenReply | Refusal {
    const stored = storedValue(this.#secrets, tokenId);
    // A new leader has removed tokens without a stored value.
    if (stored === undefined)
      return refuse("token-unavailable", "The token's value is not stored.", { retryAfterMs: 1000 });
    return { tokenId, value: stored.value, ...given };
  }

  /** As of the end of the turn. The refresh has begun in that turn if it could. */
  #rejected(rejected: RejectReply): RejectReply {
    if (rejected.action !== "refreshing") return rejected;
    const { state, candidates } = this.#engine;
    const token = state.tokenIds.get(rejected.tokenId);
    const at = token === undefined || !grantsLeases(state) ? Infinity : tokenDueAt(state, candidates, token.key);
    return at === Infinity ? rejected : { ...rejected, retryAfterMs: Math.max(1, at - state.at) };
  }
}

type Address = Pick<LeaseReply, "url" | "scheme" | "host" | "port" | "username" | "password">;

/** The address of a leased proxy, with its credentials. For replies only. */
export function addressOf({ id, scheme, host, port }: Proxy, secrets: Pick<Secrets, "get">): Address {
  const address = { scheme, host, port, ...loginOf(secrets, id) };
  return { url: proxyUrl(address), ...address };
}

/** @param each the result for each outcome. */
export function reportReply(state: PoolState, each: readonly Answer[]): ReportReply {
  let accepted = 0;
  let ignoredCount = 0;
  const ignored: IgnoredOutcome[] = [];
  const reported = new Set<string>();
  for (const answer of each) {
    if ("lease" in answer) {
      accepted++;
      reported.add(answer.lease.id);
    } else if ("ignored" in answer) {
      const { ignored: why, leaseId, n, field = fieldOf[why] } = answer;
      if (ignored.length < ignoredListedMax)
        ignored.push({ leaseId, n, why, ...(field === undefined ? {} : { field }) });
      ignoredCount++;
      if (why !== "unreadable") reported.add(leaseId);
    }
  }
  return { accepted, ignored, ignoredCount, stop: [...reported].flatMap((leaseId) => stopsOf(state, leaseId)) };
}

/** The field at fault, where the reason says it. */
const fieldOf: { [why in WhyIgnored]?: string } = {
  "unknown-lease": "leaseId",
  "n-missing": "n",
  "n-too-large": "n",
  "no-result": "result",
};

/** @param each the result for each proxy. */
export function changedReply(ids: readonly string[], each: readonly Answer[]): ChangedReply {
  const results = each.map((answer) => ("proxy" in answer ? answer.proxy : undefined));
  return {
    changed: results.filter((result) => result === "changed").length,
    unknown: ids.filter((_id, i) => results[i] === "unknown"),
  };
}

/** An open lease whose proxy rests: it should have no further use. */
function stopsOf(state: PoolState, leaseId: string): ReportReply["stop"] {
  const proxy = state.leases.get(leaseId)?.proxy;
  return proxy !== undefined && isResting(proxy) ? [{ leaseId, until: proxy.until }] : [];
}
