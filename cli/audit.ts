// `remuda audit …`: answers from a ledger alone. It is read with an auditor's rights, or from a sealed file, which
// needs no running service.
import { join } from "node:path";
import type { Command } from "commander";
import { Archive } from "../runtime/archive/archive.ts";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { checkpointsIn } from "../services/audit/checkpoint.ts";
import { isReversed } from "../services/audit/moment.ts";
import type { LedgerSource } from "../services/audit/source.ts";
import { findLedger } from "./address.ts";
import type { AuditPorts } from "./audit-options.ts";
import { addCommands } from "./modules.ts";
import { withProgress } from "./progress.ts";

/** @param word the command after `audit`. */
export async function addAudit(audit: Command, config: () => Config, word: string | undefined): Promise<void> {
  const ports: AuditPorts = {
    config,
    async withLedger(options, use) {
      const { from, to } = options;
      if (from !== undefined && to !== undefined && isReversed(from, to))
        throw new Fault("fix-setup", "--from is later than --to. Swap them.");
      const source = await openSource(config, options);
      try {
        return await use(source);
      } finally {
        await source.close();
      }
    },
    readLedger: (options, what, read) =>
      ports.withLedger(options, async (source) =>
        withProgress({ what, size: await source.size() }, (onProgress) => read(source, onProgress)),
      ),
    checkpoints: ({ pool, file }) =>
      file === undefined ? checkpointsIn(join(config().dataDir, "audit", pool)) : undefined,
  };
  await addCommands(
    [
      [["verify"], async () => (await import("./audit-verify.ts")).addAuditVerify(audit, ports)],
      [["state", "diff"], async () => (await import("./audit-state.ts")).addAuditState(audit, ports)],
      [["events"], async () => (await import("./audit-events.ts")).addAuditEvents(audit, ports)],
      [["explain"], async () => (await import("./audit-explain.ts")).addAuditExplain(audit, ports)],
      [["export"], async () => (await import("./audit-export.ts")).addAuditExport(audit, ports)],
      [["sql"], async () => (await import("./audit-export.ts")).addAuditSql(audit, ports)],
      [["report"], async () => (await import("./audit-report.ts")).addAuditReport(audit, ports)],
      [["what-if"], async () => (await import("./audit-what-if.ts")).addAuditWhatIf(audit, ports)],
      [["seal", "key", "head"], async () => (await import("./audit-seal.ts")).addAuditSeal(audit, ports)],
      [["users"], async () => (await import("./audit-users.ts")).addAuditUsers(audit, config)],
    ],
    word,
  );
}

async function openSource(
  config: () => Config,
  { file, pool }: { file?: string; pool: string },
): Promise<LedgerSource> {
  if (file !== undefined) return (await import("../services/audit/file-source.ts")).openFileSource(file);
  const { natsUrl, tlsCa, archiveFolder } = findLedger(config());
  const { openStreamSource } = await import("../services/audit/stream-source.ts");
  return openStreamSource(natsUrl, pool, { caFile: tlsCa, archive: new Archive(archiveFolder) });
}
