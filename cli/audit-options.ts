// The options and ports that the commands of `remuda audit` share.
import { type Command, InvalidArgumentError } from "commander";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import type { Checkpoints } from "../services/audit/checkpoint.ts";
import { type Moment, momentForm, readMoment } from "../services/audit/moment.ts";
import type { LedgerSource } from "../services/audit/source.ts";
import { poolCommand } from "./arguments.ts";
import { showInstant } from "./output.ts";
import type { OnProgress } from "./progress.ts";

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
  /** The same for what reads all of it, with its progress. @param what `verifying`. */
  readLedger: <T>(
    options: AuditOptions,
    what: string,
    read: (source: LedgerSource, onProgress: OnProgress) => Promise<T>,
  ) => Promise<T>;
  /** Where the audit keeps states of this pool for itself. Of a file: nowhere. */
  checkpoints: (options: AuditOptions) => Checkpoints | undefined;
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
