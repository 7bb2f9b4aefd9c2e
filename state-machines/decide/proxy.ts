// Decisions about the proxies of a pool: add, change, retire. Adding a proxy that is already there gives no event.
import { type Labels, labelsMax } from "../../events/ids.ts";
import type { Limits } from "../../events/policy.ts";
import type { ProxyAdded, RestReason } from "../../events/proxy.ts";
import { canonicalHost, isLiteralAddress, type ProxyAddress } from "../../protocol/host.ts";
import { accountKey } from "../fold/account.ts";
import type { Proxy } from "../fold/state.ts";
import { openState, restAfterAdding } from "./rest.ts";
import { doneBy, type Turn } from "./turn.ts";

export interface Newcomer {
  id: string;
  address: Pick<ProxyAddress, "scheme" | "host" | "port"> & { maskedName?: string };
  labels: Labels;
  /** True: these replace all its labels. False: they are merged over its present labels. */
  allLabels: boolean;
  /** Absent: keep its present limits. */
  limits?: Limits | undefined;
}

/** A known proxy that is added again changes only in the fields that the entry gives. */
export function add(turn: Turn, newcomer: Newcomer, by?: string): "added" | "already" | "updated" {
  const known = turn.state.proxies.get(newcomer.id);
  if (known !== undefined && known.state !== "retired") return change(turn, known, newcomer, by);
  const { id, address, labels } = newcomer;
  const limits = newcomer.limits ?? known?.limits;
  const exit = exitOf(newcomer);
  const exitUntil = turn.state.exits.get(accountKey(turn.state, id, exit))?.restUntil ?? 0;
  const ownUntil = known?.until ?? 0;
  const until = Math.max(ownUntil, exitUntil);
  const resting = until > turn.at;
  const reasons = new Set<RestReason>(ownUntil > turn.at ? known?.reasons : []);
  if (exitUntil > turn.at) reasons.add("usage");
  const restState = reasons.has("usage") ? "exhausted" : "cooling";
  const state: ProxyAdded["state"] = resting ? restState : known === undefined ? "available" : openState(known);
  turn.emit({
    type: "ProxyAdded",
    proxyId: id,
    state,
    scheme: address.scheme,
    host: address.host,
    port: address.port,
    ...(address.maskedName === undefined ? {} : { username: address.maskedName }),
    exit,
    labels,
    ...(limits === undefined ? {} : { limits }),
    ...(resting ? { until, reasons: [...reasons] } : {}),
    // If it now enters a rest of its exit, that is a new rest for it. Its own rest goes on in the same epoch.
    epoch: (known?.epoch ?? 0) + (resting && until > ownUntil ? 1 : 0),
    ...doneBy(by),
  });
  if (!resting) restAfterAdding(turn, turn.state.proxies.get(id)!); // Just added.
  return "added";
}

export function retire(
  turn: Turn,
  proxy: Proxy,
  { reason, by }: { reason?: string | undefined; by?: string | undefined },
): boolean {
  if (proxy.state === "retired") return false;
  const why = reason === undefined ? {} : { reason };
  turn.emit({ type: "ProxyRetired", proxyId: proxy.id, state: "retired", ...why, ...doneBy(by) });
  return true;
}

function change(turn: Turn, known: Proxy, newcomer: Newcomer, by?: string): "already" | "updated" {
  const { id, address } = newcomer;
  const labels = newcomer.allLabels ? newcomer.labels : merged(known.labels, newcomer.labels);
  const limits = newcomer.limits ?? known.limits;
  const exit = exitOf({ id, address, labels });
  const same =
    known.exit === exit && sameLabels(known.labels, labels) && JSON.stringify(known.limits) === JSON.stringify(limits);
  if (same) return "already";
  const own = limits === undefined ? {} : { limits };
  turn.emit({ type: "ProxyChanged", proxyId: id, exit, labels, ...own, ...doneBy(by) });
  return "updated";
}

/** The `exit` label, else a literal host, else the proxy itself: a host name is mostly a gateway with many exits. */
function exitOf({ id, address, labels }: Pick<Newcomer, "id" | "address" | "labels">): string {
  const named = labels["exit"];
  if (named !== undefined && named.trim() !== "") {
    const host = canonicalHost(named.trim());
    return host !== undefined && isLiteralAddress(host) ? host : named.trim();
  }
  return isLiteralAddress(address.host) ? address.host : id;
}

/** If the merged labels are more than a proxy may have, it keeps its own. With more it could not be added again. */
function merged(known: Labels, given: Labels): Labels {
  const labels = { ...known, ...given };
  return Object.keys(labels).length > labelsMax ? known : labels;
}

function sameLabels(a: Labels, b: Labels): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
