// For Crawlee's HTTP crawlers: a proxy configuration that leases, and hooks that report. Crawlee asks for a proxy for
// each try of a request, so each try has a lease of its own. Crawlee is not imported, and only its published interfaces
// are used: the options of its crawlers, the hooks, and the session of a request.
import type { Outcome } from "../protocol/wire.ts";
import { hungShare, readRetryAfter } from "../transport/classify.ts";
import { codeOf } from "../transport/failure.ts";
import { RemudaFault } from "./fault.ts";
import type { Through } from "./fetch.ts";
import type { Lease } from "./held-lease.ts";
import type { OneLease } from "./kinds.ts";

export interface ThroughCrawlee extends Omit<Through, "retries"> {
  /** Redirects to follow, each as a use of its own. Default 0: none is followed. */
  redirects?: number | undefined;
  /** Whether a session of Crawlee keeps its proxy. Default true. */
  sessions?: boolean | undefined;
}

/** As much of a context of Crawlee as is used here. */
interface Context {
  request: object;
  session?: Session | undefined;
  response?: { statusCode?: number | undefined; headers?: Record<string, unknown> } | undefined;
}

interface Session {
  errorScore: number;
}

// biome-ignore lint/suspicious/noExplicitAny: each of Crawlee's crawlers has a context of its own
type Handler = (context: any, ...more: any[]) => unknown;

/** The options of a crawler that this file completes. */
export interface CrawlerOptions {
  requestHandler: Handler;
  errorHandler?: Handler | undefined;
  failedRequestHandler?: Handler | undefined;
  preNavigationHooks?: Handler[] | undefined;
  postNavigationHooks?: Handler[] | undefined;
  navigationTimeoutSecs?: number | undefined;
}

/** `never` is accepted for Crawlee's own class, whose private parts no other class can have. */
export interface ProxyConfigurationOption {
  proxyConfiguration: never;
}

export interface CrawleePort {
  lease(request: OneLease, pool: string | undefined): Promise<Lease>;
  report(pool: string, outcome: Outcome): void;
  /** Unused. */
  giveBack(lease: Lease): void;
  waitMs: number;
}

/** The try of a request. */
interface Try {
  lease: Lease;
  /** Of its latest request. */
  startedAt?: number;
  /** The first request has left. */
  isSent?: boolean;
  latencyMs?: number;
  redirects: number;
  /** got's error, whose code Crawlee does not pass on. */
  error?: unknown;
}

/** The part of got's own options that is used here. */
interface GotOptions {
  timeout: { request?: number | undefined };
}

/** As Crawlee's own. */
const navigationTimeoutSecsDefault = 30;
/** Timers may fire a little early. */
const earlyMs = 20;

