// The host of a proxy: an IPv4 address, an IPv6 address or a name. All spellings of one host must give the same text.
// That text is part of the proxy's identity and, for an address, the exit that limits are counted by. This file must
// not resolve names: the address behind a name may change.
import type { Scheme } from "../events/proxy.ts";

export interface ProxyAddress {
  scheme: Scheme;
  /** Canonical; IPv6 without brackets. */
  host: string;
  port: number;
  username?: string;
  password?: string;
  labels: Record<string, string>;
}

const nameLengthMax = 253; // RFC 1035, in its text form
const names = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/; // RFC 1123
// A last label that is a number ("1.2.3.4.5", "0x7f.1") is a broken address that some resolvers would accept.
const endsInNumber = /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/;
// Some readers take a leading zero as octal and others as decimal, so such an address is rejected.
const ipv4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/**
 * The canonical spelling of a host, or undefined if the text is not a host. Names are lower case. IPv6 follows RFC 5952
 * and loses its brackets. An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) becomes that IPv4 address, since packets
 * go to and come from the same machine.
 */
export function canonicalHost(text: string): string | undefined {
  const lower = text.toLowerCase();
  if (lower.startsWith("[") && lower.endsWith("]")) return canonicalIpv6(lower.slice(1, -1));
  if (lower.includes(":")) return canonicalIpv6(lower);
  return isIpv4(lower) || isName(lower) ? lower : undefined;
}

/** Whether the host is a literal address. (Then it is its own exit.) */
export function isLiteralAddress(host: string): boolean {
  return isIpv4(host) || (host.includes(":") && canonicalHost(host) !== undefined);
}

/** Whether the text can only be a host. A single word cannot be told from a user name. */
export function isCertainlyHost(text: string): boolean {
  const host = canonicalHost(text);
  return host !== undefined && (/[.:]/.test(host) || host === "localhost");
}

function isIpv4(text: string): boolean {
  return ipv4.test(text);
}

function isName(text: string): boolean {
  return text.length <= nameLengthMax && names.test(text) && !endsInNumber.test(text);
}

/** RFC 5952: no leading zeros, and the longest run of zeros, the first of several, as `::`. */
function canonicalIpv6(lower: string): string | undefined {
  const groups = ipv6Groups(lower);
  if (groups === undefined) return undefined;
  const [high = 0, low = 0] = groups.slice(-2);
  if (groups.slice(0, 6).join() === "0,0,0,0,0,65535") return [high >> 8, high & 255, low >> 8, low & 255].join(".");
  let longest = { at: 0, length: 1 };
  for (let at = 0; at < groups.length; at++) {
    let length = 0;
    while (groups[at + length] === 0) length++;
    if (length > longest.length) longest = { at, length };
  }
  const texts = groups.map((group) => group.toString(16));
  const { at, length } = longest;
  return length === 1 ? texts.join(":") : `${texts.slice(0, at).join(":")}::${texts.slice(at + length).join(":")}`;
}

/** RFC 4291, 2.2: eight groups, of which `::` stands for at least one, and the last two may be an IPv4 address. */
function ipv6Groups(lower: string): number[] | undefined {
  const tailAt = lower.lastIndexOf(":") + 1;
  if (lower.indexOf(":") === tailAt - 1) return undefined; // Most of what is tried: `host:port`.
  const tail = lower.slice(tailAt);
  const text = isIpv4(tail) ? `${lower.slice(0, tailAt)}${asGroups(tail)}` : lower;
  const [before = "", after, ...others] = text.split("::");
  const [head, end] = [before, after ?? ""].map((part) => (part === "" ? [] : part.split(":")));
  if (head === undefined || end === undefined || others.length > 0) return undefined;
  const zeros = 8 - head.length - end.length;
  if (after === undefined ? zeros !== 0 : zeros < 1) return undefined;
  if (![...head, ...end].every((group) => /^[0-9a-f]{1,4}$/.test(group))) return undefined;
  return [...head, ...Array.from({ length: zeros }, () => "0"), ...end].map((group) => Number.parseInt(group, 16));
}

/** An IPv4 address as the last two groups of an IPv6 address. */
function asGroups(ipv4Address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = ipv4Address.split(".").map(Number);
  return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
}
