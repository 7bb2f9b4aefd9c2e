// Which addresses the requests of this installation may reach: token sources, lists at URLs, webhooks, probes and the
// gateway. A client may name the URL, so a request must not reach a service that only this machine can reach, such as a
// cloud's metadata service. A name is checked after it has been resolved, and the connection goes to the address that
// was checked.
import type { LookupAddress, LookupAllOptions } from "node:dns";
import { lookup } from "node:dns/promises";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { canonicalHost } from "../protocol/host.ts";
import { ProxyFailure } from "./failure.ts";
import type { RouteFilter } from "./tunnel.ts";

/** An address block: `["10.0.0.0", 8]`. */
export type Range = readonly [address: string, prefix: number];

/** Addresses on this machine or its link alone. RFC 3927, RFC 4291, and "this network" of RFC 1122. */
const linkLocal: Range[] = [
  ["0.0.0.0", 8],
  ["169.254.0.0", 16],
  ["::", 128],
  ["fe80::", 10],
];
/** Metadata services of clouds at addresses that are not link-local: Alibaba, Azure, Oracle, Amazon. */
const metadata: Range[] = [
  ["100.100.100.200", 32],
  ["168.63.129.16", 32],
  ["192.0.0.192", 32],
  ["fd00:ec2::254", 128],
];
/** Not global: the blocks in the registries of RFC 6890 and their later entries, and multicast. */
const inner: Range[] = [
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["224.0.0.0", 3],
  ["::1", 128],
  ["fc00::", 7],
  ["fec0::", 10],
  ["ff00::", 8],
  // Translated to IPv4 on the way: NAT64, 6to4 and Teredo.
  ["64:ff9b::", 96],
  ["64:ff9b:1::", 48],
  ["2001::", 32],
  ["2002::", 16],
];

/** A request that the filter does not let out. Its message names the host and how to allow it. */
export class NotAllowed extends Error {
  override readonly name = "NotAllowed";
  readonly code = "ERR_NOT_ALLOWED";

  constructor(host: string) {
    super(`${host} is not a public address. To allow it, add it to REMUDA_OUTBOUND_ALLOW.`);
  }
}

/** A proxy's own address is not allowed. So the proxy is to blame, and not the request. */
export function proxyNotAllowed(host: string): ProxyFailure {
  return new ProxyFailure(
    "proxy-error",
    `The proxy ${host} has a link-local or metadata address, which is not allowed.`,
  );
}

export interface Outbound extends RouteFilter {
  /** Whether a request may go to this literal address, or to this name before it is resolved. */
  allowsTarget(host: string): boolean;
  /** The same, with the name resolved. A name that cannot be resolved here may go to a proxy with a public address. */
  admitsTarget(host: string): Promise<boolean>;
  /** Whether a proxy may have this literal address, or this name before it is resolved. */
  allowsProxy(host: string): boolean;
  /** For `net.connect` and `tls.connect`: resolves a target's name, and fails with NotAllowed. */
  lookupTarget: LookupFunction;
}

/** The exceptions that an operator allows: hosts (`intranet.example`, `*.example.com`) and address blocks. */
export interface Allowed {
  hosts: readonly string[];
  blocks: readonly Range[];
}

/** Gives all addresses of a name. */
export type Resolve = (host: string, options: LookupAllOptions) => Promise<LookupAddress[]>;

