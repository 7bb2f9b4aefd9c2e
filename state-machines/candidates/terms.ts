// The terms of a candidate index: which proxies it holds.
import type { Labels } from "../../events/ids.ts";
import type { Scheme } from "../../events/proxy.ts";
import type { Proxy } from "../fold/state.ts";
import type { Need } from "../rules/token.ts";

export interface Terms {
  labels?: Labels | undefined;
  schemes?: readonly Scheme[] | undefined;
  minUses: number;
  /** Only proxies whose token meets this need. */
  need?: Need | undefined;
}

/** Whether the proxy has these labels and one of these schemes. A retired one never matches. */
export function suits(proxy: Proxy, { labels, schemes }: Terms): boolean {
  if (proxy.state === "retired") return false;
  if (schemes !== undefined && !schemes.includes(proxy.scheme)) return false;
  if (labels === undefined) return true;
  for (const key in labels) if (proxy.labels[key] !== labels[key]) return false;
  return true;
}

/** Equal for equal terms, in whatever order labels and schemes are. */
export function keyOf({ labels, schemes, minUses }: Terms, need?: Need): string {
  const sorted = labels === undefined ? [] : Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const asked =
    sorted.length === 0 && schemes === undefined
      ? `${minUses}`
      : JSON.stringify([minUses, sorted, schemes?.toSorted() ?? []]);
  return need === undefined ? asked : `${need} ${asked}`;
}
