// HTTP, a thin layer over the protocol. Each route becomes a request to the picker, and its reply comes back with a
// status. The app decides nothing, keeps nothing, and is a function of its dependencies; `server.ts` listens.
import fastify, { type FastifyRequest, type onRequestAsyncHookHandler } from "fastify";
import type { Logger } from "pino";
import { poolNameSchema } from "../../events/ids.ts";
import { type Refusal, refuse, requestBytesMax } from "../../protocol/refusal.ts";
import { boundConnections, headLookMs, headMsMax } from "../../runtime/connections.ts";
import type { Family } from "../../runtime/prometheus.ts";
import type { AskFor } from "./ask.ts";
import { type Door, forbiddenTo, letIn } from "./door.ts";
import { Ending } from "./ending.ts";
import { eventRoutes } from "./event.ts";
import { healthRoutes } from "./health.ts";
import { leaseRoute } from "./lease.ts";
import type { Ledgers } from "./ledger.ts";
import { loginRoutes } from "./login.ts";
import { methodsByPath } from "./methods.ts";
import { outcomeRoute } from "./outcome.ts";
import { pageRoutes } from "./page.ts";
import { poolRoute } from "./pool.ts";
import { proxyRoutes } from "./proxy.ts";
import { type AnyReply, refusalOf, refusalSent, sendRefusal, unreadableAnswer } from "./refusal.ts";
import { type Api, readRequests, validate } from "./request.ts";
import { verbRoutes } from "./routes.ts";
import type { HttpUser } from "./session.ts";
import { boundUnread } from "./unread.ts";

export interface ApiPorts {
  ask: AskFor;
  ledgers: Ledgers;
  log: Logger;
  /** How many parts of this process failed because of bugs. Absent: none is counted. */
  defects?: (() => Readonly<Record<string, number>>) | undefined;
  /** Further metrics of this process. */
  families?: (() => Family[]) | undefined;
  version: string;
  /** Which requests are let in. */
  door: Door;
  /** In PEM; undefined: no TLS. */
  certificate?: { cert: string; key: string } | undefined;
  /** A request had a key that is not known. @param host the address that it came from. */
  onLoginRefused?: ((host: string) => void) | undefined;
  /** The most connections. Absent: a bound that follows from the process's file descriptors. */
  connectionsMax?: number;
}

/** A request must have arrived in full by then. */
const arrivalMsMax = 120_000;
const heads = { headersTimeout: headMsMax, connectionsCheckingInterval: headLookMs };
const serialize = () => (value: unknown) => JSON.stringify(value);

export async function buildApi(ports: ApiPorts): Promise<Api> {
  const { ask, door, log } = ports;
  const enter = ({ headers, raw: { rawHeaders }, method, url }: FastifyRequest) =>
    letIn(door, { headers, rawHeaders, method, url });
  const api = bareApi(ports, async (request, reply) => {
    const entered = enter(request);
    if ("refusal" in entered) {
      if (entered.status === 401) reply.header("www-authenticate", "Bearer");
      // A request without a key is not an attempt to log in.
      if (entered.status === 401 && request.headers.authorization !== undefined) ports.onLoginRefused?.(request.ip);
      return sendRefusal(reply, entered.refusal, entered.status);
    }
    request.user = entered.user;
    request.ask = ask(entered.user.name);
    const forbidden = forbiddenOn(request, request.user);
    return forbidden === undefined ? undefined : sendRefusal(reply, forbidden);
  });
  api.addHook("onRoute", ({ url, config }) => {
    if (/^\/(v1|metrics|readyz)\b/.test(url) && config?.roles === undefined) throw new Error(`${url} names no roles`);
  });
  api.addHook("onResponse", (request, reply, done) => {
    const refusal = refusalSent(reply);
    if (refusal !== undefined) log.info(noteOf(request, refusal), "a request over HTTP was refused");
    done();
  });
  boundConnections(api.server, { log, max: ports.connectionsMax });
  descriptionRoutes(api, ports);
  pageRoutes(api);
  addRoutes(api, ports, (request) => {
    const entered = enter(request);
    // Another role may see less in the same answer.
    if ("refusal" in entered || entered.user.role !== request.user.role) return false;
    return forbiddenOn(request, entered.user) === undefined;
  });
  await api.ready();
  return api;
}

function forbiddenOn({ routeOptions, params }: FastifyRequest, user: HttpUser): Refusal | undefined {
  const { pool } = (params ?? {}) as { pool?: string }; // As paths are written.
  return forbiddenTo(user, { roles: routeOptions.config.roles, pool });
}

