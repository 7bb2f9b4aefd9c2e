// How a failed command ends: one sentence on stderr, and an exit code (1 refused, 2 wrong usage, 3 no service). Only a
// bug of Remuda shows a stack trace.
import { CommanderError } from "commander";
import { type Refusal, refuse } from "../protocol/refusal.ts";
import { Fault } from "../runtime/fault.ts";
import { nameCounts, printable } from "../runtime/text.ts";
import { showDuration } from "./output.ts";

/** Elsewhere a refusal is a value. Here it ends the command, so it is thrown. */
export class Refused extends Error {
  readonly refusal: Refusal;
  /** If true, its JSON is not printed, because a document was already printed. */
  isTold = false;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.name = "Refused";
    this.refusal = refusal;
  }
}

/** For a command that reads the ledger itself. */
export function noLedger(pool: string): Refusal {
  const message = `The pool ${pool} has no ledger. Open it with "npx remuda pool open --pool ${pool}".`;
  return refuse("unknown-pool", message);
}

/** Prints the failure on stderr. Returns the exit code. Rethrows bugs. */
export function endWith(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // The library has already printed it.
  if (error instanceof Refused) {
    printError(refusalSentence(error.refusal));
    return 1;
  }
  if (!(error instanceof Fault)) throw error;
  // Further lines quote another program, such as a log.
  const [sentence = "", ...words] = error.message.split("\n");
  printError(sentence);
  for (const line of words) process.stderr.write(`${printable(line)}\n`);
  return error.code === "retry-later" ? 3 : error.code === "in-use" || error.code === "stop-damaged" ? 1 : 2;
}

export function printError(sentence: string): void {
  process.stderr.write(`remuda: ${printable(sentence)}\n`);
}

/** `pool-exhausted: No proxy can be leased now … (rate 3, rest 2); retry in 3.2 s` */
function refusalSentence({ code, message, limitedBy, retryAfterMs }: Refusal): string {
  const held = nameCounts(limitedBy ?? {});
  const by = held === "" ? "" : ` (held back by ${held})`;
  const retry = retryAfterMs === undefined ? "" : `; retry in ${showDuration(retryAfterMs)}`;
  const sentence = by === "" && retry === "" ? message : message.replace(/\.$/, "");
  return `${code}: ${sentence}${by}${retry}`;
}