export function leasedCrawler<Options extends CrawlerOptions>(
  options: Options,
  via: ThroughCrawlee,
  port: CrawleePort,
): Options & ProxyConfigurationOption {
  const { requestHandler, errorHandler, failedRequestHandler } = options as unknown as Loose;
  if (typeof requestHandler !== "function")
    throw new RemudaFault("wrong-options", "requestHandler: is missing (for a router, give the router itself).");
  const { redirects = 0 } = via;
  if (!Number.isInteger(redirects) || redirects < 0 || redirects > 20)
    throw new RemudaFault("wrong-options", "redirects: must be a whole number from 0 to 20.");
  if ("httpClient" in options && options.httpClient !== undefined)
    throw new RemudaFault("wrong-options", "httpClient: only Crawlee's own tells each request that it sends.");
  const { navigationTimeoutSecs = navigationTimeoutSecsDefault } = options;
  const tries = new WeakMap<object, Try>();

  async function newUrl(session?: string | number, { request }: { request?: object } = {}): Promise<string> {
    if (request === undefined)
      throw new RemudaFault("wrong-options", "Only Crawlee's HTTP crawlers can lease: a browser is no single request.");
    const { pool, waitMs = port.waitMs, sessions = true } = via;
    const named = sessions && session !== undefined ? { session: String(session) } : {};
    const wanted = { schemes: ["http", "https"], ...named, ...via.request, uses: 1 + redirects, waitMs };
    const lease = await port.lease(wanted as OneLease, pool);
    tries.set(request, { lease, redirects: 0 });
    return lease.url;
  }

  /** The last hook: nothing but Crawlee's own steps comes between it and the request. */
  function beforeRequest({ request }: Context, got: Record<string, unknown>): void {
    const current = tries.get(request);
    if (current === undefined) return;
    mustLast(current.lease);
    current.startedAt = performance.now();
    const given = { request: navigationTimeoutSecs * 1000, ...(got["timeout"] as GotOptions["timeout"] | undefined) };
    // A retry by got would be a use that is not counted.
    Object.assign(got, { followRedirect: redirects > 0, maxRedirects: redirects, timeout: given, retry: { limit: 0 } });
    const own = (got["hooks"] ?? {}) as Record<string, unknown[] | undefined>;
    got["hooks"] = { ...own };
    const add = (name: string, hook: unknown): void => {
      (got["hooks"] as Record<string, unknown[]>)[name] = [...(own[name] ?? []), hook];
    };
    // Before each request. got's time limit is one of each request, and not of all redirects together.
    add("beforeRequest", (sent: GotOptions): void => {
      const leftMs = mustLast(current.lease);
      sent.timeout = { ...sent.timeout, request: Math.min(sent.timeout.request ?? leftMs, leftMs) };
      current.startedAt = performance.now();
      current.isSent = true;
    });
    add("beforeRedirect", (): void => {
      mustLast(current.lease);
      current.redirects += 1;
    });
    add("beforeError", (error: unknown): unknown => {
      current.error = error;
      return error;
    });
  }

  function afterHead({ request }: Context): void {
    const current = tries.get(request);
    if (current?.startedAt !== undefined) current.latencyMs = performance.now() - current.startedAt;
  }

  /** Once for each try. */
  function ended(context: Context, how: { reason?: Outcome["reason"]; error?: Error }): void {
    const { request, response } = context;
    const current = tries.get(request);
    tries.delete(request);
    if (current === undefined) return;
    const { lease, startedAt, redirects: followed, latencyMs } = current;
    const isOver = codeOf(current.error) === "lease-over";
    if (startedAt === undefined || (isOver && current.isSent !== true)) return port.giveBack(lease);
    const { leaseId, pool } = lease;
    for (let n = 1; n <= followed; n++) port.report(pool, { leaseId, n, result: "success" });
    const tookMs = Math.round(latencyMs ?? performance.now() - startedAt);
    const isCut = performance.now() >= lease.endsAt - earlyMs && tookMs < hungShare * lease.leftMs;
    const target = new URL((request as { url: string }).url).hostname;
    const seen = { leaseId, n: followed + 1, target, latencyMs: tookMs, final: true };
    // The redirect was an answer. The lease has ended before the request that it leads to.
    if (isOver) return port.report(pool, { ...seen, result: "success" });
    port.report(pool, { ...seen, ...classOf(response, current.error, { ...how, isCut }) });
  }

  return {
    ...options,
    proxyConfiguration: {
      isManInTheMiddle: false,
      newUrl,
      newProxyInfo: async (session?: string | number, more?: { request?: object }) =>
        infoOf(await newUrl(session, more), session),
    } as never,
    preNavigationHooks: [...(options.preNavigationHooks ?? []), beforeRequest],
    postNavigationHooks: [afterHead, ...(options.postNavigationHooks ?? [])],
    requestHandler: async (context: Context, ...more: unknown[]) => {
      const { session } = context;
      let isBad = false;
      const marked = (): void => {
        isBad = true;
      };
      // Other requests have the same session at the same time, and their marks say nothing about this page.
      if (session !== undefined) context.session = observedSession(session, marked);
      try {
        await requestHandler(context, ...more);
      } finally {
        if (session !== undefined) context.session = session;
      }
      ended(context, isBad ? { reason: "blocked" } : {});
    },
    errorHandler: async (context: Context, error: Error, ...more: unknown[]) => {
      ended(context, { error });
      await errorHandler?.(context, error, ...more);
    },
    failedRequestHandler: async (context: Context, error: Error, ...more: unknown[]) => {
      ended(context, { error });
      await failedRequestHandler?.(context, error, ...more);
    },
  };
}

/** @returns how long the lease lasts. @throws RemudaFault "lease-over". */
function mustLast({ endsAt }: Lease): number {
  const leftMs = Math.floor(endsAt - performance.now());
  if (leftMs <= 0) throw new RemudaFault("lease-over", "The lease ended before its request was sent.");
  return leftMs;
}

/** @param marked called when its user calls `markBad()`, `retire()`, or another method that makes it worse. */
function observedSession(session: Session, marked: () => void): Session {
  return new Proxy(session, {
    get(known, name) {
      const value: unknown = Reflect.get(known, name, known);
      if (typeof value !== "function") return value;
      return (...given: unknown[]): unknown => {
        const before = known.errorScore;
        const result: unknown = Reflect.apply(value, known, given);
        if (known.errorScore > before) marked();
        return result;
      };
    },
  });
}

type Loose = Partial<Record<keyof CrawlerOptions, (...given: unknown[]) => unknown>>;

/** As Crawlee's own class gives it. */
function infoOf(url: string, session: string | number | undefined): object {
  const { username, password, hostname, port } = new URL(url);
  const [user, pass] = [decodeURIComponent(username), decodeURIComponent(password)];
  return {
    sessionId: session === undefined ? undefined : String(session),
    url,
    username: user,
    password: pass,
    hostname,
    port,
  };
}

/** Without a reason, the pool's policy interprets the status or the code. */
function classOf(
  response: Context["response"],
  gotError: unknown,
  { reason, error, isCut }: { reason?: Outcome["reason"]; error?: Error; isCut: boolean },
): Partial<Outcome> {
  const code = codeOf(gotError);
  const isOfSession = error?.constructor.name === "SessionError"; // Crawlee does not set its `name`.
  const { statusCode: status, headers = {} } = response ?? {};
  if (status === undefined) {
    // Crawlee's own time limit has no code, and its error no name.
    const isLate = code === "ETIMEDOUT" || error?.constructor.name === "TimeoutError";
    if (isLate) return isCut ? { reason: "client-abort" } : { error: "ETIMEDOUT" };
    if (code !== undefined) return { error: code };
    return { reason: isOfSession || gotError !== undefined ? "proxy-error" : "client-abort" };
  }
  const retryAfterMs = [429, 503].includes(status) ? readRetryAfter(String(headers["retry-after"] ?? "")) : undefined;
  const seen = { status, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  if (reason !== undefined || isOfSession) return { ...seen, reason: reason ?? "blocked" };
  return { ...seen, ...(code === undefined ? {} : { error: code }) };
}