export function outboundWith({ hosts, blocks }: Allowed, resolve: Resolve = lookup): Outbound {
  const named = (host: string): boolean =>
    hosts.some((name) => (name.startsWith("*.") ? host.endsWith(name.slice(1)) : host === name));
  const allowed = listOf(blocks);
  const targetError = (host: string): Error => new NotAllowed(host);
  const targets = new Filter([linkLocal, metadata, inner], { allowed, named, resolve, errorFor: targetError });
  const proxies = new Filter([linkLocal, metadata], { allowed, named, resolve, errorFor: proxyNotAllowed });
  const isInside = async (host: string): Promise<boolean> => {
    if (isIP(host) !== 0 || !targets.allows(host)) return !targets.allows(host);
    return !(await resolve(host, { all: true })).every(({ address }) => targets.admits(address));
  };
  const allowsProxy = (host: string): boolean => proxies.allows(plainOf(host));
  return {
    allowsTarget: (host) => targets.allows(plainOf(host)),
    async admitsTarget(target) {
      const host = plainOf(target);
      if (!targets.allows(host)) return false;
      if (isIP(host) !== 0 || named(host)) return true;
      const addresses = await resolve(host, { all: true }).catch(() => []);
      return addresses.every(({ address }) => targets.admits(address));
    },
    allowsProxy,
    checkReached(target, proxyAddress) {
      const host = plainOf(target);
      if (isIP(host) !== 0 || named(host)) return;
      const address = proxyAddress();
      if (!targets.admits(plainOf(address)))
        throw new ProxyFailure("proxy-error", `The name of the proxy has another address now: ${address}.`);
    },
    checkProxy(host) {
      if (!allowsProxy(host)) throw proxyNotAllowed(host);
    },
    async route(proxyHost, target) {
      const host = plainOf(target);
      if (!targets.allows(host)) throw new NotAllowed(target);
      if (isIP(host) !== 0 || named(host)) return target;
      const addresses = await resolve(host, { all: true }).catch(async (error: unknown) => {
        if (await isInside(plainOf(proxyHost))) throw error;
        return []; // Only the proxy can resolve it, and the proxy has a public address.
      });
      if (!addresses.every(({ address }) => targets.admits(address))) throw new NotAllowed(target);
      return (await isInside(plainOf(proxyHost))) ? (addresses[0]?.address ?? target) : target;
    },
    lookupTarget: targets.lookup,
    lookupProxy: proxies.lookup,
  };
}

class Filter {
  readonly #denied: BlockList;
  readonly #allowed: BlockList;
  readonly #named: (host: string) => boolean;

  readonly #resolve: Resolve;
  readonly #errorFor: (host: string) => Error;

  constructor(
    denied: Range[][],
    given: {
      allowed: BlockList;
      named: (host: string) => boolean;
      resolve: Resolve;
      errorFor: (host: string) => Error;
    },
  ) {
    this.#denied = listOf(denied.flat());
    this.#allowed = given.allowed;
    this.#named = given.named;
    this.#resolve = given.resolve;
    this.#errorFor = given.errorFor;
  }

  /** @param address literal, in any spelling */
  admits(address: string): boolean {
    const family = isIP(address) === 4 ? "ipv4" : "ipv6";
    return !this.#denied.check(address, family) || this.#allowed.check(address, family);
  }

  allows(host: string): boolean {
    if (this.#named(host)) return true;
    if (isIP(host) !== 0) return this.admits(host);
    return !isLocalName(host) || this.admits("127.0.0.1");
  }

  /** Every address of a name must be allowed, because the socket may try any of them. */
  readonly lookup: LookupFunction = (host, options, callback) => {
    this.#resolve(host, { ...options, all: true }).then(
      (addresses) => {
        const plain = plainOf(host);
        const fits =
          this.allows(plain) && (this.#named(plain) || addresses.every(({ address }) => this.admits(address)));
        const [first] = addresses;
        if (!fits || first === undefined) return callback(this.#errorFor(host), "", 0);
        if (options.all === true) callback(null, addresses);
        else callback(null, first.address, first.family);
      },
      (error) => callback(error, "", 0),
    );
  };
}

function listOf(ranges: readonly Range[]): BlockList {
  const list = new BlockList();
  for (const [address, prefix] of ranges) list.addSubnet(address, prefix, isIP(address) === 4 ? "ipv4" : "ipv6");
  return list;
}

/** Without brackets, zone and final dot; a mapped IPv4 address as IPv4. */
function plainOf(host: string): string {
  const bare = host
    .replace(/^\[(.*)\]$/, "$1")
    .replace(/%.*$/, "")
    .replace(/\.$/, "");
  return canonicalHost(bare) ?? bare.toLowerCase();
}

/** RFC 6761 */
function isLocalName(host: string): boolean {
  return host === "localhost" || host.endsWith(".localhost");
}
