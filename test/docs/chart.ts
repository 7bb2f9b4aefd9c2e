// The charts of the lifecycles, drawn from the machines themselves: a Mermaid diagram and, for a machine that decides
// which events are legal, a table of state × symbol.
import type { AnyStateMachine, AnyStateNode, AnyTransitionDefinition } from "xstate";
import { refreshMachine } from "../../services/guest-token/refresh.ts";
import { poolMachine } from "../../services/picker/pool-life.ts";
import { sourceMachine } from "../../services/sources/follower.ts";
import { proxyMachine } from "../../state-machines/machines/proxy.ts";
import { tokenMachine } from "../../state-machines/machines/token.ts";
import { code, showTable } from "./markdown.ts";

/** Each is the law of something. One that is added here needs a diagram and a chart in the docs. */
export const laws: Record<string, AnyStateMachine> = { proxy: proxyMachine, token: tokenMachine };
/** Each runs as an actor. A machine that is added here needs a diagram in the docs. */
export const actors: Record<string, AnyStateMachine> = {
  pool: poolMachine,
  refresh: refreshMachine,
  source: sourceMachine,
};

interface Arrow {
  from: string;
  label: string;
  to: string;
}

export function diagramOf(name: string): string {
  const { root } = machineOf(name);
  const edges = new Map<string, string[]>();
  for (const { from, label, to } of arrowsFrom(root)) {
    const edge = `${idOf(from)} --> ${to === "[*]" ? to : idOf(to)}`;
    // Beside an arrow, a symbol that names its destination would repeat it.
    const word = label.endsWith(`.${to}`) ? label.slice(0, -to.length - 1) : label;
    edges.set(edge, [...(edges.get(edge) ?? []), word]);
  }
  const shown = [...edges].map(([edge, words]) => {
    const said = [...new Set(words)].filter((word) => word !== "").join(", ");
    return `  ${edge}${said === "" ? "" : `: ${said}`}`;
  });
  return ["```mermaid", "stateDiagram-v2", ...statesIn(root), ...shown, "```"].join("\n");
}

/** Rows are symbols, columns are states. An empty cell is not accepted in that state: it stops the pool. */
export function chartTable(name: string): string {
  const { root } = machineOf(name);
  const arrows = arrowsFrom(root);
  const symbols = [...new Set(arrows.map(({ label }) => label))].sort();
  const states = Object.keys(root.states);
  return showTable(
    ["symbol ↓ state →", ...states],
    symbols.map((symbol) => [
      code(symbol),
      ...states.map((from) => arrows.find((arrow) => arrow.from === from && arrow.label === symbol)?.to ?? ""),
    ]),
  );
}

function machineOf(name: string): AnyStateMachine {
  const machine = laws[name] ?? actors[name];
  if (machine === undefined) throw new Error(`no machine is called ${name}`);
  return machine;
}

function statesIn(node: AnyStateNode, indent = "  "): string[] {
  const states: AnyStateNode[] = Object.values(node.states);
  const declared = states.flatMap((state) => {
    const named = `${indent}state "${wordsOf(state.key)}" as ${idOf(state.key)}`;
    return state.type === "compound" ? [`${named} {`, ...statesIn(state, `${indent}  `), `${indent}}`] : [named];
  });
  return [...declared, `${indent}[*] --> ${idOf(node.initial.target?.[0]?.key ?? "")}`];
}

/**
 * The transitions of the states. A symbol that leads away from every state alike is omitted: it would be drawn from
 * each one.
 */
function arrowsFrom(root: AnyStateNode): Arrow[] {
  const nodes: AnyStateNode[] = Object.values(root.states);
  return nodes.flatMap((node) => {
    const taken = [...[...node.transitions.values()].flat(), ...(node.always ?? [])];
    const arrows = taken.flatMap((each) => {
      const to = each.target?.[0]?.key;
      return to === undefined ? [] : [{ from: node.key, label: labelOf(each), to }];
    });
    const end = node.type === "final" ? [{ from: node.key, label: "", to: "[*]" }] : [];
    return [...arrows, ...end, ...arrowsFrom(node)];
  });
}

function labelOf({ eventType, guard, description }: AnyTransitionDefinition): string {
  const [, what, delay = ""] = /^xstate\.(done|error|after)(?:\.actor)?\.?([^.]*)/.exec(eventType) ?? [];
  const event = what === "after" ? `after the ${wordsOf(delay)}` : (what ?? eventType);
  const guarded =
    description ?? wordsOf(typeof guard === "object" ? guard.type : typeof guard === "string" ? guard : "");
  return [event, guarded && `[${guarded}]`].filter((part) => part !== "").join(" ");
}

/** `standingBy` is shown as "standing by". */
function wordsOf(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function idOf(state: string): string {
  return state.replaceAll("-", "_");
}
