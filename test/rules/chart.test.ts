import fc from "fast-check";
import { expect, test } from "vitest";
import { initialTransition, transition } from "xstate";
import { proxyStates } from "../../events/proxy.ts";
import { accepts, movingTypes, proxyMachine } from "../../state-machines/machines/proxy.ts";

const [initial] = initialTransition(proxyMachine);

test("the remembered step is XState's own transition(), for every state and symbol", () => {
  let accepted = 0;
  for (const from of proxyStates) {
    for (const type of movingTypes) {
      for (const to of proxyStates) {
        const before = proxyMachine.resolveState({ ...initial, value: from });
        const symbol = { type: `${type}.${to}` } as const;
        const [after] = transition(proxyMachine, before, symbol);
        const byChart = before.can(symbol) && after.value === to;
        expect(accepts(from, type, to), `${from} ${symbol.type}`).toBe(byChart);
        if (!byChart) expect(after.value, `${from} ${symbol.type}`).toBe(from);
        else accepted++;
      }
    }
  }
  expect(accepted).toBeGreaterThan(20);
});

test("random walks by the remembered step and by XState end in the same state", () => {
  const symbols = movingTypes.flatMap((type) => proxyStates.map((to) => ({ type, to })));
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...symbols), { maxLength: 60 }), (walk) => {
      let state: (typeof proxyStates)[number] = "retired";
      let snapshot = initial;
      for (const { type, to } of walk) {
        if (accepts(state, type, to)) state = to;
        [snapshot] = transition(proxyMachine, snapshot, { type: `${type}.${to}` });
        expect(snapshot.value).toBe(state);
      }
    }),
  );
});

test("the law in short: a proxy at rest is not leased, a retired one only added", () => {
  expect(accepts("cooling", "LeaseGranted", "in-use")).toBe(false);
  expect(accepts("exhausted", "LeaseGranted", "in-use")).toBe(false);
  expect(accepts("retired", "LeaseGranted", "in-use")).toBe(false);
  expect(accepts("retired", "RestEnded", "available")).toBe(false);
  expect(accepts("retired", "ProxyAdded", "available")).toBe(true);
  expect(accepts("available", "LeaseClosed", "available")).toBe(false);
});
