// The requests that a client may send to the gateway, and the part that answers each: requests in plain sight are
// forwarded, CONNECT and SOCKS become tunnels. It never connects to a target directly.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { RemudaFault } from "../../client/fault.ts";
import { invalid, type Refusal } from "../../protocol/refusal.ts";
import { watchers } from "../../protocol/verbs.ts";
import { isLoopback } from "../../runtime/host.ts";
import { showMetrics } from "../../runtime/prometheus.ts";
import { readAbsolute, readAuthority, readReverse, type Target } from "./address.ts";
import { type Answer, answerTo, badRequest, forbidden, keyNeeded, textOf, tooManyConnections } from "./answer.ts";
import { basicIn, type Credentials, type Door, emptyLogin, letIn } from "./credentials.ts";
import { watchEarly } from "./early.ts";
import { type Exchanged, forward, send, throughPool } from "./forward.ts";
import { type Inside, insideOf } from "./inside.ts";
import type { Kind } from "./metrics.ts";
import { open, openInside } from "./open.ts";
import { readOptions } from "./options.ts";
import { type Admitted, type Found, type GatewayPorts, idsOf, type Routed, route } from "./ports.ts";
import { readSocks, replyOf } from "./socks.ts";
import { Tunnel, type TunnelParts } from "./tunnel.ts";
import { headWithoutUpgrade, isWebsocket, upgrade } from "./upgrade.ts";

const established = "HTTP/1.1 200 Connection established\r\n";

export class Gateway {
  readonly #ports: GatewayPorts;
  readonly #door: Door;
  readonly #adopt: (socket: Socket) => void;
  readonly #tunnels = new Set<Tunnel>();
  /** By the client's socket: tunnels whose requests are seen. */
  readonly #insides = new WeakMap<Socket, Inside>();
  /** Requests and tunnels that are being opened or answered. */
  #underWay = 0;

  /** @param adopt reads HTTP from a client's socket, from its next byte on. */
  constructor(ports: GatewayPorts, door: Door, adopt: (socket: Socket) => void) {
    this.#ports = ports;
    this.#door = door;
    this.#adopt = adopt;
  }

  /** Requests, and tunnels that carry bytes. */
  get busy(): number {
    return this.#underWay + this.#tunnels.size;
  }

