// The host of a proxy: an IPv4 address, an IPv6 address or a name. All spellings of one host must give the same text.
// That text is part of the proxy's identity and, for an address, the exit that limits are counted by. This file must
// not resolve names: the address behind a name may change.
import { z } from "zod";
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

/** RFC 5952, by way of a URL, whose standard prescribes the same form. */
function canonicalIpv6(lower: string): string | undefined {
  const tailAt = lower.lastIndexOf(":") + 1;
  const tail = lower.slice(tailAt);
  const text = isIpv4(tail) ? `${lower.slice(0, tailAt)}${asGroups(tail)}` : lower;
  if (!z.regexes.ipv6.test(text)) return undefined; // A failed URL would cost forty times as much.
  const canonical = urlSchema.parse(`http://[${text}]`).slice("http://[".length, -"]/".length);
  const mapped = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(canonical)?.slice(1);
  const bytes = mapped?.map((group) => Number.parseInt(group, 16)).flatMap((group) => [group >> 8, group & 255]);
  return bytes?.join(".") ?? canonical;
}

const urlSchema = z.url({ normalize: true });

/** An IPv4 address as the last two groups of an IPv6 address. */
function asGroups(ipv4Address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = ipv4Address.split(".").map(Number);
  return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
}
