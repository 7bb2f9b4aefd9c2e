// Both charts, and the steps derived from them. A derived step must equal XState's own.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AnyStateMachine, initialTransition, transition } from "xstate";
import { tokenStates } from "../../events/token.ts";
import { proxyStates } from "../../events/words.ts";
import { accepts, movingTypes, proxyMachine } from "../../state-machines/machines/proxy.ts";
import { deriveSteps } from "../../state-machines/machines/steps.ts";
import { takes, tokenMachine, tokenTypes } from "../../state-machines/machines/token.ts";

interface Chart {
  name: string;
  machine: AnyStateMachine;
  step: (from: string, type: string, to: string) => boolean;
  states: readonly string[];
  types: readonly string[];
  accepted: number;
}

const charts: Chart[] = [
  {
    name: "proxy",
    machine: proxyMachine,
    step: accepts as Chart["step"],
    states: proxyStates,
    types: movingTypes,
    accepted: 26,
  },
  {
    name: "token",
    machine: tokenMachine,
    step: takes as Chart["step"],
    states: tokenStates,
    types: tokenTypes,
    accepted: 16,
  },
];

describe.each(charts)("the chart of a $name", ({ machine, step, states, types, accepted }) => {
  const [initial] = initialTransition(machine);

  test("has a remembered step equal to XState's own transition(), for every state and symbol", () => {
    let count = 0;
    for (const from of states) {
      for (const type of types) {
        for (const to of states) {
          const before = machine.resolveState({ ...initial, value: from });
          const symbol = { type: `${type}.${to}` };
          const [after] = transition(machine, before, symbol);
          const byChart = before.can(symbol) && after.value === to;
          expect(step(from, type, to), `${from} ${symbol.type}`).toBe(byChart);
          if (!byChart) expect(after.value, `${from} ${symbol.type}`).toBe(from);
          else count++;
        }
      }
    }
    expect(count).toBe(accepted);
  });

  test("ends in the same state by remembered steps and by XState, on random walks", () => {
    const symbols = types.flatMap((type) => states.map((to) => ({ type, to })));
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...symbols), { maxLength: 60 }), (walk) => {
        let state = initial.value;
        let snapshot = initial;
        for (const { type, to } of walk) {
          if (step(state, type, to)) state = to;
          [snapshot] = transition(machine, snapshot, { type: `${type}.${to}` });
          expect(snapshot.value).toBe(state);
        }
      }),
    );
  });

  test("rejects a chart with a symbol that does not name the state it leads to", () => {
    const { config } = machine;
    const wrong = machine.root.states[machine.root.initial.target?.[0]?.key ?? ""];
    const lying = {
      ...config.states,
      [wrong?.key ?? ""]: { on: { [`${types[0]}.${states[0]}`]: { target: states[1] } } },
    };
    const made = machine.constructor as new (config: object, given: object) => AnyStateMachine;
    expect(() => deriveSteps(new made({ ...config, states: lying }, {}), { states, types })).toThrow(/the chart leads/);
  });
});

test("does not lease a resting proxy; a retired one can only be added", () => {
  expect(accepts("cooling", "LeaseGranted", "in-use")).toBe(false);
  expect(accepts("exhausted", "LeaseGranted", "in-use")).toBe(false);
  expect(accepts("retired", "LeaseGranted", "in-use")).toBe(false);
  expect(accepts("retired", "RestEnded", "available")).toBe(false);
  expect(accepts("retired", "ProxyAdded", "available")).toBe(true);
  expect(accepts("available", "LeaseClosed", "available")).toBe(false);
});

test("allows no second refresh while a token is being fetched", () => {
  expect(takes("refreshing", "TokenRequested", "refreshing")).toBe(false);
  expect(takes("fresh", "TokenMinted", "fresh")).toBe(false);
  expect(takes("missing", "TokenMinted", "fresh")).toBe(false);
});
