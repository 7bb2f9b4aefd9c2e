// Lease requests: their recorded form, the comparison of two, and the grant of one to the proxy that was chosen for it.
import type { RecordedRequest } from "../../events/lease.ts";
import type { LeaseRequest } from "../../protocol/lease.ts";
import { hostOf } from "../../protocol/target.ts";
import type { Lease, Proxy } from "../fold/state.ts";
import { usesLeft } from "../rules/exit.ts";
import { tokenFor } from "../rules/token.ts";
import { canonical } from "../structures/canonical.ts";
import type { Turn } from "./turn.ts";

export interface ChosenProxy {
  proxy: Proxy;
  /** The values by which the strategy chose it. */
  ranked: Record<string, number>;
}

export function recordOf(request: LeaseRequest): RecordedRequest {
  const { requestId, count = 1, uses, minUses, ttlMs, session, labels, schemes, exclude } = request;
  const { proxyId, holder, token } = request;
  const target = hostOf(request.target);
  return {
    ...(requestId !== undefined && { requestId }),
    ...(count !== 1 && { count }),
    ...(uses !== 1 && { uses }),
    ...(minUses !== 1 && { minUses }),
    ...(ttlMs !== undefined && { ttlMs }),
    ...(session !== undefined && { session }),
    ...(labels !== undefined && Object.keys(labels).length > 0 && { labels }),
    ...(schemes !== undefined && { schemes }),
    ...(exclude !== undefined && exclude.length > 0 && { exclude }),
    ...(proxyId !== undefined && { proxyId }),
    ...(holder !== undefined && { holder }),
    ...(token === true && { token }),
    ...(target !== undefined && { target }),
  };
}

/** Whether both ask for the same. The order of labels, schemes and excluded proxies does not matter. */
export function sameRequest(a: RecordedRequest | null, b: RecordedRequest): boolean {
  return a !== null && canonical(inOrder(a)) === canonical(inOrder(b));
}

function inOrder({ schemes, exclude, ...others }: RecordedRequest): object {
  return { ...others, schemes: schemes?.toSorted(), exclude: exclude?.toSorted() };
}

/** The limits have been checked already. If the request asks for a token, that token exists. */
export function grantProxy(
  turn: Turn,
  chosen: ChosenProxy,
  given: { request: LeaseRequest; leaseId: string; user?: string | undefined; with?: string | undefined },
): Lease {
  const { state } = turn;
  const { proxy, ranked } = chosen;
  const { request, leaseId, user } = given;
  const { policy } = state.rules;
  const token = request.token === true ? tokenFor(state, proxy) : undefined;
  state.chosen = proxy;
  turn.emit({
    type: "LeaseGranted",
    leaseId,
    proxyId: proxy.id,
    state: "in-use",
    ...(user !== undefined && { user }),
    request: recordOf(request),
    uses: usesLeft(state, proxy.account, request.uses),
    epoch: proxy.epoch,
    expiresAt: turn.at + (request.ttlMs ?? policy.lease.ttlMs),
    strategy: policy.strategy.kind,
    ranked,
    ...(policy.countFrom === "grant" && { slotAt: turn.at }),
    ...(token !== undefined && { tokenId: token.tokenId }),
    ...(given.with !== undefined && { with: given.with }),
  });
  state.chosen = null;
  return state.leases.get(leaseId)!; // Just granted.
}