  cut(): void {
    for (const tunnel of [...this.#tunnels]) tunnel.end("drain");
  }

  async request({ request, response, expects }: Exchanged): Promise<void> {
    const { url = "", socket } = request;
    const inside = this.#insides.get(socket);
    if (inside !== undefined) return this.#requestInside(inside, { request, response, expects });
    const admitted = this.#admittedOf(request);
    if ("status" in admitted && url.startsWith("/") && !url.startsWith("/-")) return this.#page(request, response);
    if ("status" in admitted) return send(admitted, response);
    const at: Found = {};
    await this.#working(async () => {
      try {
        const routed = await route(this.#ports, admitted, at);
        await forward(this.#ports, routed, { request, response, expects }, throughPool(this.#ports, routed));
      } catch (error) {
        this.#refuse(admitted, at, error, (answer) => send(answer, response));
      }
    });
  }

  async connect(request: IncomingMessage, client: Socket, head: Buffer): Promise<void> {
    client.on("error", () => {}); // "close" follows.
    const target = this.#insides.has(client) ? undefined : readAuthority(request.url ?? "");
    const read = target ?? badRequestInside();
    const credentials = basicIn(request.headers["proxy-authorization"]) ?? emptyLogin;
    const from = { credentials, socket: client, rawHeaders: request.rawHeaders };
    const admitted = "code" in read ? badRequest(read) : this.#admit("connect", from, read);
    const refuse = (answer: Answer, rest: Buffer): void => {
      if (answer.isLast === true)
        return void client.end(textOf(answer, { connection: "close" }), () => client.destroySoon());
      client.write(textOf(answer));
      // The connection stays open: the client may send its login now.
      if (rest.length > 0) client.unshift(rest);
      this.#adopt(client);
    };
    if ("status" in admitted) return refuse(admitted, head);
    await this.#tunnel(admitted, { client, head, refuse, accept: (ids) => client.write(`${established}${ids}\r\n`) });
  }

  async socks(client: Socket): Promise<void> {
    const isAllowed = (given: Credentials): boolean => letIn(this.#door, given, () => addressOf(client)) !== "keyless";
    const asked = await readSocks(client, { needsKey: this.#door.needsKey, isAllowed });
    if (asked === undefined) return;
    const { credentials, target, first } = asked;
    const refuse = ({ socks }: Answer): void => {
      client.setTimeout(1000, () => client.destroy()).resume();
      client.end(replyOf(socks));
    };
    const admitted = this.#admit("socks5", { credentials, socket: client, rawHeaders: [] }, target);
    if ("status" in admitted) return refuse(admitted);
    await this.#tunnel(admitted, { client, head: first, refuse, accept: () => client.write(replyOf(0)) });
  }

  /** A websocket. Any other upgrade is left out of its request. */
  async upgrade(request: IncomingMessage, client: Socket, head: Buffer): Promise<void> {
    client.on("error", () => {}); // "close" follows.
    if (!isWebsocket(request)) {
      client.unshift(Buffer.concat([headWithoutUpgrade(request), head]));
      return this.#adopt(client);
    }
    const inside = this.#insides.get(client);
    const admitted = inside === undefined ? this.#admittedOf(request) : this.#admittedInside(inside, request);
    const refuse = (answer: Answer): void => {
      client.end(textOf(answer, { connection: "close" }));
    };
    if ("status" in admitted) return refuse(admitted);
    const early = watchEarly(client, head);
    const at: Found = { pool: inside?.routed.pool };
    await this.#working(async () => {
      let isAnswered = false;
      try {
        const routed = inside?.routed ?? (await route(this.#ports, admitted, at));
        const target = { ...routed, target: admitted.target };
        const opened = await (inside === undefined
          ? open(this.#ports, target, early.signal)
          : openInside(inside, this.#ports, early.signal));
        const upgraded = await upgrade(target, request, { client, opened, signal: early.signal });
        isAnswered = true;
        this.#ports.metrics.request(routed.pool, admitted.kind, "answered");
        inside?.upgraded();
        if (upgraded !== undefined) this.#carry(target, { ...upgraded, client, first: early.done(), isUpgraded: true });
      } catch (error) {
        early.done();
        if (isAnswered) throw error;
        if (early.signal.aborted) return this.#left(admitted, at, client);
        this.#refuse(admitted, at, error, refuse);
      }
    });
  }

  /** From now on bytes pass in both directions. */
  #carry(routed: Routed, parts: TunnelParts): void {
    const { client } = parts;
    const tunnel: { current?: Tunnel } = {};
    const over = (): void => {
      if (tunnel.current !== undefined) this.#tunnels.delete(tunnel.current);
    };
    tunnel.current = new Tunnel(this.#ports, routed, parts, {
      over,
      http: (seen) => {
        over();
        this.#insides.set(client, insideOf(this.#ports, routed, seen, tunnel.current?.beganAt));
        if (seen.first.length > 0) client.unshift(seen.first);
        this.#adopt(client);
      },
    });
    if (!tunnel.current.isOver) this.#tunnels.add(tunnel.current);
  }

  async #tunnel(
    admitted: Admitted,
    to: { client: Socket; head: Buffer; refuse(answer: Answer, rest: Buffer): void; accept(ids: string): void },
  ): Promise<void> {
    const { client } = to;
    const early = watchEarly(client, to.head);
    const at: Found = {};
    await this.#working(async () => {
      try {
        const routed = await route(this.#ports, admitted, at);
        const { use, socket: upstream } = await open(this.#ports, routed, early.signal);
        const ids = Object.entries(idsOf(use.block)).map(([name, value]) => `${name}: ${value}\r\n`);
        to.accept(ids.join(""));
        this.#ports.metrics.request(routed.pool, routed.kind, "answered");
        this.#carry(routed, { client, upstream, use, first: early.done() });
      } catch (error) {
        const rest = early.done();
        if (early.signal.aborted) return this.#left(admitted, at, client);
        this.#refuse(admitted, at, error, (answer) => to.refuse(answer, rest));
      }
    });
  }

  async #requestInside(inside: Inside, exchanged: Exchanged): Promise<void> {
    const { request, response } = exchanged;
    const { routed: known, through } = inside;
    const path = pathInside(request.url ?? "", known.target);
    if (path === undefined) return send(badRequest(badRequestInside()), response);
    const begun = inside.begin(response);
    // It came before the answer that closes the connection, so it has no answer of its own.
    if (begun === "over") return;
    if (begun === "last") response.shouldKeepAlive = false;
    const routed: Routed = { ...known, target: { ...known.target, path } };
    await this.#working(() => forward(this.#ports, routed, exchanged, through));
  }

  #admittedOf(request: IncomingMessage): Admitted | Answer {
    const isAbsolute = /^[a-z][a-z0-9+.-]*:\/\//i.test(request.url ?? "");
    return isAbsolute ? this.#proxied(request) : this.#reversed(request);
  }

  #admittedInside({ routed }: Inside, { url = "" }: IncomingMessage): Admitted | Answer {
    const path = pathInside(url, routed.target);
    return path === undefined ? badRequest(badRequestInside()) : { ...routed, target: { ...routed.target, path } };
  }

  #proxied({ url = "", headers, rawHeaders, socket }: IncomingMessage): Admitted | Answer {
    const target = readAbsolute(url);
    if ("code" in target) return badRequest(target);
    const credentials = basicIn(headers["proxy-authorization"]) ?? emptyLogin;
    return this.#admit("http", { credentials, socket, rawHeaders }, target);
  }

  #reversed({ url = "", headers, rawHeaders, socket }: IncomingMessage): Admitted | Answer {
    const reverse = readReverse(url);
    if (reverse === undefined) return badRequest(notPassedOn());
    const { key = "", target } = reverse;
    if (isFromAnotherSite(headers, this.#door)) return forbidden(ofAnotherSite);
    if ("code" in target) return badRequest(target);
    const credentials = key === "" ? emptyLogin : { username: "", password: key };
    return this.#admit("reverse", { credentials, socket, rawHeaders }, target);
  }

  #admit(
    kind: Kind,
    { credentials, socket, rawHeaders }: { credentials: Credentials; socket: Socket; rawHeaders: readonly string[] },
    target: Target,
  ): Admitted | Answer {
    const user = letIn(this.#door, credentials, () => addressOf(socket));
    if (user === "keyless") return keyNeeded();
    if (typeof user === "string") return forbidden(user);
    if (!this.#ports.connections.admit(user.name, socket)) {
      this.#ports.log.warn({ user: user.name }, "a user has too many connections; one was closed");
      return tooManyConnections(user.name);
    }
    const read = readOptions(credentials.username, rawHeaders);
    return "refusal" in read ? badRequest(read.refusal) : { kind, user, options: read.options, target };
  }

  /** A request that is not to be passed on. */
  #page({ url = "", method, headers }: IncomingMessage, response: ServerResponse): void {
    const [path] = url.split("?");
    const isLook = method === "GET" || method === "HEAD";
    if (isLook && path === "/livez") return void response.writeHead(200, json).end('{"live":true}\n');
    if (isLook && path === "/metrics") {
      if (isFromAnotherSite(headers, this.#door)) return send(forbidden(ofAnotherSite), response);
      const [, key = ""] = /^bearer +(\S+)$/i.exec(headers.authorization ?? "") ?? [];
      const role = this.#door.userOf(key)?.role;
      if (this.#door.needsKey && !watchers.some((each) => each === role)) return send(keyNeeded(), response);
      response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
      return void response.end(showMetrics(this.#ports.metrics.families()));
    }
    send(badRequest(notPassedOn()), response);
  }

  #refuse({ kind, options }: Admitted, at: Found, error: unknown, answer: (answer: Answer) => void): void {
    const given = answerTo(error);
    const result = given.status < 500 || given.status === 503 ? "refused" : "failed";
    this.#ports.metrics.request(at.pool ?? options.pool ?? "default", kind, result);
    if (error instanceof RemudaFault) this.#ports.log.warn({ code: error.code }, error.message);
    answer(given);
  }

  #left({ kind, options }: Admitted, at: Found, client: Socket): void {
    this.#ports.metrics.request(at.pool ?? options.pool ?? "default", kind, "aborted");
    client.destroy();
  }

  async #working(work: () => Promise<void>): Promise<void> {
    this.#underWay += 1;
    try {
      await work();
    } finally {
      this.#underWay -= 1;
    }
  }
}

const json = { "content-type": "application/json; charset=utf-8" };

/** Asked for only when it is needed, because it takes a system call. */
function addressOf({ remoteAddress }: Socket): string {
  return remoteAddress ?? "";
}

function notPassedOn(): Refusal {
  return invalid("target", "this is a proxy. Send http://host/path to it, CONNECT host:port, or /-/https/host/path");
}

function badRequestInside(): Refusal {
  return invalid("target", "inside a tunnel, requests go to the tunnel's own host and port");
}

/** The path of a request in origin form, or in absolute form for the same host and port. */
function pathInside(url: string, target: Target): string | undefined {
  if (url.startsWith("/")) return url;
  const absolute = readAbsolute(url);
  if ("code" in absolute || absolute.host !== target.host || absolute.port !== target.port) return undefined;
  return absolute.path;
}

const ofAnotherSite = "A page of another site made this request. Send it from a program.";

/**
 * A page of any site can make a browser send requests to loopback, under a name of its own as well (see
 * services/api/door.ts). Such a page has no key.
 */
function isFromAnotherSite({ "sec-fetch-site": site, host }: IncomingMessage["headers"], { needsKey }: Door): boolean {
  if (site !== undefined && site !== "none" && site !== "same-origin") return true;
  if (host === undefined || (site === undefined && needsKey)) return false;
  const name = /^(\[[0-9a-f:.]+\]|[^:]*)/i.exec(host)?.[1] ?? "";
  return !isLoopback(name.toLowerCase());
}
