// Deliberate faults of exits: what is counted where, when proxies share them, are retired, or move.
import { core, type Fault } from "./edit.ts";

export const exitFaults: Record<string, Fault> = {
  "exit-ignored": {
    what: "limits are kept by proxy, though several share an exit",
    edits: [
      core(
        "fold/account.ts",
        'state.rules.policy.limitBy === "exit" ? exit : proxyId',
        "exit === proxyId ? exit : proxyId",
      ),
    ],
    by: ["rate"],
    quick: 2,
  },
  "retire-forgets-window": {
    what: "what a proxy has used is forgotten when it is retired",
    edits: [
      core(
        "fold/proxy.ts",
        "  proxy.retiredAt = state.at;\n",
        "  proxy.retiredAt = state.at;\n  proxy.account.slots.prune(Infinity);\n",
      ),
    ],
    by: ["rate"],
    quick: 2,
  },
  "exit-move-forgets": {
    what: "what was granted through an exit is forgotten there when the last proxy of it moves",
    edits: [core("fold/account.ts", "of [state.exitFor(old.key), account]) {", "of [account]) {")],
    by: ["rate"],
    quick: 6,
  },
  "exit-move-counts-nothing": {
    what: "a proxy that was alone at its exit takes nothing of it along",
    edits: [core("fold/account.ts", "of [state.exitFor(old.key), account]) {", "of [state.exitFor(old.key)]) {")],
    by: ["rate"],
    quick: 2,
  },
  "exit-move-counts-twice": {
    what: "what is counted at an exit already is counted again when a proxy comes back",
    edits: [core("fold/account.ts", "if (exit.moved.past.some((known) => known.of === of)) continue;", "")],
    by: ["refusal", "waiting"],
    quick: 2,
  },
  "exit-rest-ends-quota-again": {
    what: "who joins in the rest of its exit later ends the usage quota once more, with what has come to be counted there meanwhile",
    edits: [
      core(
        "fold/proxy.ts",
        "  if (event.exitUntil !== undefined) {\n",
        '  if (caused.includes("usage")) endUsageQuota(state, proxy.account);\n  if (event.exitUntil !== undefined) {\n',
      ),
    ],
    quick: 161,
  },
};
