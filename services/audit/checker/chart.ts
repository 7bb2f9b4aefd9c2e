// The lifecycle of a proxy, written a second time from the design: the allowed transitions. `from type to`.
import type { MovingEvent } from "../../../events/event.ts";
import type { ProxyModel } from "./entities.ts";
import type { Model } from "./model.ts";

const lines = `
available LeaseGranted in-use
available RestBegan    cooling exhausted
available ProxyRetired retired
in-use    LeaseGranted in-use
in-use    LeaseClosed  in-use available
in-use    RestBegan    cooling exhausted
in-use    ProxyRetired retired
cooling   LeaseClosed  cooling
cooling   RestBegan    cooling exhausted
cooling   RestEnded    available in-use
cooling   ProxyRetired retired
exhausted LeaseClosed  exhausted
exhausted RestBegan    exhausted
exhausted RestEnded    available in-use
exhausted ProxyRetired retired
retired   ProxyAdded   available in-use cooling exhausted
retired   LeaseClosed  retired
`;

const legal = new Map<string, Map<string, Set<string>>>();
for (const line of lines.trim().split("\n")) {
  const [from = "", type = "", ...to] = line.trim().split(/\s+/);
  const types = legal.get(from) ?? new Map<string, Set<string>>();
  types.set(type, new Set(to));
  legal.set(from, types);
}

/**
 * Moves the proxy to the state that the event names. The transition must be legal, and the state must be the one that
 * is due.
 */
export function moves(model: Model, proxy: ProxyModel, event: MovingEvent, due: string): void {
  const { findings } = model;
  if (legal.get(proxy.state)?.get(event.type)?.has(event.state) !== true) {
    findings.add(
      "chart",
      `${event.type} leads ${proxy.id} from ${proxy.state} to ${event.state}, which the chart does not allow`,
    );
  } else if (event.state !== due)
    findings.add("chart", `${event.type} leads ${proxy.id} to ${event.state}, not to ${due}`);
  if (event.state === "retired") {
    if (proxy.state !== "retired") model.retired.add(proxy);
  } else if (proxy.state === "retired") model.retired.delete(proxy);
  proxy.state = event.state;
}
