// `remuda audit report`: the pool's past as one page.
import type { Command } from "commander";
import { writeWhole } from "../runtime/whole-file.ts";
import { gather } from "../services/audit/report/gather.ts";
import { pageOf } from "../services/audit/report/page.ts";
import { type AuditOptions, type AuditPorts, rangeCommand } from "./audit-options.ts";
import { print, printJson } from "./output.ts";

export function addAuditReport(audit: Command, { readLedger }: AuditPorts): void {
  const what = "write one HTML page, which works offline: states, leases, outcomes, rests and maxima over time";
  rangeCommand(audit, "report", what)
    .requiredOption("--html <file>", "the file to write")
    .option("--by <user...>", "list only the administrative acts of these users")
    .action(async (options: AuditOptions & { html: string; by?: string[] }) => {
      const { html, from, to, by } = options;
      const report = await readLedger(options, "reading", (source, onProgress) =>
        gather(source, { from, to, by, onProgress }),
      );
      await writeWhole(html, (file) => file.writeFile(pageOf(report)));
      const { commits, findings } = report;
      if (options.json) printJson({ file: html, commits: commits.count, findings: findings.count });
      else print(`${html}: ${commits.count} commits, ${findings.count === 0 ? "no" : findings.count} findings`);
    });
}
