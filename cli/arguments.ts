// The arguments of the command line. An invalid form is wrong usage (exit code 2). The service checks bounds.
import { isIP } from "node:net";
import { type Command, InvalidArgumentError, Option } from "commander";
import { poolNamePattern } from "../events/words.ts";

/** The options of every command that calls the service. */
export interface Asked {
  pool: string;
  json?: true;
}

/** A command for one pool. */
export function poolCommand(parent: Command, usage: string, description: string): Command {
  return parent
    .command(usage)
    .description(description)
    .addOption(new Option("--pool <name>", "the pool").argParser(readPoolName).default("default"))
    .option("--json", "print JSON");
}

export function readPoolName(text: string): string {
  if (poolNamePattern.test(text)) return text;
  throw new InvalidArgumentError(
    "It must be lower-case letters, digits and dashes, at most 63, and not begin with a dash.",
  );
}

/** The name by which other machines reach this one, for their URLs. */
export function readHostName(text: string): string {
  if (isIP(text) !== 0 || /^(?![\d.]+$)[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/i.test(text)) return text;
  throw new InvalidArgumentError("It must be a host name or an address, without a scheme or port.");
}

export const durationForm = "such as 500ms, 90s, 10m, 2h or 1d";
const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** In milliseconds. A unit is required, because 90 could mean seconds or milliseconds. */
export function readDuration(text: string): number {
  const [, amount, unit] = /^(\d{1,12}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(text) ?? [];
  if (amount === undefined || unit === undefined) {
    throw new InvalidArgumentError(`It must be a number with a unit, ${durationForm}.`);
  }
  const ms = Math.round(Number(amount) * unitMs[unit as keyof typeof unitMs]); // The unit is one of those in the expression.
  if (Number.isSafeInteger(ms)) return ms;
  throw new InvalidArgumentError("The duration is too long.");
}

export function readCount(text: string): number {
  const count = Number(text);
  // Digits only: Number() alone would also read "0x10", "1e3" and " 1 ".
  if (/^\d{1,15}$/.test(text) && count >= 1) return count;
  throw new InvalidArgumentError("It must be a whole number of at least 1.");
}

export function readCountOrNone(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a whole number of at least 0.");
}

export function readLabel(text: string, earlier: Record<string, string> = {}): Record<string, string> {
  const equals = text.indexOf("=");
  if (equals < 1) throw new InvalidArgumentError("It must be name=value, such as country=US.");
  return { ...earlier, [text.slice(0, equals)]: text.slice(equals + 1) };
}
