// The law of a proxy's lifecycle, as an XState chart. It says what may follow what; the limits are judged in the
// decisions. A symbol is an event's type and the state it leads to as decided (`LeaseClosed.available`), so the next
// state depends on (state, symbol) alone: no guards, no delays, no actions, no clock.
//
//   retired ──ProxyAdded──► available ◄──► in-use ──RestBegan──► cooling ──► exhausted ──RestEnded──► available, in-use
//
// A proxy never seen is `retired`. `retired` is absorbing, not final: it still takes the end of open leases, and being
// added again. `step` is the same law, derived once from the chart and remembered: XState's own
// `transition()` builds an actor per call, a thousand times dearer. A property test proves the two equal.
import { initialTransition, setup, transition } from "xstate";
import type { MovingEvent } from "../../events/event.ts";
import { type ProxyStateName, proxyStates } from "../../events/proxy.ts";

export type ProxySymbol = `${MovingEvent["type"]}.${ProxyStateName}`;

const ends = { "RestEnded.available": "available", "RestEnded.in-use": "in-use" } as const;
const retires = { "ProxyRetired.retired": "retired" } as const;

export const proxyMachine = setup({
  types: { events: {} as { type: ProxySymbol } },
}).createMachine({
  id: "proxy",
  initial: "retired",
  states: {
    available: {
      on: {
        "LeaseGranted.in-use": "in-use",
        "RestBegan.cooling": "cooling",
        "RestBegan.exhausted": "exhausted",
        ...retires,
      },
    },
    "in-use": {
      on: {
        "LeaseGranted.in-use": "in-use",
        "LeaseClosed.in-use": "in-use",
        "LeaseClosed.available": "available",
        "RestBegan.cooling": "cooling",
        "RestBegan.exhausted": "exhausted",
        ...retires,
      },
    },
    cooling: {
      on: {
        "LeaseClosed.cooling": "cooling",
        "RestBegan.cooling": "cooling",
        "RestBegan.exhausted": "exhausted",
        ...ends,
        ...retires,
      },
    },
    exhausted: {
      on: {
        "LeaseClosed.exhausted": "exhausted",
        "RestBegan.exhausted": "exhausted",
        ...ends,
        ...retires,
      },
    },
    retired: {
      on: {
        "ProxyAdded.available": "available",
        "ProxyAdded.in-use": "in-use",
        "ProxyAdded.cooling": "cooling",
        "ProxyAdded.exhausted": "exhausted",
        "LeaseClosed.retired": "retired",
      },
    },
  },
});

export const movingTypes: readonly MovingEvent["type"][] = [
  "ProxyAdded",
  "ProxyRetired",
  "RestBegan",
  "RestEnded",
  "LeaseGranted",
  "LeaseClosed",
];

/** Does the chart accept an event of this type, leading to this state, here? */
export function accepts(from: ProxyStateName, type: MovingEvent["type"], to: ProxyStateName): boolean {
  return steps[from][type]?.has(to) ?? false;
}

const steps = deriveSteps();

function deriveSteps(): Record<ProxyStateName, Partial<Record<MovingEvent["type"], ReadonlySet<ProxyStateName>>>> {
  const [initial] = initialTransition(proxyMachine);
  const derived = {} as ReturnType<typeof deriveSteps>; // Filled for every state, below.
  for (const from of proxyStates) {
    const before = proxyMachine.resolveState({ ...initial, value: from });
    const leads = (type: MovingEvent["type"], to: ProxyStateName): boolean => {
      const symbol = { type: `${type}.${to}` } as const;
      // XState ignores an event that it does not accept, without a word: so ask, and see that it leads where it says.
      if (!before.can(symbol)) return false;
      const [after] = transition(proxyMachine, before, symbol);
      if (after.value !== to) throw new Error(`the chart leads ${from} by ${symbol.type} to ${String(after.value)}`);
      return true;
    };
    derived[from] = Object.fromEntries(
      movingTypes.map((type) => [type, new Set(proxyStates.filter((to) => leads(type, to)))]),
    );
  }
  return derived;
}
