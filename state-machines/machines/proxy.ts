// The law of a proxy's lifecycle, as an XState chart. It says what may follow what; decisions check the limits. A symbol
// is an event's type and the state it leads to as decided (`LeaseClosed.available`), so the next state depends on
// (state, symbol) alone: no guards, no delays, no actions, no clock.
//
//   retired ──ProxyAdded──► available ◄──► in-use ──RestBegan──► cooling ──► exhausted ──RestEnded──► available, in-use
//
// A proxy never seen is `retired`. `retired` is absorbing, not final: it still takes the end of open leases, and being
// added again.
import { setup } from "xstate";
import type { MovingEvent } from "../../events/event.ts";
import { type ProxyStateName, proxyStates } from "../../events/proxy.ts";
import { deriveSteps } from "./steps.ts";

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

/** Whether the chart accepts an event of this type, leading to this state, here. */
export const accepts = deriveSteps(proxyMachine, { states: proxyStates, types: movingTypes });
