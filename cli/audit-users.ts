// `remuda audit users`: changes of users, and refused logins, from the log in the data directory.
import { type Command, InvalidArgumentError } from "commander";
import type { Config } from "../runtime/config.ts";
import { printable, showInstant } from "../runtime/text.ts";
import { changeTypes, readUsersLog, type UsersLine } from "../runtime/users-log.ts";
import type { Moment } from "../services/audit/moment.ts";
import { readMomentOption } from "./audit-options.ts";
import { printError } from "./failure.ts";
import { print, printJson } from "./output.ts";
import { shownQuota } from "./user-quota.ts";

const types = [...changeTypes, "LoginRefused"] as const;
const typeWidth = Math.max(...types.map((type) => type.length));

interface UsersOptions {
  by?: string[];
  user?: string[];
  type?: string[];
  since?: number;
  from?: number;
  to?: number;
  json?: true;
}

export function addAuditUsers(audit: Command, config: () => Config): void {
  audit
    .command("users")
    .description("print changes of users with their authors, and refused logins")
    .option("--by <name...>", "only changes by these accounts of this machine, and logins refused under these names")
    .option("--user <name...>", "only about these users")
    .option("--type <type...>", "only lines of these types, such as LoginRefused", readType)
    .option("--from <time>", "from this time (default: the beginning)", readTime)
    .option("--since <time>", "the same as --from", readTime)
    .option("--to <time>", "up to this time (default: the end)", readTime)
    .option("--json", "print one JSON object per line")
    .action((options: UsersOptions) => {
      const { lines, unreadable } = readUsersLog(config().dataDir);
      for (const line of lines.filter((each) => isAsked(each, options))) {
        if (options.json) printJson(line);
        else print(shown(line));
      }
      if (unreadable > 0) printError(`${unreadable} lines of the log cannot be read. They are left out.`);
    });
}

function isAsked(line: UsersLine, { by, user, type, since, from = since, to }: UsersOptions): boolean {
  const did = line.type === "LoginRefused" ? line.user : line.by;
  return (
    (by === undefined || (did !== undefined && by.includes(did))) &&
    (user === undefined || (line.user !== undefined && user.includes(line.user))) &&
    (type === undefined || type.includes(line.type)) &&
    (from === undefined || line.at >= from) &&
    (to === undefined || line.at <= to)
  );
}

function shown(line: UsersLine): string {
  return printable(`${showInstant(line.at)}  ${line.type.padEnd(typeWidth)}  ${said(line)}`);
}

function said(line: UsersLine): string {
  if (line.type === "LoginRefused") {
    const { over, user, host, count, since } = line;
    const again = count === undefined || since === undefined ? "" : `, ${count} times since ${showInstant(since)}`;
    return `${user ?? "no name"} over ${over} from ${host}${again}`;
  }
  const { user, role, pools, quota, by } = line;
  const what = [role, pools === undefined ? undefined : `in ${pools.join(", ")}`, shownQuota(quota) || undefined];
  return [user, ...what.filter((part) => part !== undefined), `by ${by}`].join(" ");
}

function readTime(text: string): number {
  const moment: Moment = readMomentOption(text);
  if ("at" in moment) return moment.at;
  throw new InvalidArgumentError("It must be a time, not a sequence: this log is not part of a ledger.");
}

function readType(text: string, earlier: string[] = []): string[] {
  if (types.some((type) => type === text)) return [...earlier, text];
  throw new InvalidArgumentError(`It must be one of: ${types.join(", ")}.`);
}
