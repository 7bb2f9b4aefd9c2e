// Lists, page by page: a hundred thousand proxies must not be one reply, nor be held in memory at once.
import type { Command } from "commander";
import { given } from "../protocol/given.ts";
import type { Verb } from "../protocol/verbs.ts";
import { readCount } from "./arguments.ts";
import type { Ask } from "./connection.ts";
import { Refused } from "./failure.ts";
import { print, printJson } from "./output.ts";

/** The service's largest page. */
const pageMax = 1000;

export interface Range {
  limit: number;
  all?: true;
  after?: string;
}

export function rangeOptions(command: Command): Command {
  return command
    .option("--limit <n>", "print at most this many", readCount, 100)
    .option("--after <id>", "begin after this id: the `next` of an earlier answer")
    .option("--all", "print all, whatever --limit says");
}

/** The replies to a request for a list, until its end or the limit. */
export async function* pagesOf<Page extends { next?: string }>(
  ask: Ask,
  verb: Verb,
  {
    limit: left = Number.POSITIVE_INFINITY,
    after,
    ...filter
  }: { limit?: number; after?: string | undefined; [filter: string]: unknown },
): AsyncGenerator<Page> {
  do {
    const page = await ask<Page>(verb, { ...filter, limit: Math.min(left, pageMax), ...given({ after }) });
    yield page;
    after = page.next;
    left -= itemsIn(verb, page).length;
  } while (after !== undefined && left > 0);
}

/** A reply has its items under the first word of the verb. */
function itemsIn(verb: Verb, page: object): unknown[] {
  return (page as Record<string, unknown[]>)[verb.replace(/\..*/, "")] ?? []; // The protocol defines the replies.
}

interface List<Item> {
  verb: Verb & `${string}.list`;
  filter: object;
  options: Range & { json?: true };
  /** Prints a page as lines. */
  show: (page: Item[]) => void;
}

/** @param list.arrange chooses and sorts the items. Then the whole list is read before anything is printed. */
export async function printPages<Item>(
  ask: Ask,
  list: List<Item> & { arrange?: ((items: Item[]) => Item[]) | undefined },
): Promise<void> {
  const { verb, filter, options } = list;
  if (list.arrange !== undefined) return printArranged(ask, { ...list, arrange: list.arrange });
  const { json, all, limit, after } = options;
  let printed = 0;
  let next = after;
  let isBegun = false;
  const end = (): void => print(`]${next === undefined ? "" : `,"next":${JSON.stringify(next)}`}}`);
  try {
    for await (const page of pagesOf(ask, verb, { ...filter, after, ...(all ? {} : { limit }) })) {
      const items = itemsIn(verb, page) as Item[];
      if (json) {
        const lead = isBegun ? "" : `{${JSON.stringify(verb.replace(".list", ""))}:[`;
        process.stdout.write(
          lead + items.map((each, i) => (printed + i > 0 ? "," : "") + JSON.stringify(each)).join(""),
        );
      } else list.show(items);
      isBegun = true;
      printed += items.length;
      next = page.next;
    }
  } catch (error) {
    // The output so far is one document, cut where `next` begins. stderr says why it ends there.
    if (json && isBegun) end();
    if (isBegun && error instanceof Refused) error.isTold = true;
    throw error;
  }
  if (json) end();
  else if (next !== undefined) sayCut(printed);
}

async function printArranged<Item>(ask: Ask, list: List<Item> & { arrange: (items: Item[]) => Item[] }): Promise<void> {
  const { verb, filter, options, show, arrange } = list;
  const { json, all, limit, after } = options;
  const items: Item[] = [];
  for await (const page of pagesOf(ask, verb, { ...filter, after })) items.push(...(itemsIn(verb, page) as Item[]));
  const arranged = arrange(items);
  const shown = all ? arranged : arranged.slice(0, limit);
  if (json) return printJson({ [verb.replace(".list", "")]: shown });
  show(shown);
  if (shown.length < arranged.length) sayCut(shown.length);
}

function sayCut(printed: number): void {
  process.stderr.write(`the first ${printed}; there are more (--all, or --limit)\n`);
}
