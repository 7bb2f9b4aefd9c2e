// The options and ports that the commands of `remuda audit` share.

import { type Command, InvalidArgumentError } from "commander";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { showInstant } from "../runtime/text.ts";
import type { Checkpoints } from "../services/audit/checkpoint.ts";
import { type Moment, momentForm, readMoment } from "../services/audit/moment.ts";
import type { LedgerSource } from "../services/audit/source.ts";
import { poolCommand } from "./arguments.ts";
import type { OnProgress } from "./progress.ts";

export interface AuditOptions {
  pool: string;
  json?: true;
  file?: string;
  from?: Moment;
  to?: Moment;
}

/** The ports that every audit command uses. */
export interface AuditPorts {
  config: () => Config;
  /** Opens the ledger that the options name, and closes it afterwards. */
  withLedger: <T>(options: AuditOptions, use: (source: LedgerSource) => Promise<T>) => Promise<T>;
  /** The same, with a progress line. @param what `verifying`. */
  readLedger: <T>(
    options: AuditOptions,
    what: string,
    read: (source: LedgerSource, onProgress: OnProgress) => Promise<T>,
  ) => Promise<T>;
  /** The cached states of this pool. A file has none. */
  checkpoints: (options: AuditOptions) => Checkpoints | undefined;
}

/** A command that reads one ledger. */
export function ledgerCommand(audit: Command, usage: string, description: string): Command {
  return poolCommand(audit, usage, description).option(
    "--file <file>",
    "read a sealed file instead of the live ledger",
  );
}

/** A command that reads a range of one ledger. */
export function rangeCommand(audit: Command, usage: string, description: string): Command {
  return ledgerCommand(audit, usage, description)
    .option("--from <moment>", "from this moment (default: the beginning)", readMomentOption)
    .option("--to <moment>", "up to this moment (default: the end)", readMomentOption);
}

/** Clocks may differ by this much. */
const futureMs = 60_000;

/** @throws Fault if the moment is in the future. */
export function mustBePast(moment: Moment | undefined): void {
  if (moment !== undefined && "at" in moment && moment.at > Date.now() + futureMs)
    throw new Fault("fix-setup", `${showInstant(moment.at)} is in the future. Give a past moment.`);
}

/** A live ledger extends to now, whenever its last commit was. A file ends with its last commit. */
export function nowOf({ file }: AuditOptions): number | undefined {
  return file === undefined ? Date.now() : undefined;
}

export function readMomentOption(text: string): Moment {
  const moment = readMoment(text, Date.now());
  if (moment !== undefined) return moment;
  throw new InvalidArgumentError(`It must be ${momentForm}.`);
}
