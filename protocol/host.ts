// The host of a proxy: an IPv4 address, an IPv6 address or a name. All spellings of one host must give the same text.
// That text is part of the proxy's identity and, for an address, the exit that limits are counted by. This file must
// not resolve names: the address behind a name may change.
import type { Scheme } from "../events/proxy.ts";

const nameLengthMax = 253; // RFC 1035, in its text form
const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/; // RFC 1123
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
export function isTellingHost(text: string): boolean {
  const host = canonicalHost(text);
  return host !== undefined && (/[.:]/.test(host) || host === "localhost");
}

function isIpv4(text: string): boolean {
  return ipv4.test(text);
}

function isName(text: string): boolean {
  if (text.length > nameLengthMax) return false;
  const labels = text.split(".");
  // A last label that is a number ("1.2.3.4.5", "0x7f.1") is a broken address that some resolvers would accept.
  return labels.every((each) => label.test(each)) && !/^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? "");
}

function canonicalIpv6(lower: string): string | undefined {
  const groups = ipv6Groups(lower);
  if (groups === undefined) return undefined;
  const [high, low] = [groups[6] ?? 0, groups[7] ?? 0];
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  return isMapped ? [high >> 8, high & 255, low >> 8, low & 255].join(".") : compressed(groups);
}

/** The eight 16-bit groups of an IPv6 address, also with `::` and a dotted tail; no zone. */
function ipv6Groups(lower: string): number[] | undefined {
  const halves = lower.split("::");
  if (halves.length > 2) return undefined;
  const parsed = halves.map((half, index) => groupsOf(half, { mayEndDotted: index === halves.length - 1 }));
  const [head, tail] = parsed;
  if (head === undefined) return undefined;
  if (parsed.length === 1) return head.length === 8 ? head : undefined;
  if (tail === undefined || head.length + tail.length > 7) return undefined;
  return [...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail];
}

function groupsOf(half: string, { mayEndDotted }: { mayEndDotted: boolean }): number[] | undefined {
  if (half === "") return [];
  const groups: number[] = [];
  const texts = half.split(":");
  for (const [index, text] of texts.entries()) {
    if (/^[0-9a-f]{1,4}$/.test(text)) groups.push(Number.parseInt(text, 16));
    else if (mayEndDotted && index === texts.length - 1 && isIpv4(text)) {
      const [a = 0, b = 0, c = 0, d = 0] = text.split(".").map(Number);
      groups.push(a * 256 + b, c * 256 + d);
    } else return undefined;
  }
  return groups;
}

/** RFC 5952 §4: lower-case groups without leading zeros; the first longest run of at least two zero groups becomes `::`. */
function compressed(groups: readonly number[]): string {
  let best = { start: 0, length: 1 };
  for (let start = 0; start < groups.length; start += 1) {
    let length = 0;
    while (groups[start + length] === 0) length += 1;
    if (length > best.length) best = { start, length };
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.length < 2) return hex.join(":");
  return `${hex.slice(0, best.start).join(":")}::${hex.slice(best.start + best.length).join(":")}`;
}

export interface ProxyAddress {
  scheme: Scheme;
  /** Canonical; IPv6 without brackets. */
  host: string;
  port: number;
  username?: string;
  password?: string;
  labels: Record<string, string>;
}
