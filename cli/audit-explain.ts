// `remuda audit explain`: why a proxy was in its state, why a lease got its proxy, why a request got none.
import type { Command } from "commander";
import { isRefusal } from "../protocol/refusal.ts";
import { Fault } from "../runtime/fault.ts";
import { explainLease, explainMoment, explainProxy } from "../services/audit/explain/explain.ts";
import { type Moment, momentForm, readMoment, spanNamed } from "../services/audit/moment.ts";
import {
  type AuditOptions,
  type AuditPorts,
  ledgerCommand,
  mustBePast,
  nowOf,
  readMomentOption,
} from "./audit-options.ts";
import { Refused } from "./failure.ts";
import { print, printJson } from "./output.ts";

export function addAuditExplain(audit: Command, { readLedger, checkpoints }: AuditPorts): void {
  ledgerCommand(audit, "explain <what>", "explain a proxy (p_…), a lease (l_…) or a moment (14:03) in sentences")
    .allowUnknownOption() // -5m is an instant, not an option.
    .option("--at <moment>", "for a proxy: the moment to explain (default: now)", readMomentOption)
    .action(async (what: string, options: AuditOptions & { at?: Moment }) => {
      mustBePast(options.at);
      const explanation = await readLedger(options, "reading", async (source, onProgress) => {
        const asked = { at: options.at, checkpoints: checkpoints(options), onProgress, now: nowOf(options) };
        if (what.startsWith("p_")) return explainProxy(source, what, asked);
        if (what.startsWith("l_")) return explainLease(source, what, asked);
        const moment = readMoment(what, Date.now());
        mustBePast(moment);
        if (moment !== undefined) return explainMoment(source, moment, { ...asked, forMs: spanNamed(what) });
        throw new Fault("fix-setup", `<what> is ${what}. Give a proxy's id, a lease's id, or ${momentForm}.`);
      });
      if (isRefusal(explanation)) throw new Refused(explanation);
      if (options.json) printJson(explanation);
      else for (const line of explanation.story) print(line);
    });
}
