// `remuda audit report`: the pool's past as one page, to be read or passed on.
import { rename, rm, writeFile } from "node:fs/promises";
import type { Command } from "commander";
import { Fault } from "../runtime/fault.ts";
import type { Moment } from "../services/audit/moment.ts";
import { gather } from "../services/audit/report/gather.ts";
import { pageOf } from "../services/audit/report/page.ts";
import { type AuditOptions, type AuditPorts, ledgerCommand, readMomentOption } from "./audit-options.ts";
import { print, printJson } from "./output.ts";

type ReportOptions = AuditOptions & { html: string; from?: Moment; to?: Moment };

export function addAuditReport(audit: Command, { readLedger }: AuditPorts): void {
  ledgerCommand(
    audit,
    "report",
    "states, leases, outcomes, rests and maxima over time, as one HTML page without a network",
  )
    .requiredOption("--html <file>", "to be written")
    .option("--from <moment>", "from here on", readMomentOption)
    .option("--to <moment>", "up to here", readMomentOption)
    .action(async (options: ReportOptions) => {
      const { html, from, to } = options;
      const report = await readLedger(options, "reading", (source, onProgress) =>
        gather(source, { from, to, onProgress }),
      );
      const page = pageOf(report);
      const aside = `${html}.part`;
      try {
        await writeFile(aside, page, { mode: 0o600 });
        await rename(aside, html);
      } catch (cause) {
        await rm(aside, { force: true });
        throw new Fault("fix-setup", `${html} cannot be written (${(cause as NodeJS.ErrnoException).code}).`, {
          cause,
        });
      }
      const { commits, findings } = report;
      if (options.json) printJson({ file: html, commits: commits.count, findings: findings.count });
      else print(`${html}: ${commits.count} commits, ${findings.count === 0 ? "nothing" : findings.count} wrong`);
    });
}
