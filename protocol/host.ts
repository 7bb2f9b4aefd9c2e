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
  const isMapped = groups.every((group, at) => at > 5 || group === (at === 5 ? 0xffff : 0));
  const [high = 0, low = 0] = groups.slice(6);
  if (isMapped) return [high >> 8, high & 255, low >> 8, low & 255].join(".");
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
  if (lower.indexOf(":") === lower.lastIndexOf(":")) return undefined; // Most of what is tried: `host:port`.
  const groups: number[] = [];
  let gapAt = lower.startsWith("::") ? 0 : undefined;
  for (let at = gapAt === undefined ? 0 : 2; at < lower.length; ) {
    const colon = lower.indexOf(":", at);
    const text = lower.slice(at, colon === -1 ? undefined : colon);
    if (colon === -1 && isIpv4(text)) groups.push(...asGroups(text));
    else if (/^[0-9a-f]{1,4}$/.test(text)) groups.push(Number.parseInt(text, 16));
    else return undefined;
    if (colon === -1) break;
    at = colon + 1;
    if (at === lower.length) return undefined;
    if (lower[at] !== ":") continue;
    if (gapAt !== undefined) return undefined;
    gapAt = groups.length;
    at++;
  }
  const zeros = 8 - groups.length;
  if (gapAt === undefined) return zeros === 0 ? groups : undefined;
  if (zeros < 1) return undefined;
  groups.splice(gapAt, 0, ...[0, 0, 0, 0, 0, 0, 0, 0].slice(0, zeros));
  return groups;
}

/** An IPv4 address as the last two groups of an IPv6 address. */
function asGroups(ipv4Address: string): [number, number] {
  const [a = 0, b = 0, c = 0, d = 0] = ipv4Address.split(".").map(Number);
  return [a * 256 + b, c * 256 + d];
}
