// Entries of an add request: read, given their ids, their passwords set aside. One bad entry never spoils the others.

import { maskInput, parseProxyLine } from "../../lists/line.ts";
import type { ProxyAddress } from "../../protocol/host.ts";
import { type ProxyEntry, proxyEntrySchema, type RejectedEntry } from "../../protocol/proxy.ts";
import { readAs } from "../../protocol/request.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import type { Newcomer } from "../../state-machines/decide/proxy.ts";

export interface ReadEntries {
  /** Of each entry, in their order; null where it could not be read. */
  ids: (string | null)[];
  newcomers: Newcomer[];
  rejected: RejectedEntry[];
  /** By proxy id. */
  passwords: Map<string, string>;
}

/** Lines between which others have their turn: a millisecond or two. */
const atOnce = 100;

export async function readEntries(entries: readonly unknown[], key: InstallationKey): Promise<ReadEntries> {
  const read: ReadEntries = { ids: entries.map(() => null), newcomers: [], rejected: [], passwords: new Map() };
  let lines = 0;
  for (const [index, entry] of entries.entries()) {
    const line = index + 1;
    // A string may hold several lines, as a pasted list does; all of them are this entry.
    for (const part of typeof entry === "string" ? entry.split(/\r\n|\n|\r/) : [entry]) {
      if (++lines % atOnce === 0) await new Promise((resolve) => setImmediate(resolve));
      if (typeof part === "string") readLine(read, key, { line, text: part });
      else readObject(read, key, { line, entry: part });
    }
  }
  return read;
}

/** `p_` and 16 characters: an HMAC, so that an id is no oracle for passwords. */
export function proxyIdOf(address: ProxyAddress, key: InstallationKey): string {
  const { scheme, host, port, username, password } = address;
  return `p_${key.hmac(JSON.stringify([scheme, host, port, username ?? null, password ?? null])).slice(0, 16)}`;
}

function readLine(read: ReadEntries, key: InstallationKey, { line, text }: { line: number; text: string }): void {
  for (const entry of parseProxyLine(text)) {
    if (entry.ok) admit(read, key, entry.proxy, { line });
    else read.rejected.push({ line, input: entry.input, why: entry.why });
  }
}

function readObject(read: ReadEntries, key: InstallationKey, { line, entry }: { line: number; entry: unknown }): void {
  const parsed = readAs(proxyEntrySchema, entry);
  if ("refusal" in parsed) {
    const { url } = (typeof entry === "object" && entry !== null ? entry : {}) as { url?: unknown };
    const input = typeof url === "string" ? maskInput(url) : "***";
    read.rejected.push({ line, input, why: parsed.refusal.message });
    return;
  }
  const { url, labels, moreLabels, limits } = parsed.value;
  const [first, ...others] = parseProxyLine(url);
  if (first === undefined) read.rejected.push({ line, input: "", why: "url: is empty (expected host:port)" });
  else if (others.length > 0)
    read.rejected.push({
      line,
      input: first.input,
      why: "url: holds more than one proxy; give each an entry of its own",
    });
  else if (!first.ok) read.rejected.push({ line, input: first.input, why: first.why });
  else admit(read, key, first.proxy, { line, labels, moreLabels, limits });
}

function admit(
  read: ReadEntries,
  key: InstallationKey,
  proxy: ProxyAddress,
  given: { line: number; limits?: Newcomer["limits"] } & Pick<Partial<ProxyEntry>, "labels" | "moreLabels">,
): void {
  const { password, labels, ...address } = proxy;
  const id = proxyIdOf(proxy, key);
  read.ids[given.line - 1] = id;
  if (password !== undefined) read.passwords.set(id, password);
  read.newcomers.push({
    id,
    address,
    labels: { ...labels, ...given.moreLabels, ...given.labels },
    allLabels: given.labels !== undefined,
    ...(given.limits === undefined ? {} : { limits: given.limits }),
  });
}