/** Without routes. @param enter called before anything else is done for a request. */
function bareApi({ log, certificate }: ApiPorts, enter: onRequestAsyncHookHandler = async () => {}): Api {
  const api: Api = fastify({
    // Its type would go through every route, and makes no difference there.
    ...((certificate === undefined ? { http: heads } : { https: { ...certificate, ...heads } }) as object),
    logger: false,
    bodyLimit: requestBytesMax,
    requestTimeout: arrivalMsMax,
    // Once all is answered. Until then, requests on connections that are kept are answered, too.
    forceCloseConnections: true,
    return503OnClosing: false,
    // Paths are matched exactly. The longest name is a lease's id.
    routerOptions: { maxParamLength: 256 },
    // Named here, so that Fastify does not load its own, whose types these are.
    schemaController: {
      compilersFactory: { buildValidator: () => validate, buildSerializer: () => serialize } as object,
    },
    // The request has no route yet, so its body has no type.
    frameworkErrors: (error, _request, reply) =>
      void sendRefusal(reply as unknown as AnyReply, refusalOf(error, log).refusal),
    clientErrorHandler: (error, socket) => {
      if (socket.writable) socket.end(unreadableAnswer(error));
      else socket.destroy();
    },
  });
  // Both are set by the next hook, or the request is refused there.
  api.decorateRequest("user");
  api.decorateRequest("ask");
  api.addHook("onRequest", enter);
  readRequests(api);
  boundUnread(api);
  api.setErrorHandler((error, request, reply) => {
    if (isOutside(error, request)) return notFound(request, reply);
    const { refusal, status } = refusalOf(error, log);
    return sendRefusal(reply, refusal, status);
  });
  api.setNotFoundHandler((request, reply) => notFound(request, reply));
  const methodsOf = methodsByPath(api);
  const notFound = (request: FastifyRequest, reply: AnyReply): AnyReply => {
    const [path = ""] = request.url.split("?");
    const methods = methodsOf(path);
    const allowed = methods.includes(request.method) ? [] : methods;
    if (allowed.length > 0) reply.header("allow", allowed.join(", "));
    const message = `There is no ${request.method} ${path} here. /docs has all routes.`;
    return sendRefusal(reply, refuse("invalid-request", message), allowed.length > 0 ? 405 : 404);
  };
  return api;
}

/** @param isKnown whether the sender would still be let in, with the same role. */
function addRoutes(api: Api, ports: ApiPorts, isKnown: (request: FastifyRequest) => boolean): void {
  const { ledgers, log, defects = () => ({}), families = () => [] } = ports;
  const ending = new Ending(api);
  leaseRoute(api, ending);
  outcomeRoute(api);
  proxyRoutes(api);
  poolRoute(api);
  verbRoutes(api, ending);
  loginRoutes(api, ports);
  const followers = eventRoutes(api, { ledgers, log, isKnown });
  healthRoutes(api, { ledgers, followers, defects, families, ending });
}

/**
 * The description of the routes is made for the first request that wants it, from a second app that has them all and
 * is never listened on. Making it takes a tenth of the time of a start.
 */
function descriptionRoutes(api: Api, ports: ApiPorts): void {
  let described: Promise<Api> | undefined;
  api.addHook("onClose", async () => (await described)?.close());
  for (const url of ["/docs", "/docs/*"]) {
    api.get(url, async ({ raw }, reply) => {
      described ??= describedApi(ports);
      const { routing } = await described;
      reply.hijack();
      routing(raw, reply.raw);
    });
  }
}

async function describedApi(ports: ApiPorts): Promise<Api> {
  const { describeApi } = await import("./openapi.ts");
  const api = bareApi(ports);
  await describeApi(api, ports.version);
  addRoutes(api, ports, () => true);
  await api.ready();
  return api;
}

/** For the log. The refusal's sentence may quote the request, and stays out. */
function noteOf({ method, routeOptions, params, user }: FastifyRequest, { code, field }: Refusal): object {
  const { url: route = "none" } = routeOptions;
  const { pool } = (params ?? {}) as { pool?: string }; // As paths are written.
  const known = poolNameSchema.safeParse(pool).data;
  return { code, field, method, route, pool: known, user: user?.name };
}

/** A path under /docs that leads out of the folder of its files, such as `%2e%2e`, or that no file can have. */
function isOutside(error: unknown, { url }: FastifyRequest): boolean {
  const { statusCode } = error as { statusCode?: unknown }; // As the package's errors have it.
  return url.startsWith("/docs/") && (statusCode === 400 || statusCode === 403 || statusCode === 404);
}
