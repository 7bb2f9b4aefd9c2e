// Adds lists of proxies to a pool. The lists are read here, so that each unreadable entry is reported with its file,
// place and reason. Readable entries are sent in requests of a bounded size, and the service counts the results. Adding
// a list again changes nothing. Passwords are sent, and never shown.
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
import type { Ask } from "./connection.ts";
import { complain } from "./failure.ts";
import { linesIn, nameOf, openFile, textOf } from "./files.ts";
import { print, printable } from "./output.ts";

const entriesMax = 2000;
/** Half of a request's size limit. */
const bytesMax = 256 * 1024;
/** A JSON document is read whole, so it has a bound. Lines, CSV and JSON lines have none. */
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

/** Opens all files before anything is sent, so a typing error in the third name leaves nothing half done. */
export async function openLists(files: readonly string[]): Promise<List[]> {
  if (files.length === 0 && process.stdin.isTTY) {
    throw new Fault("fix-setup", "no list: name a file, or - to type or paste one here (Ctrl-D ends it).");
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
  let total = none;
  for (const list of lists) {
    const counts = { ...none };
    try {
      await addList(ask, list, { ...how, counts });
    } catch (error) {
      if (how.summarize && counts.read > 0) print(`${list.name} (stopped; what is added stays): ${summary(counts)}`);
      throw error;
    }
    if (how.summarize) print(`${printable(list.name)}: ${summary(counts)}`);
    total = sum(total, counts);
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
    sending.catch(() => {}); // It is awaited before the next one, or at the end.
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
    complain(
      `${printable(list.name)} names no scheme in it, so its proxies are http (--scheme socks5 if they are SOCKS).`,
    );
}

/** Many at a time: waiting for each would cost more than reading it. */
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
    const advice = "write it with one object per line, as jq -c '.[]' does";
    throw new Fault("fix-setup", `${name} is a JSON document of more than ${documentCharsMax >> 20} MB; ${advice}.`);
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
  // A service of another version may accept fewer forms than we do.
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

/**
 * The service tells how many entries had each result, not which. Only if all had the same result is it known for each.
 */
function outcomeOfAll({ added, already, updated }: AddReply, sent: number): string {
  if (added === sent) return "added";
  if (already === sent) return "already there";
  return updated === sent ? "updated" : "in the pool";
}

function summary({ read, added, already, updated, rejected }: Counts): string {
  return `${read} read: ${added} added, ${already} already there, ${updated} updated, ${rejected} rejected`;
}

function sum(a: Counts, b: Counts): Counts {
  return {
    read: a.read + b.read,
    added: a.added + b.added,
    already: a.already + b.already,
    updated: a.updated + b.updated,
    rejected: a.rejected + b.rejected,
  };
}

/** On a terminal, one line that is overwritten. "" removes it. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${printable(text)}`);
}
