// Lists, page by page: a hundred thousand proxies must not be one reply, nor be held in memory at once.
import type { Command } from "commander";
import type { Verb } from "../protocol/verbs.ts";
import { readCount } from "./arguments.ts";
import type { Ask } from "./connection.ts";
import { Refused } from "./failure.ts";
import { print } from "./output.ts";

/** The service's largest page. */
const pageMax = 1000;

export interface Range {
  limit: number;
  all?: true;
  after?: string;
}

export function rangeOptions(command: Command): Command {
  return command
    .option("--limit <n>", "at most so many", readCount, 100)
    .option("--after <id>", "only those after this one, as `next` of an earlier answer")
    .option("--all", "all, whatever the limit");
}

/** @param list.show prints a page as lines. */
export async function printPages<Item>(
  ask: Ask,
  list: {
    verb: Verb & `${string}.list`;
    filter: object;
    options: Range & { json?: true };
    show: (page: Item[]) => void;
  },
): Promise<void> {
  const { verb, options } = list;
  const { json } = options;
  const key = verb.replace(".list", ""); // A reply has its items under this key.
  let left = options.all ? Number.POSITIVE_INFINITY : options.limit;
  let printed = 0;
  let { after } = options;
  let isBegun = false;
  const end = (): void => print(`]${after === undefined ? "" : `,"next":${JSON.stringify(after)}`}}`);
  try {
    do {
      const body = { ...list.filter, limit: Math.min(left, pageMax), ...(after === undefined ? {} : { after }) };
      const reply = await ask<Record<string, unknown>>(verb, body);
      const page = reply[key] as Item[]; // The protocol defines the reply of this verb.
      const items = (): string => page.map((item, i) => (printed + i > 0 ? "," : "") + JSON.stringify(item)).join("");
      if (json) process.stdout.write((isBegun ? "" : `{${JSON.stringify(key)}:[`) + items());
      else list.show(page);
      isBegun = true;
      printed += page.length;
      left -= page.length;
      after = reply["next"] as string | undefined;
    } while (after !== undefined && left > 0);
  } catch (error) {
    // The output so far is one document, cut where `next` begins. stderr says why it ends there.
    if (json && isBegun) end();
    if (isBegun && error instanceof Refused) error.isTold = true;
    throw error;
  }
  if (json) end();
  else if (after !== undefined) process.stderr.write(`the first ${printed}; there are more (--all, or --limit)\n`);
}
