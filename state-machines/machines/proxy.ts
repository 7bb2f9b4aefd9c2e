// The law of a proxy's lifecycle, as an XState chart. It says which event may follow in which state; decisions check
// the limits. A symbol is an event's type and the state it leads to as decided (`LeaseClosed.available`), so the next
// state depends on (state, symbol) alone: no guards, no delays, no actions, no clock.
//
//   retired ──ProxyAdded──► available ◄──► in-use ──RestBegan──► cooling ──► exhausted ──RestEnded──► available, in-use
//
// A proxy that was never seen is `retired`. That state is absorbing and not final: open leases still end there, and the
// proxy can be added again.
import { setup } from "xstate";
import type { MovingEvent } from "../../events/event.ts";
import type { ProxyStateName } from "../../events/proxy.ts";
import { proxyStates } from "../../events/words.ts";
import { by, deriveSteps } from "./steps.ts";

export type ProxySymbol = `${MovingEvent["type"]}.${ProxyStateName}`;

const rests = ["RestBegan.cooling", "RestBegan.exhausted"] as const;
const ends = ["RestEnded.available", "RestEnded.in-use", "ProxyRetired.retired"] as const;

export const proxyMachine = setup({
  types: { events: {} as { type: ProxySymbol } },
}).createMachine({
  id: "proxy",
  initial: "retired",
  states: {
    available: { on: by("LeaseGranted.in-use", ...rests, "ProxyRetired.retired") },
    "in-use": {
      on: by("LeaseGranted.in-use", "LeaseClosed.in-use", "LeaseClosed.available", ...rests, "ProxyRetired.retired"),
    },
    cooling: { on: by("LeaseClosed.cooling", ...rests, ...ends) },
    exhausted: { on: by("LeaseClosed.exhausted", "RestBegan.exhausted", ...ends) },
    retired: {
      on: by(
        "ProxyAdded.available",
        "ProxyAdded.in-use",
        "ProxyAdded.cooling",
        "ProxyAdded.exhausted",
        "LeaseClosed.retired",
      ),
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

export const accepts = deriveSteps(proxyMachine, { states: proxyStates, types: movingTypes });
