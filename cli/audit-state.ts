// `remuda audit state`, `remuda audit diff`: the pool as it was at a moment, and the changes between two moments.

import type { Command } from "commander";
import { maskedUrl } from "../lists/address.ts";
import type { ProxyReply } from "../protocol/proxy.ts";
import { refuse } from "../protocol/refusal.ts";
import { Fault } from "../runtime/fault.ts";
import { counted, printable, showInstant } from "../runtime/text.ts";
import { comparedOf, type Difference, differenceOf } from "../services/audit/difference.ts";
import { type Past, stateAt } from "../services/audit/history.ts";
import type { Moment } from "../services/audit/moment.ts";
import type { LedgerSource } from "../services/audit/source.ts";
import { viewLease, viewPool, viewProxy } from "../state-machines/view.ts";
import {
  type AuditOptions,
  type AuditPorts,
  ledgerCommand,
  mustBePast,
  nowOf,
  readMomentOption,
} from "./audit-options.ts";
import { Refused } from "./failure.ts";
import { print, printFields, printJson, showField, Table } from "./output.ts";
import { withProgress } from "./progress.ts";

export function addAuditState(audit: Command, ports: AuditPorts): void {
  ledgerCommand(audit, "state", "show the pool as it was: proxies, leases, policy")
    .option("--at <moment>", "the moment (default: now, or the end of the file)", readMomentOption)
    .option("--proxy <id>", "only this proxy")
    .action(async (options: AuditOptions & { at?: Moment; proxy?: string }) => {
      await ports.withLedger(options, async (source) => {
        const past = await pastOf(source, ports, options, options.at);
        showState(past, options);
      });
    });

  ledgerCommand(audit, "diff", "show the changes between two moments: proxies, policy, leases")
    .requiredOption("--from <moment>", "the earlier moment", readMomentOption)
    .option("--to <moment>", "the later moment (default: now, or the end of the file)", readMomentOption)
    .option("--proxy <id>", "only this proxy")
    .action(async (options: AuditOptions & { from: Moment; to?: Moment; proxy?: string }) => {
      await ports.withLedger(options, async (source) => {
        const before = comparedOf((await pastOf(source, ports, options, options.from)).state);
        const after = comparedOf((await pastOf(source, ports, options, options.to)).state);
        if (before.place.commits > after.place.commits || before.place.at > after.place.at)
          throw new Fault("fix-setup", "--from is later than --to. Swap them.");
        const difference = ofProxy(differenceOf(before, after), options.proxy);
        if (options.json) printJson(difference);
        else showDifference(difference);
      });
    });
}

async function pastOf(
  source: LedgerSource,
  ports: AuditPorts,
  options: AuditOptions,
  at: Moment | undefined,
): Promise<Past> {
  mustBePast(at);
  const checkpoints = ports.checkpoints(options);
  return withProgress({ what: "folding", size: await source.size() }, (onProgress) =>
    stateAt(source, at, { checkpoints, onProgress, now: nowOf(options) }),
  );
}

function showState({ state, mark }: Past, options: AuditOptions & { proxy?: string }): void {
  const place = { at: state.at, commit: mark.n, sequence: mark.sequence };
  if (options.proxy !== undefined) {
    const proxy = state.proxies.get(options.proxy);
    if (proxy === undefined) {
      throw new Refused(refuse("unknown-proxy", `The pool had no proxy ${options.proxy} at ${showInstant(state.at)}.`));
    }
    const view = viewProxy(state, proxy);
    if (options.json) return printJson({ ...place, proxy: view });
    return printFields({ ...place, ...view });
  }
  const proxies = [...state.proxies.values()]
    .map((proxy) => viewProxy(state, proxy))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  const leases = [...state.leases.values()].map((lease) => viewLease(state, lease, state.at));
  if (options.json) return printJson({ ...place, pool: viewPool(state), isOpen: state.opened, proxies, leases });
  print(`${showInstant(state.at)}, after commit ${mark.n}${mark.sequence === 0 ? "" : ` (sequence ${mark.sequence})`}`);
  const counts = Object.entries(state.byState).map(([name, count]) => `${count} ${name}`);
  print(
    `${state.opened ? "open" : "closed"}, policy ${state.policyVersion}, term ${state.term}; ${counts.join(", ")}; ${counted(leases.length, "open lease")}`,
  );
  const table = new Table(["ID", "STATE", "SCORE", "LEASES", "WINDOW", "QUOTA", "UNTIL", "PROXY"]);
  table.print(proxies.map(row));
}

function row(proxy: ProxyReply): (string | number)[] {
  const { id, state, score, openLeases, usesInWindow, usesSinceRest, until, reasons } = proxy;
  const rest = until === undefined ? "" : `${showInstant(until)} (${(reasons ?? []).join(", ")})`;
  return [id, state, score, openLeases, usesInWindow, usesSinceRest, rest, maskedUrl(proxy)];
}

function ofProxy(difference: Difference, id: string | undefined): Difference {
  if (id === undefined) return difference;
  const { added, gone, changed } = difference.proxies;
  const is = (each: string): boolean => each === id;
  return {
    ...difference,
    proxies: { added: added.filter(is), gone: gone.filter(is), changed: changed.filter((each) => is(each.id)) },
  };
}

function showChanged(field: string, value: unknown): string {
  if (typeof value === "number") return showField(field, value);
  return JSON.stringify(value) ?? "–";
}

function showDifference({ from, to, proxies, policy, pool, leases }: Difference): void {
  print(`${showInstant(from.at)} (commit ${from.commits}) to ${showInstant(to.at)} (commit ${to.commits})`);
  const tell = (what: string, changes: Difference["policy"]): void => {
    for (const { field, before, after } of changes) {
      print(printable(`${what} ${field}: ${showChanged(field, before)} → ${showChanged(field, after)}`));
    }
  };
  tell("policy", policy);
  tell("pool", pool);
  for (const id of proxies.added) print(`${id} added`);
  for (const id of proxies.gone) print(`${id} gone`);
  for (const { id, changes } of proxies.changed) tell(id, changes);
  print(
    `leases: ${leases.opened.length} new and open, ${leases.ended.length} ended, ${leases.stillOpen} open at both moments`,
  );
}
