// A small ledger, and the questions about it.
import { explainMoment, explainProxy } from "../../services/audit/explain/explain.ts";
import { stateAt } from "../../services/audit/history.ts";
import { gather } from "../../services/audit/report/gather.ts";
import type { LedgerSource } from "../../services/audit/source.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { makeLedger, sourceOf } from "./ledgers.ts";

export const ledger = makeLedger(60, { chaos: 30, failures: 25, proxies: 4, names: true, refusals: true });
/** The questions that fold a ledger. */
export const folding: [string, (source: LedgerSource) => Promise<unknown>][] = [
  ["state", (source) => stateAt(source, undefined)],
  ["what-if", (source) => whatIf(source, { policy: {}, waitMs: 0 })],
  ["what-if --from", (source) => whatIf(source, { policy: {}, waitMs: 0, from: { sequence: 70 } })],
  ["what-if --policy", (source) => whatIf(source, { policy: { rate: { limit: 3 } }, waitMs: 5000 })],
  ["report", (source) => gather(source, {})],
  ["explain a proxy", (source) => explainProxy(source, "p_0000000000000001", { at: undefined })],
  ["explain a moment", (source) => explainMoment(source, { sequence: 70 }, { forMs: 60_000 })],
];
/** Undefined if it has an answer. */
export async function faultOf(
  ask: (source: LedgerSource) => Promise<unknown>,
  commits: readonly Buffer[],
): Promise<unknown> {
  try {
    await ask(sourceOf(commits));
    return undefined;
  } catch (error) {
    return error;
  }
}
