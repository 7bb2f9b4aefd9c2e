// Lists of proxies, as people have them, added to a pool. Lines are read here, so that each that cannot be read is
// named with its file, number and reason; what can be is sent in requests of a bounded size, and the service counts.
// Adding a list again changes nothing. Passwords are sent, and never shown.
import type { Readable } from "node:stream";
import type { AddReply } from "../events/proxy.ts";
import { type ProxyAddress, parseProxyLine, proxyUrl } from "../events/proxy-line.ts";
import { Fault } from "../runtime/fault.ts";
import type { Ask } from "./connection.ts";
import { linesOf, nameOf, openFile } from "./files.ts";
import { print, printable } from "./output.ts";

const entriesMax = 2000;
/** Half of what a request may have. */
const bytesMax = 256 * 1024;

export interface List {
  name: string;
  stream: Readable;
}

/** One entry of a line and what became of it. */
export interface Told {
  file: string;
  line: number;
  /** Its password masked. */
  input: string;
  outcome?: string;
  why?: string;
}
export type Tell = (told: Told) => void;

interface Counts {
  read: number;
  added: number;
  already: number;
  updated: number;
  rejected: number;
}

const none: Counts = { read: 0, added: 0, already: 0, updated: 0, rejected: 0 };

/** All of them, before anything is sent: a slip in the third name leaves nothing half done. */
export async function openLists(files: readonly string[]): Promise<List[]> {
  if (files.length === 0 && process.stdin.isTTY) {
    throw new Fault("fix-setup", "no list: name a file, or - to type or paste one here (Ctrl-D ends it).");
  }
  const names = files.length === 0 ? ["-"] : files;
  return Promise.all(names.map(async (file) => ({ name: nameOf(file), stream: await openFile(file) })));
}

export async function addLists(
  ask: Ask,
  lists: readonly List[],
  how: { tell: Tell; summarize: boolean },
): Promise<Counts> {
  let total = none;
  for (const list of lists) {
    const counts = { ...none };
    try {
      await addList(ask, list, { counts, tell: how.tell });
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

/** One entry of a line: to be sent, or rejected. */
interface Entry {
  line: number;
  input: string;
  sent?: string | { url: string; labels: Record<string, string> };
  why?: string;
}

async function addList(ask: Ask, list: List, { counts, tell }: { counts: Counts; tell: Tell }): Promise<void> {
  let batch: Entry[] = [];
  let bytes = 0;
  let line = 0;
  const flush = async (): Promise<void> => {
    await addBatch(ask, batch, { file: list.name, counts, tell });
    batch = [];
    bytes = 0;
    showProgress(`${list.name}: ${counts.read} read`);
  };
  for await (const text of linesOf(list.stream, list.name)) {
    line++;
    for (const read of parseProxyLine(text)) {
      const { input } = read;
      const entry = read.ok ? { line, input, sent: toSend(read.proxy) } : { line, input, why: read.why };
      batch.push(entry);
      bytes += Buffer.byteLength(JSON.stringify(entry));
      if (batch.length >= entriesMax || bytes >= bytesMax) await flush();
    }
  }
  await flush();
  showProgress("");
}

async function addBatch(
  ask: Ask,
  batch: readonly Entry[],
  { file, counts, tell }: { file: string; counts: Counts; tell: Tell },
): Promise<void> {
  const sent = batch.filter((entry) => entry.sent !== undefined);
  const body = { proxies: sent.map((entry) => entry.sent) };
  const reply = sent.length === 0 ? nothing : await ask<AddReply>("proxies.add", body);
  // A service of another version may read less than we do.
  for (const { line: position, why } of reply.rejected) Object.assign(sent[position - 1] ?? {}, { why });
  counts.read += batch.length;
  counts.added += reply.added;
  counts.already += reply.already;
  counts.updated += reply.updated;
  counts.rejected += batch.length - sent.length + reply.rejectedCount;
  const outcome = outcomeOfAll(reply, sent.length);
  for (const { line, input, why } of batch) tell({ file, line, input, ...(why === undefined ? { outcome } : { why }) });
}

const nothing: AddReply = { added: 0, already: 0, updated: 0, rejected: [], rejectedCount: 0 };

/** The service tells how many became what, not which: only where all became the same is it known of each. */
function outcomeOfAll({ added, already, updated }: AddReply, sent: number): string {
  if (added === sent) return "added";
  if (already === sent) return "already there";
  return updated === sent ? "updated" : "in the pool";
}

function toSend({ labels, ...address }: ProxyAddress): string | { url: string; labels: Record<string, string> } {
  const url = proxyUrl(address);
  return Object.keys(labels).length === 0 ? url : { url, labels };
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

/** On a terminal, one line that is written over; "" takes it away. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${printable(text)}`);
}
