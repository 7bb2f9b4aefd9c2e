// Connections to and through a proxy: TCP, TLS if the proxy is https, then CONNECT or SOCKS. A refusal by the proxy
// itself is a ProxyFailure, so that it is never taken for the target's answer. All steps share one time limit.
import { lookup } from "node:dns/promises";
import { request } from "node:http";
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { SocksClient, SocksClientError } from "socks";
import { buildConnector, errors } from "undici";
import type { LeaseReply } from "../protocol/wire.ts";
import { codeOf, failedIn, type Phase, ProxyFailure, TargetNameFailure } from "./failure.ts";

export interface Tunnelling {
  connectTimeoutMs: number;
  /** Trusted for https proxies. */
  proxyCa?: Ca | undefined;
  targetCa?: Ca | undefined;
  /** Where the requests may go. If absent, anywhere: a worker's own requests are not filtered. */
  outbound?: RouteFilter | undefined;
  /** Sockets stay open for writing when the other side has ended. */
  halfOpen?: boolean | undefined;
}

/** The routes that a request may take (outbound.ts). */
export interface RouteFilter {
  /**
   * The host to name to a proxy: the target, or the target's checked address if the proxy's own address is not public.
   * Only such a proxy can reach the services that this machine can reach, and it might resolve the name to another
   * address.
   * @throws NotAllowed, or an error of the resolver.
   */
  route(proxyHost: string, target: string): Promise<string>;
  /**
   * Whether a proxy that was reached at this address may resolve the host itself. Its name may have had another address
   * when `route` looked it up.
   * @throws ProxyFailure
   */
  checkReached(host: string, proxyAddress: () => string): void;
  /** @throws ProxyFailure if a proxy may not have this literal address, or this name. */
  checkProxy(host: string): void;
  /** For `net.connect`: resolves a proxy's name, and fails with a ProxyFailure. */
  lookupProxy: LookupFunction;
}

export type ProxyAddress = Pick<LeaseReply, "scheme" | "host" | "port" | "username" | "password">;

/** Trusted certificates, in Node's format. */
export type Ca = string | Buffer | (string | Buffer)[];

/** `Basic …`, if the proxy has credentials. */
export function proxyAuthorization({ username, password }: ProxyAddress): string | undefined {
  if (username === undefined && password === undefined) return undefined;
  return `Basic ${Buffer.from(`${username ?? ""}:${password ?? ""}`).toString("base64")}`;
}

/**
 * For undici: a socket to the proxy itself.
 * @param hostNamed the host that the requests on it will name.
 */
export function connectorTo(proxy: ProxyAddress, options: Tunnelling, hostNamed: string): buildConnector.connector {
  return (_target, callback) => {
    within(options.connectTimeoutMs, (opening) => dialProxy(proxy, options, { opening, hostNamed })).then(
      (socket) => callback(null, socket),
      (error) => callback(error, null),
    );
  };
}

/** For undici: a socket to the target, through the proxy. */
export function connectorThrough(proxy: ProxyAddress, options: Tunnelling): buildConnector.connector {
  const { connectTimeoutMs: timeout, targetCa } = options;
  const secure = buildConnector({ timeout, ...(targetCa === undefined ? {} : { ca: targetCa }) });
  return (target, callback) => {
    const asked = unbracketed(target.hostname);
    const port = Number(target.port) || (target.protocol === "https:" ? 443 : 80);
    within(timeout, async (opening) => {
      const host = await routed(options, proxy, asked);
      const destination = await destinationFor(proxy, host);
      const socket = await dialProxy(proxy, options, { opening, hostNamed: host });
      opening.phase = "handshake";
      if (proxy.scheme === "http" || proxy.scheme === "https") return connectVia(socket, proxy, { host, port });
      return socksVia(socket, proxy, { host: destination, port, timeout });
    }).then(
      (socket) => {
        if (target.protocol !== "https:") callback(null, socket);
        else
          secure({ ...target, httpSocket: socket }, (...opened) => {
            if (opened[0] !== null) failedIn("tls", opened[0]);
            callback(...opened);
          });
      },
      (error) => callback(error, null),
    );
  };
}

/** The host to name to the proxy. @throws NotAllowed; TargetNameFailure. */
export async function routed(
  { outbound }: Pick<Tunnelling, "outbound">,
  proxy: Pick<ProxyAddress, "host">,
  target: string,
): Promise<string> {
  if (outbound === undefined) return target;
  try {
    return await outbound.route(proxy.host, target);
  } catch (cause) {
    if (codeOf(cause) === "ERR_NOT_ALLOWED") throw cause;
    throw new TargetNameFailure(`${target} has no address.`, { cause });
  }
}

/**
 * For socks5 and socks4 (not socks5h, socks4a) the name is looked up here, and the proxy gets an address. SOCKS 4
 * supports only IPv4.
 */
async function destinationFor({ scheme }: ProxyAddress, host: string): Promise<string> {
  const here = (scheme === "socks4" && isIP(host) !== 4) || (scheme === "socks5" && isIP(host) === 0);
  if (!here) return host;
  try {
    return (await lookup(host, { family: scheme === "socks4" ? 4 : 0 })).address;
  } catch (cause) {
    throw new TargetNameFailure(`${host} has no address that ${scheme} can carry.`, { cause });
  }
}

