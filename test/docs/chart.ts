// The charts of the lifecycles, drawn from the machines themselves: a Mermaid diagram and a table of state × symbol.
import type { AnyStateMachine, AnyStateNode } from "xstate";
import { proxyMachine } from "../../state-machines/machines/proxy.ts";
import { code, showTable } from "./markdown.ts";

/** Every machine that is the law of something. One that is added here needs its two parts in docs/lifecycle.md. */
export const machines: Record<string, AnyStateMachine> = { proxy: proxyMachine };

interface Arrow {
  from: string;
  symbol: string;
  to: string;
}

export function diagramOf(name: string): string {
  const { initial, states, arrows } = lawOf(name);
  const edges = new Map<string, string[]>();
  for (const { from, symbol, to } of arrows) {
    const edge = `${idOf(from)} --> ${idOf(to)}`;
    // A symbol that says where it leads says it twice beside an arrow.
    const word = symbol.endsWith(`.${to}`) ? symbol.slice(0, -to.length - 1) : symbol;
    edges.set(edge, [...(edges.get(edge) ?? []), word]);
  }
  return [
    "```mermaid",
    "stateDiagram-v2",
    ...states.map((state) => `  state "${state}" as ${idOf(state)}`),
    `  [*] --> ${idOf(initial)}`,
    ...[...edges].map(([edge, words]) => `  ${edge}: ${words.join(", ")}`),
    "```",
  ].join("\n");
}

/** Rows are symbols, columns states. What is empty is not accepted there: it stops the pool. */
export function chartTable(name: string): string {
  const { states, arrows } = lawOf(name);
  const symbols = [...new Set(arrows.map(({ symbol }) => symbol))].sort();
  return showTable(
    ["symbol, where the state is", ...states],
    symbols.map((symbol) => [
      code(symbol),
      ...states.map((from) => arrows.find((arrow) => arrow.from === from && arrow.symbol === symbol)?.to ?? ""),
    ]),
  );
}

function lawOf(name: string): { initial: string; states: string[]; arrows: Arrow[] } {
  const machine = machines[name];
  if (machine === undefined) throw new Error(`no machine is called ${name}`);
  const nodes: Record<string, AnyStateNode> = machine.root.states;
  const states = Object.keys(nodes);
  const arrows = Object.entries(nodes).flatMap(([from, node]) => {
    if (Object.keys(node.states).length > 0) throw new Error(`${name}: ${from} has states within, which is not drawn`);
    return [...node.transitions].flatMap(([symbol, transitions]) =>
      transitions.map((each) => ({ from, symbol, to: each.target?.[0]?.key ?? from })),
    );
  });
  return { initial: machine.root.initial.target?.[0]?.key ?? "", states, arrows };
}

function idOf(state: string): string {
  return state.replaceAll("-", "_");
}
