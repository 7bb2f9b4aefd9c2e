// `remuda audit …`: questions to a pool's ledger, answered from the ledger alone. Read with an auditor's rights, or from a
// sealed file, for which nothing needs to run.
import { join } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { type Checkpoints, checkpointsIn } from "../services/audit/checkpoint.ts";
import { openFileSource } from "../services/audit/file-source.ts";
import { isReversed, type Moment, momentForm, readMoment } from "../services/audit/moment.ts";
import type { LedgerSource } from "../services/audit/source.ts";
import { openStreamSource } from "../services/audit/stream-source.ts";
import { findLedger } from "./address.ts";
import { poolCommand } from "./arguments.ts";
import { addAuditEvents } from "./audit-events.ts";
import { addAuditExplain } from "./audit-explain.ts";
import { addAuditExport, addAuditSql } from "./audit-export.ts";
import { addAuditReport } from "./audit-report.ts";
import { addAuditSeal } from "./audit-seal.ts";
import { addAuditState } from "./audit-state.ts";
import { addAuditVerify } from "./audit-verify.ts";
import { addAuditWhatIf } from "./audit-what-if.ts";
import { showInstant } from "./output.ts";

export interface AuditOptions {
  pool: string;
  json?: true;
  file?: string;
  from?: Moment;
  to?: Moment;
}

/** What every command of the audit works with. */
export interface AuditPorts {
  config: () => Config;
  /** Opens the ledger that the options name, and closes it afterwards. */
  withLedger: <T>(options: AuditOptions, use: (source: LedgerSource) => Promise<T>) => Promise<T>;
  /** Where the audit keeps states of this pool for itself. Of a file: nowhere. */
  checkpoints: (options: AuditOptions) => Checkpoints | undefined;
}

export function addAudit(audit: Command, config: () => Config): void {
  const ports: AuditPorts = {
    config,
    async withLedger(options, use) {
      const { from, to } = options;
      if (from !== undefined && to !== undefined && isReversed(from, to))
        throw new Fault("fix-setup", "--from is later than --to.");
      const source =
        options.file === undefined ? await openStream(config(), options.pool) : await openFileSource(options.file);
      try {
        return await use(source);
      } finally {
        await source.close();
      }
    },
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
}

function openStream(config: Config, pool: string): Promise<LedgerSource> {
  const { natsUrl, tlsCa } = findLedger(config);
  return openStreamSource(natsUrl, pool, { caFile: tlsCa });
}

/** A command that reads one ledger. */
export function ledgerCommand(audit: Command, usage: string, description: string): Command {
  return poolCommand(audit, usage, description).option(
    "--file <file>",
    "a sealed file, in place of the running ledger",
  );
}

/** Clocks may be apart by so much. */
const futureMs = 60_000;

/** @throws Fault where nothing can be known of it yet. */
export function mustHaveBeen(moment: Moment | undefined): void {
  if (moment !== undefined && "at" in moment && moment.at > Date.now() + futureMs)
    throw new Fault("fix-setup", `${showInstant(moment.at)} is still to come.`);
}

/** A ledger that runs goes on to now, though nothing may have been committed for a while; a file ends where it ends. */
export function nowOf({ file }: AuditOptions): number | undefined {
  return file === undefined ? Date.now() : undefined;
}

export function readMomentOption(text: string): Moment {
  const moment = readMoment(text, Date.now());
  if (moment !== undefined) return moment;
  throw new InvalidArgumentError(`It must be ${momentForm}.`);
}
