// The fast step, derived once from a chart and remembered. XState's own `transition()` builds an actor per call, which
// costs a thousand times more. A property test proves that both give the same (test/rules/chart.test.ts).
import { type AnyStateMachine, initialTransition, transition } from "xstate";

/** Transitions by these symbols. A symbol is an event's type and the state that it leads to. */
export function by<Symbol extends `${string}.${string}`>(...symbols: Symbol[]): Record<Symbol, string> {
  return Object.fromEntries(symbols.map((symbol) => [symbol, symbol.slice(symbol.indexOf(".") + 1)])) as Record<
    Symbol,
    string
  >; // One for each symbol.
}

/**
 * Whether a chart accepts, in `from`, an event of this type that leads to `to`. Its symbols are `<type>.<state>`.
 * @throws Error if a symbol leads to a state that it does not name.
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
    // XState silently ignores an event that the chart does not accept. So ask first.
    if (!before.can({ type: symbol })) return false;
    const [after] = transition(machine, before, { type: symbol });
    if (after.value !== to) throw new Error(`the chart leads ${before.value} by ${symbol} to ${after.value}`);
    return true;
  }
}

function byKey<Key extends string, Value>(keys: readonly Key[], valueOf: (key: Key) => Value): Record<Key, Value> {
  return Object.fromEntries(keys.map((key) => [key, valueOf(key)])) as Record<Key, Value>; // One for each key.
}
