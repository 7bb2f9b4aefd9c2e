// Reads the entries of an add request, gives them ids, and separates their logins. One bad entry never affects the
// others.

import type { Scheme } from "../../events/proxy.ts";
import { listScheme, maskedName } from "../../lists/address.ts";
import { maskInput, parseProxyLine } from "../../lists/line.ts";
import { isObject, withoutNulls } from "../../lists/named.ts";
import type { ProxyAddress } from "../../protocol/host.ts";
import { type ListScheme, type ProxyEntry, proxyEntrySchema, type RejectedEntry } from "../../protocol/proxy.ts";
import { readAs } from "../../protocol/request.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import type { Newcomer } from "../../state-machines/decide/proxy.ts";
import { type Outbound, proxyNotAllowed } from "../../transport/outbound.ts";
import { loginSecret } from "./logins.ts";

export interface ReadEntries {
  /** The id of each entry, in order; null if the entry could not be read. */
  ids: (string | null)[];
  newcomers: Newcomer[];
  rejected: RejectedEntry[];
  /** The secrets to store, by proxy id. */
  logins: Map<string, string>;
}

export interface EntryPorts {
  key: InstallationKey;
  /** A proxy with a link-local or metadata address would lead requests to this machine's own services. */
  outbound: Pick<Outbound, "allowsProxy">;
}

/** Lines between two pauses: a millisecond or two. */
const atOnce = 100;

/** @param list.scheme the scheme of entries that name none. */
export async function readEntries(
  list: { proxies: readonly unknown[]; scheme?: ListScheme | null | undefined },
  ports: EntryPorts,
): Promise<ReadEntries> {
  const { proxies } = list;
  const read: Reading = {
    ...{ ids: proxies.map(() => null), newcomers: [], rejected: [], logins: new Map() },
    ...{ scheme: listScheme(list.scheme), ...ports },
  };
  let lines = 0;
  for (const [index, entry] of proxies.entries()) {
    const line = index + 1;
    // A string may hold several lines, like a pasted list. All of them belong to this entry.
    for (const part of typeof entry === "string" ? entry.split(/\r\n|\n|\r/) : [entry]) {
      if (++lines % atOnce === 0) await new Promise((resolve) => setImmediate(resolve));
      if (typeof part === "string") readLine(read, { line, text: part });
      else readObject(read, { line, entry: part });
    }
  }
  return read;
}

/** `p_` and 16 characters: an HMAC, so that an id does not help to guess a password. */
export function proxyIdOf(address: ProxyAddress, key: InstallationKey): string {
  const { scheme, host, port, username, password } = address;
  return `p_${key.hmac(JSON.stringify([scheme, host, port, username ?? null, password ?? null])).slice(0, 16)}`;
}

/** The entries that are read are appended to its lists. */
type Reading = ReadEntries & EntryPorts & { scheme: Scheme };

function readLine(read: Reading, { line, text }: { line: number; text: string }): void {
  for (const entry of parseProxyLine(text, read.scheme)) {
    if (entry.ok) admit(read, entry.proxy, { line });
    else read.rejected.push({ line, input: entry.input, why: entry.why });
  }
}

function readObject(read: Reading, { line, entry }: { line: number; entry: unknown }): void {
  const given = isObject(entry) ? withoutNulls(entry) : entry;
  const parsed = readAs(proxyEntrySchema, given);
  if ("refusal" in parsed) {
    const url = isObject(given) ? given["url"] : undefined;
    const input = typeof url === "string" ? maskInput(url) : "***";
    read.rejected.push({ line, input, why: parsed.refusal.message });
    return;
  }
  const { url, labels, moreLabels, limits } = parsed.value;
  const [first, ...others] = parseProxyLine(url, read.scheme);
  if (first === undefined) read.rejected.push({ line, input: "", why: "url: is empty (expected host:port)" });
  else if (others.length > 0)
    read.rejected.push({
      line,
      input: first.input,
      why: "url: holds more than one proxy; give each an entry of its own",
    });
  else if (!first.ok) read.rejected.push({ line, input: first.input, why: first.why });
  else admit(read, first.proxy, { line, labels, moreLabels, limits });
}

function admit(
  read: Reading,
  proxy: ProxyAddress,
  given: { line: number; limits?: Newcomer["limits"] } & Pick<Partial<ProxyEntry>, "labels" | "moreLabels">,
): void {
  const { password: _password, username, labels, ...address } = proxy;
  if (!read.outbound.allowsProxy(address.host)) {
    const input = `${address.host}:${address.port}`;
    read.rejected.push({ line: given.line, input, why: proxyNotAllowed(address.host).message });
    return;
  }
  const id = proxyIdOf(proxy, read.key);
  read.ids[given.line - 1] = id;
  const login = loginSecret(proxy);
  if (login !== undefined) read.logins.set(id, login);
  read.newcomers.push({
    id,
    address: username === undefined ? address : { ...address, maskedName: maskedName(username) },
    labels: { ...labels, ...given.moreLabels, ...given.labels },
    allLabels: given.labels !== undefined,
    ...(given.limits === undefined ? {} : { limits: given.limits }),
  });
}
