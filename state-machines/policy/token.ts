// The part of a policy about guest tokens: contradictions in it, and parts that can never take effect.
import type { Policy } from "../../events/policy.ts";
import type { TokenPolicy } from "../../events/token-policy.ts";

/** Checks for contradictions in a policy, each with the field that is wrong. */
export type Contradictions = [isContradiction: boolean, field: string, why: string][];

export function contradictionsInToken(token: TokenPolicy, ttlMsMax: number, marginMs: number): Contradictions {
  const { source, retry, deadlineMs, refreshAheadMs } = token;
  const lifeMs = source.life?.ms ?? Infinity;
  return [
    [
      deadlineMs > ttlMsMax,
      "token.deadlineMs",
      `a refresh takes a lease of ${deadlineMs} ms, and the longest one is lease.ttlMsMax (${ttlMsMax})`,
    ],
    [
      deadlineMs <= marginMs,
      "token.deadlineMs",
      `the whole refresh (${deadlineMs} ms) must be longer than marginMs (${marginMs}), by which its request ends before it`,
    ],
    [
      source.timeoutMs > deadlineMs,
      "token.source.timeoutMs",
      `the request may take longer (${source.timeoutMs} ms) than the whole refresh, deadlineMs (${deadlineMs})`,
    ],
    [
      retry.maxMs < retry.baseMs,
      "token.retry.maxMs",
      `the longest pause (${retry.maxMs}) is below baseMs (${retry.baseMs})`,
    ],
    [
      lifeMs <= refreshAheadMs,
      "token.refreshAheadMs",
      `a token lives ${lifeMs} ms, so it would be fetched again as soon as it is there`,
    ],
    [source.method === "GET" && source.body !== null, "token.source.body", "a GET request has none"],
  ];
}

export function tokenWarnings({ token }: Policy): string[] {
  if (token === null || token.refreshAheadMs === 0 || token.source.life !== null) return [];
  return [
    "token.refreshAheadMs: source.life is null, so the end of a token is not known, and no token is refreshed ahead of it",
  ];
}
