// The part of a policy about guest tokens: contradictions in it, and what can never happen.
import type { Policy } from "../../events/policy.ts";
import type { TokenPolicy } from "../../events/token-policy.ts";

export function contradictionInToken(
  token: TokenPolicy,
  ttlMsMax: number,
  marginMs: number,
): { field: string; why: string } | undefined {
  const { source, retry, deadlineMs, refreshAheadMs } = token;
  if (deadlineMs > ttlMsMax) {
    const why = `a refresh takes a lease of ${deadlineMs} ms, and the longest one is lease.ttlMsMax (${ttlMsMax})`;
    return { field: "token.deadlineMs", why };
  }
  if (deadlineMs <= marginMs) {
    const why = `the whole refresh (${deadlineMs} ms) must be longer than marginMs (${marginMs}), by which its request ends before it`;
    return { field: "token.deadlineMs", why };
  }
  if (source.timeoutMs > deadlineMs) {
    const why = `the request may take longer (${source.timeoutMs} ms) than the whole refresh, deadlineMs (${deadlineMs})`;
    return { field: "token.source.timeoutMs", why };
  }
  if (retry.maxMs < retry.baseMs) {
    const why = `the longest pause (${retry.maxMs}) is below baseMs (${retry.baseMs})`;
    return { field: "token.retry.maxMs", why };
  }
  if (source.life?.ms !== undefined && source.life.ms <= refreshAheadMs) {
    const why = `a token lives ${source.life.ms} ms, so that it would be fetched again as soon as it is there`;
    return { field: "token.refreshAheadMs", why };
  }
  if (source.method === "GET" && source.body !== null) {
    return { field: "token.source.body", why: "a GET request has none" };
  }
  return undefined;
}

export function tokenWarnings({ token }: Policy): string[] {
  if (token === null || token.refreshAheadMs === 0 || token.source.life !== null) return [];
  return ["token.refreshAheadMs: source.life is null, so that no token is known to end and none is refreshed ahead"];
}
