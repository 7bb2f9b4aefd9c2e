// Adds lists of proxies to a pool. The lists are read here, so that each unreadable entry is reported with its file,
// place and reason. The others are sent in requests of a bounded size, and the service counts the results. Passwords
// are never shown.

import type { Readable } from "node:stream";
import {
  beginningChars,
  isJsonDocument,
  type ListEntry,
  ListReader,
  lineCharsMax,
  type Place,
  type Reads,
  readList,
  toSend,
} from "../lists/list.ts";
import type { AddReply, ListScheme, ProxyEntry } from "../protocol/proxy.ts";
import { Fault } from "../runtime/fault.ts";
import { printable } from "../runtime/text.ts";
import type { Ask } from "./connection.ts";
import { printError } from "./failure.ts";
import { linesIn, nameOf, openFile, textOf } from "./files.ts";
import { print } from "./output.ts";

const entriesMax = 2000;
/** Half of a request's size limit. */
const bytesMax = 256 * 1024;
/** A JSON document is held in memory, so it has a bound. Lists of lines have none. */
const documentCharsMax = 128 * 1024 * 1024;

export interface List {
  name: string;
  stream: Readable;
}

/** One entry and its result. */
export type Told = Place & {
  file: string;
  /** With its password masked. */
  input: string;
  outcome?: string;
  why?: string;
};
export type Tell = (told: Told) => void;

interface Counts {
  read: number;
  added: number;
  already: number;
  updated: number;
  rejected: number;
}

const none: Counts = { read: 0, added: 0, already: 0, updated: 0, rejected: 0 };

/** Opens all files before anything is sent, so that an error in a later name leaves nothing half done. */
export async function openLists(files: readonly string[]): Promise<List[]> {
  if (files.length === 0 && process.stdin.isTTY) {
    throw new Fault("fix-setup", "no list is given. Name a file, or - to paste a list here (Ctrl-D ends it).");
  }
  const names = files.length === 0 ? ["-"] : files;
  return Promise.all(names.map(async (file) => ({ name: nameOf(file), stream: await openFile(file) })));
}

/** `scheme`: for entries without one. */
export async function addLists(
  ask: Ask,
  lists: readonly List[],
  how: { tell: Tell; summarize: boolean; scheme?: ListScheme | undefined },
): Promise<Counts> {
  const total = { ...none };
  for (const list of lists) {
    const counts = { ...none };
    try {
      await addList(ask, list, { ...how, counts });
    } catch (error) {
      if (how.summarize && counts.read > 0) print(`${list.name} (stopped; added proxies stay): ${summary(counts)}`);
      throw error;
    }
    if (how.summarize) print(`${printable(list.name)}: ${summary(counts)}`);
    for (const each of Object.keys(none) as (keyof Counts)[]) total[each] += counts[each];
  }
  if (how.summarize && lists.length > 1) print(`all: ${summary(total)}`);
  return total;
}

/** One entry: to be sent, or rejected. */
interface Entry {
  at: Place;
  input: string;
  sent?: ProxyEntry;
  why?: string;
}

async function addList(
  ask: Ask,
  list: List,
  { counts, tell, scheme }: { counts: Counts; tell: Tell; scheme?: ListScheme | undefined },
): Promise<void> {
  let batch: Entry[] = [];
  let bytes = 0;
  let isAllHttp = scheme === undefined;
  let sending: Promise<void> = Promise.resolve();
  // One at a time, so that they stay in order. The next is read meanwhile.
  const flush = async (): Promise<void> => {
    await sending;
    showProgress(`${list.name}: ${counts.read} read`);
    sending = addBatch(ask, batch, { file: list.name, counts, tell });
    sending.catch(() => {}); // Awaited later: before the next request, or at the end.
    batch = [];
    bytes = 0;
  };
  try {
    for await (const entries of entriesOf(list, { scheme })) {
      for (const read of entries) {
        const { at, input } = read;
        const entry = read.ok ? { at, input, sent: toSend(read) } : { at, input, why: read.why };
        isAllHttp &&= !read.ok || read.proxy.scheme === "http";
        batch.push(entry);
        if (read.ok) bytes += Buffer.byteLength(JSON.stringify(entry.sent));
        if (batch.length >= entriesMax || bytes >= bytesMax) await flush();
      }
    }
    await flush();
  } finally {
    await sending.catch(() => {}); // Sent entries are counted, whatever failed.
  }
  await sending;
  showProgress("");
  if (isAllHttp && /socks/i.test(list.name) && counts.read > 0)
    printError(
      `${printable(list.name)} contains no scheme, so its proxies are http. For SOCKS proxies use --scheme socks5.`,
    );
}

/** Yields many at a time, because awaiting each entry would take longer than reading it. */
async function* entriesOf({ stream, name }: List, how: Reads): AsyncGenerator<Iterable<ListEntry>> {
  const pieces = textOf(stream, name);
  let beginning = "";
  while (beginning.length < beginningChars && !/[\r\n]/.test(beginning.trimStart())) {
    const { value, done } = await pieces.next();
    if (done) break;
    beginning += value;
  }
  if (isJsonDocument(beginning)) {
    yield readList(await whole(beginning, pieces, name), how);
    return;
  }
  const reader = new ListReader(how);
  for await (const lines of linesIn(chained(beginning, pieces), lineCharsMax + 1))
    yield lines.flatMap((line) => reader.read(line));
  yield reader.end();
}

async function whole(beginning: string, rest: AsyncIterable<string>, name: string): Promise<string> {
  const pieces = [beginning];
  let chars = beginning.length;
  for await (const piece of rest) {
    pieces.push(piece);
    chars += piece.length;
    if (chars <= documentCharsMax) continue;
    const advice = "Write it with one object per line, as jq -c '.[]' does.";
    throw new Fault("fix-setup", `${name} is a JSON document of more than ${documentCharsMax >> 20} MB. ${advice}`);
  }
  return pieces.join("");
}

async function* chained(beginning: string, rest: AsyncIterable<string>): AsyncGenerator<string> {
  yield beginning;
  yield* rest;
}

async function addBatch(
  ask: Ask,
  batch: readonly Entry[],
  { file, counts, tell }: { file: string; counts: Counts; tell: Tell },
): Promise<void> {
  const sent = batch.filter((entry) => entry.sent !== undefined);
  const body = { proxies: sent.map((entry) => entry.sent) };
  const reply = sent.length === 0 ? nothing : await ask<AddReply>("proxies.add", body);
  // A service of another version may accept fewer forms than this reader.
  for (const { line: position, why } of reply.rejected) Object.assign(sent[position - 1] ?? {}, { why });
  counts.read += batch.length;
  counts.added += reply.added;
  counts.already += reply.already;
  counts.updated += reply.updated;
  counts.rejected += batch.length - sent.length + reply.rejectedCount;
  const outcome = outcomeOfAll(reply, sent.length);
  for (const { at, input, why } of batch) tell({ file, ...at, input, ...(why === undefined ? { outcome } : { why }) });
}

const nothing: AddReply = { added: 0, already: 0, updated: 0, rejected: [], rejectedCount: 0 };

/** The service only counts the results. So the result of an entry is known only if all had the same. */
function outcomeOfAll({ added, already, updated }: AddReply, sent: number): string {
  if (added === sent) return "added";
  if (already === sent) return "already there";
  return updated === sent ? "updated" : "in the pool";
}

function summary({ read, added, already, updated, rejected }: Counts): string {
  return `${read} read: ${added} added, ${already} already there, ${updated} updated, ${rejected} rejected`;
}

/** On a terminal: overwrites one line. "" removes it. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${printable(text)}`);
}
