// Deliberate faults in the counts of exits: when proxies share them, are retired, or move.
import { core, type Fault } from "./edit.ts";

export const exitFaults: Record<string, Fault> = {
  "count-shares-exit": {
    what: "several leases of one request may have the same exit",
    edits: [
      core("decide/lease.ts", "      able?.bar(another.lease.exit);\n", ""),
      core("decide/lease.ts", "  for (const { exit } of leases) able?.bar(exit);\n", ""),
    ],
    by: ["answer", "audit"],
    quick: 6,
  },
  "count-one-too-few": {
    what: "a request for several leases gets one fewer than could be had",
    edits: [core("decide/lease.ts", "for (const leaseId of ids) {", "for (const leaseId of ids.slice(1)) {")],
    by: ["refusal"],
    quick: 1,
  },
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
    what: "the uses of a proxy are forgotten when it is retired",
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
    what: "the uses granted through an exit are forgotten there when its last proxy moves",
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
    what: "uses that an exit already counts are counted again when a proxy comes back",
    edits: [core("fold/account.ts", "if (exit.moved.past.some((known) => known.of === of)) continue;", "")],
    by: ["refusal", "waiting"],
    quick: 2,
  },
  "exit-rest-ends-quota-again": {
    what: "a proxy that joins the rest of its exit later resets the usage quota once more, with the uses counted meanwhile",
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
