// The fast step, derived once from a chart and remembered: XState's own `transition()` builds an actor per call, a
// thousand times dearer. A property test proves the two equal (test/rules/chart.test.ts).
import { type AnyStateMachine, initialTransition, transition } from "xstate";

/**
 * Asks a chart whose symbols are `<type>.<state>`: does it accept, in `from`, an event of this type that leads to `to`?
 * @throws Error where a symbol leads elsewhere than it says.
 */
export function deriveSteps<State extends string, Type extends string>(
  machine: AnyStateMachine,
  { states, types }: { states: readonly State[]; types: readonly Type[] },
): (from: State, type: Type, to: State) => boolean {
  const [initial] = initialTransition(machine);
  const steps = byKey(states, (from) => {
    const before = machine.resolveState({ ...initial, value: from });
    return byKey(types, (type) => new Set(states.filter((to) => leads(before, `${type}.${to}`, to))));
  });
  return (from, type, to) => steps[from][type].has(to);

  function leads(before: typeof initial, symbol: string, to: State): boolean {
    // XState ignores an event that it does not accept, silently. So ask first, and check that it leads where it says.
    if (!before.can({ type: symbol })) return false;
    const [after] = transition(machine, before, { type: symbol });
    if (after.value !== to) throw new Error(`the chart leads ${before.value} by ${symbol} to ${after.value}`);
    return true;
  }
}

function byKey<Key extends string, Value>(keys: readonly Key[], valueOf: (key: Key) => Value): Record<Key, Value> {
  return Object.fromEntries(keys.map((key) => [key, valueOf(key)])) as Record<Key, Value>; // One for each key.
}
