// The gateway in this process, with a stand-in for the service: it grants leases of the given proxies in turn, and
// records lease requests, outcomes and releases. Sockets, proxies and targets are real. No broker is needed.
import { request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import { connect as connectTcp, type Socket } from "node:net";
import { pino } from "pino";
import { Broken, type Port } from "../../client/port.ts";
import { defaultPolicy, type Policy } from "../../events/policy.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import type { UserRole } from "../../protocol/verbs.ts";
import type { Outcome } from "../../protocol/wire.ts";
import { coreOver } from "../../services/gateway/core.ts";
import { startGateway } from "../../services/gateway/server.ts";
import { classify } from "../../state-machines/policy/classify.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";

export interface Lab {
  port: number;
  url: string;
  /** Lease requests, with the user that they were sent for. */
  asked: (Record<string, unknown> & { user: string; pool: string })[];
  /** With the class by the default policy, the proxy, and the user that reported it. */
  outcomes: (Outcome & { class: string | undefined; proxy: string; user: string })[];
  released: { leaseId: unknown; used: unknown }[];
  renewed: number;
  /** Uses that are granted and not reported. */
  metrics(): string;
  stop(): Promise<void>;
}

export interface LabOptions {
  /** As `scheme://[user:password@]host:port`. */
  proxies: readonly string[];
  policies?: Record<string, Partial<Policy>>;
  users?: Record<string, { name: string; role: UserRole; pools?: readonly string[] }>;
  needsKey?: boolean;
  /** Absent: loopback is allowed. */
  outboundAllow?: { hosts: readonly string[]; blocks: readonly (readonly [string, number])[] };
  /** Undefined: the lease is granted. */
  refuse?: (body: Record<string, unknown>) => Refusal | undefined;
  leaseMs?: number;
  /** The most uses that a lease has. */
  usesMax?: number;
  via?: string;
  /** No picker answers. */
  isAway?: boolean;
  /** Called for the list of pools, before it is given. */
  listing?: () => Promise<void>;
  headMsMax?: number;
  connectionsMax?: number;
}

export const loopback = { hosts: [], blocks: [["127.0.0.0", 8]] as const };

export async function startLab(options: LabOptions): Promise<Lab> {
  const { proxies, policies = {}, users = {}, needsKey = false, refuse = () => undefined } = options;
  const { outboundAllow = loopback, leaseMs = 60_000, usesMax = 1000, via } = options;
  const asked: Lab["asked"] = [];
  const outcomes: Lab["outcomes"] = [];
  const released: Lab["released"] = [];
  const proxyOf = new Map<string, string>();
  const sessions = new Map<string, string>();
  const lab = { renewed: 0 };
  let turn = 0;
  const choose = (body: Record<string, unknown>): string | undefined => {
    if (body["proxyId"] !== undefined) return proxies.find((each) => idOf(each) === body["proxyId"]);
    const excluded = (body["exclude"] ?? []) as string[];
    const bound = sessions.get(String(body["session"]));
    if (bound !== undefined) return bound;
    for (let tried = 0; tried < proxies.length; tried++) {
      const proxy = proxies[turn++ % proxies.length] ?? "";
      if (!excluded.includes(idOf(proxy))) return proxy;
    }
    return undefined;
  };
  const grant = (pool: string, body: Record<string, unknown>): object => {
    const refusal = refuse(body);
    if (refusal !== undefined) return refusal;
    const proxy = choose(body);
    if (proxy === undefined) return { code: "pool-exhausted", message: "No proxy is left.", retryAfterMs: 2500 };
    if (body["session"] !== undefined) sessions.set(String(body["session"]), proxy);
    const { protocol, hostname, port, ...login } = loginDecoded(new URL(proxy));
    const at = Date.now();
    const leaseId = `l_${String(proxyOf.size + 1).padStart(20, "0")}`;
    proxyOf.set(leaseId, proxy);
    return {
      ...{ leaseId, pool, proxyId: idOf(proxy), url: proxy, scheme: protocol.slice(0, -1), host: hostname },
      ...{ port: Number(port), ...login },
      ...{ uses: Math.min(usesMax, Number(body["uses"] ?? 1)), epoch: 0, labels: {} },
      ...{ grantedAt: at, expiresAt: at + leaseMs, leftMs: leaseMs },
    };
  };
  const portFor = (user: string): Port => ({
    bytesMax: 500_000,
    async attempt({ verb, pool, body }) {
      if (verb === "lease") {
        asked.push({ ...body, user, pool });
        return grant(pool, body);
      }
      if (verb === "release") {
        released.push({ leaseId: body["leaseId"], used: body["used"] });
        return { leaseId: body["leaseId"], used: body["used"], returned: 0 };
      }
      if (verb === "renew") {
        lab.renewed += 1;
        return { leaseId: body["leaseId"], leftMs: leaseMs };
      }
      const given = body["outcomes"] as Outcome[];
      for (const each of given) {
        const proxy = proxyOf.get(each.leaseId) ?? "unknown";
        outcomes.push({ ...each, class: classify(defaultPolicy, each), proxy, user });
      }
      return { accepted: given.length, ignored: [], ignoredCount: 0, stop: [] };
    },
    cancel: async () => {},
    close: async () => {},
  });
  const pools = Object.entries({ default: {}, ...policies }).map(([pool, policy]) => ({
    ...{ pool, policy: { ...defaultPolicy, ...policy }, version: 1, openedAt: 0 },
  }));
  const log = pino({ level: "silent" });
  const trust = { proxyCa: loopbackTls.cert, targetCa: loopbackTls.cert };
  const door = { needsKey, userOf: (key: string) => users[key] };
  const listed = async () => {
    if (options.isAway === true) throw new Broken("no-leader", "No service answers.");
    await options.listing?.();
    return pools;
  };
  const service = { for: portFor, pools: listed, onLeader: () => {} };
  const gateway = await startGateway({
    ...{ host: "127.0.0.1", port: 0, log, headMsMax: options.headMsMax, connectionsMax: options.connectionsMax },
    open: async (adopt, max) => coreOver(service, { door, outboundAllow, via, log, trust }, adopt, max),
  });
  return {
    ...{ port: Number(new URL(gateway.url).port), url: gateway.url, asked, outcomes, released },
    get renewed() {
      return lab.renewed;
    },
    metrics: () =>
      gateway
        .families()
        .flatMap(({ name, samples }) =>
          samples.map(
            ({ labels = {}, suffix = "", value }) => `${name}${suffix} ${Object.values(labels).join(" ")} ${value}`,
          ),
        )
        .join("\n"),
    stop: gateway.stop,
  };
}

function loginDecoded({ protocol, hostname, port, username, password }: URL) {
  const login = { username: decodeURIComponent(username), password: decodeURIComponent(password) };
  return { protocol, hostname, port, ...(username === "" ? {} : login) };
}

/** Of a proxy, as the stand-in grants it. */
export function idOf(proxy: string): string {
  return `p_${Buffer.from(new URL(proxy).host).toString("hex").padStart(16, "0").slice(-16)}`;
}

export interface Answered {
  status: number;
  headers: IncomingMessage["headers"];
  raw: string[];
  body: string;
}

/** A request in absolute form, or any other path. */
export function ask(
  lab: Pick<Lab, "port">,
  path: string,
  how: { method?: string; headers?: OutgoingHttpHeaders; body?: string | Buffer; login?: string } = {},
): Promise<Answered> {
  const { method = "GET", body, login } = how;
  const headers = { ...how.headers, ...(login === undefined ? {} : { "proxy-authorization": basic(login) }) };
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: "127.0.0.1", port: lab.port, method, path, headers, agent: false });
    request.on("error", reject).on("response", (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
      response.on("error", reject).on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          raw: response.rawHeaders,
          body: text,
        }),
      );
    });
    request.end(body);
  });
}

export function basic(login: string): string {
  return `Basic ${Buffer.from(login).toString("base64")}`;
}

/** A client's own socket. */
export interface Raw {
  socket: Socket;
  write(text: string | Buffer): void;
  /** Resolves with everything so far once the pattern is in it. */
  until(pattern: RegExp): Promise<string>;
  /** Everything, once the connection has ended. */
  ended(): Promise<string>;
}

export async function raw(port: number): Promise<Raw> {
  const socket = connectTcp({ port, host: "127.0.0.1", allowHalfOpen: true });
  let text = "";
  let isOver = false;
  let look = (): void => {};
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    look();
  });
  const over = (): void => {
    isOver = true;
    look();
  };
  socket.on("end", over).on("close", over).on("error", over);
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  const wait = (isThere: () => boolean): Promise<string> =>
    new Promise((resolve, reject) => {
      look = () => {
        if (isThere()) resolve(text);
        else if (isOver) reject(new Error(`it ended: ${JSON.stringify(text)}`));
      };
      look();
    });
  return {
    socket,
    write: (bytes) => void socket.write(bytes),
    until: (pattern) => wait(() => pattern.test(text)),
    ended: () => wait(() => isOver),
  };
}