/** A connection that is being opened: its sockets, and its phase. */
interface Opening {
  add(socket: Socket): void;
  phase: Phase;
}

/** All its errors have their phase. */
async function within(ms: number, open: (opening: Opening) => Promise<Socket>): Promise<Socket> {
  const sockets: Socket[] = [];
  let isLate = false;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new errors.ConnectTimeoutError(`No connection within ${ms} ms`)), ms);
  });
  const opening: Opening = {
    phase: "dial",
    add(socket) {
      sockets.push(socket);
      if (isLate) discard(socket); // The lookup took too long.
    },
  };
  const opened = open(opening);
  opened.catch(() => {});
  try {
    return await Promise.race([opened, late]);
  } catch (error) {
    isLate = true;
    for (const socket of sockets) discard(socket);
    throw failedIn(opening.phase, error as Error); // Only errors are thrown there.
  } finally {
    clearTimeout(timer);
  }
}

function discard(socket: Socket): void {
  socket.on("error", () => {}).destroy();
}

function dialProxy(
  proxy: ProxyAddress,
  tunnelling: Tunnelling,
  { opening, hostNamed }: { opening: Opening; hostNamed: string },
): Promise<Socket> {
  const { proxyCa, outbound, halfOpen: allowHalfOpen = false } = tunnelling;
  const host = unbracketed(proxy.host);
  const filter = outbound === undefined ? {} : { lookup: outbound.lookupProxy };
  return new Promise((resolve, reject) => {
    outbound?.checkProxy(host);
    const tcp = connectTcp({ host, port: proxy.port, noDelay: true, keepAlive: true, allowHalfOpen, ...filter });
    opening.add(tcp);
    tcp.once("error", reject);
    tcp.once("connect", () => {
      tcp.off("error", reject);
      try {
        outbound?.checkReached(hostNamed, () => tcp.remoteAddress ?? host);
      } catch (error) {
        return reject(error);
      }
      if (proxy.scheme !== "https") return resolve(tcp);
      opening.phase = "handshake";
      const servername = isIP(host) === 0 ? { servername: host } : {};
      const options = {
        socket: tcp,
        allowHalfOpen, // Node knows it; its types do not.
        host,
        ...servername,
        ...(proxyCa === undefined ? {} : { ca: proxyCa }),
      };
      const secure = connectTls(options);
      const fail = (cause: unknown): void =>
        reject(new ProxyFailure("proxy-error", "TLS to the proxy failed.", { cause }));
      opening.add(secure);
      secure.once("error", fail);
      secure.once("secureConnect", () => {
        secure.off("error", fail);
        resolve(secure);
      });
    });
  });
}

function connectVia(socket: Socket, proxy: ProxyAddress, target: { host: string; port: number }): Promise<Socket> {
  const authority = `${isIP(target.host) === 6 ? `[${target.host}]` : target.host}:${target.port}`;
  const authorization = proxyAuthorization(proxy);
  return new Promise((resolve, reject) => {
    const asking = request({
      method: "CONNECT",
      path: authority,
      headers: { host: authority, ...(authorization === undefined ? {} : { "proxy-authorization": authorization }) },
      createConnection: () => socket,
    });
    asking.once("error", (cause) =>
      reject(new ProxyFailure("proxy-error", "The proxy did not answer CONNECT in HTTP.", { cause })),
    );
    asking.once("connect", ({ statusCode = 0 }, through, head) => {
      if (statusCode >= 200 && statusCode < 300) {
        if (head.length > 0) through.unshift(head);
        return resolve(through as Socket); // It is the socket that createConnection returned.
      }
      through.on("error", () => {}).destroy();
      const reason = statusCode === 407 ? "proxy-auth" : "proxy-error";
      const message = `The proxy answered ${statusCode} to CONNECT.`;
      reject(new ProxyFailure(reason, message, { proxyStatus: statusCode }));
    });
    asking.end();
  });
}

/** The library has no codes. These messages mean that the proxy rejected the login. */
const socksAuth = [
  "Socks5 Authentication failed",
  "Received invalid Socks5 initial handshake (no accepted authentication type)",
  "Socks4 Proxy rejected connection - (RejectedIdent)",
];

async function socksVia(
  socket: Socket,
  proxy: ProxyAddress,
  { host, port, timeout }: { host: string; port: number; timeout: number },
): Promise<Socket> {
  const { username, password } = proxy;
  try {
    const established = await SocksClient.createConnection({
      command: "connect",
      destination: { host, port },
      existing_socket: socket,
      timeout,
      proxy: {
        host: unbracketed(proxy.host),
        port: proxy.port,
        type: proxy.scheme.startsWith("socks4") ? 4 : 5,
        ...(username === undefined ? {} : { userId: username }),
        ...(password === undefined ? {} : { password }),
      },
    });
    return established.socket;
  } catch (error) {
    if (!(error instanceof SocksClientError)) throw error;
    const reason = socksAuth.includes(error.message) ? "proxy-auth" : "proxy-error";
    // The error carries the library's options, with the password, so it must not be passed on as the cause.
    throw new ProxyFailure(reason, `The SOCKS proxy refused: ${error.message}`);
  }
}

function unbracketed(host: string): string {
  return host.replace(/^\[(.*)\]$/, "$1");
}
