// `remuda audit …`: answers from a ledger alone. It is read with an auditor's rights, or from a sealed file, which
// needs no running service.
import { join } from "node:path";
import type { Command } from "commander";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { checkpointsIn } from "../services/audit/checkpoint.ts";
import { openFileSource } from "../services/audit/file-source.ts";
import { isReversed } from "../services/audit/moment.ts";
import type { LedgerSource } from "../services/audit/source.ts";
import { openStreamSource } from "../services/audit/stream-source.ts";
import { findLedger } from "./address.ts";
import { addAuditEvents } from "./audit-events.ts";
import { addAuditExplain } from "./audit-explain.ts";
import { addAuditExport, addAuditSql } from "./audit-export.ts";
import type { AuditPorts } from "./audit-options.ts";
import { addAuditReport } from "./audit-report.ts";
import { addAuditSeal } from "./audit-seal.ts";
import { addAuditState } from "./audit-state.ts";
import { addAuditUsers } from "./audit-users.ts";
import { addAuditVerify } from "./audit-verify.ts";
import { addAuditWhatIf } from "./audit-what-if.ts";
import { withProgress } from "./progress.ts";

export function addAudit(audit: Command, config: () => Config): void {
  const ports: AuditPorts = {
    config,
    async withLedger(options, use) {
      const { from, to } = options;
      if (from !== undefined && to !== undefined && isReversed(from, to))
        throw new Fault("fix-setup", "--from is later than --to. Swap them.");
      const source =
        options.file === undefined ? await openStream(config(), options.pool) : await openFileSource(options.file);
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
  addAuditVerify(audit, ports);
  addAuditState(audit, ports);
  addAuditEvents(audit, ports);
  addAuditExplain(audit, ports);
  addAuditExport(audit, ports);
  addAuditSql(audit, ports);
  addAuditReport(audit, ports);
  addAuditWhatIf(audit, ports);
  addAuditSeal(audit, ports);
  addAuditUsers(audit, config);
}

function openStream(config: Config, pool: string): Promise<LedgerSource> {
  const { natsUrl, tlsCa, archive } = findLedger(config);
  return openStreamSource(natsUrl, pool, { caFile: tlsCa, archive });
}
