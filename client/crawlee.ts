// For Crawlee's HTTP crawlers: a proxy configuration that leases, and hooks that report. Crawlee asks for a proxy for
// each try of a request, so each try has a lease of its own. Crawlee is not imported, and only its published interfaces
// are used: the options of its crawlers, the hooks, and the session of a request.
import type { Outcome } from "../protocol/wire.ts";
import { readRetryAfter } from "../transport/classify.ts";
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
  session?: { errorScore: number } | undefined;
  response?: { statusCode?: number | undefined; headers?: Record<string, unknown> } | undefined;
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
  startedAt?: number;
  latencyMs?: number;
  redirects: number;
  /** got's error, whose code Crawlee does not pass on. */
  error?: unknown;
}

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
    const leftMs = Math.floor(current.lease.endsAt - performance.now());
    if (leftMs <= 0) throw new RemudaFault("lease-over", "The lease ended before its request was sent.");
    current.startedAt = performance.now();
    Object.assign(got, { followRedirect: redirects > 0, maxRedirects: redirects, timeout: { request: leftMs } });
    const own = (got["hooks"] ?? {}) as Record<string, unknown[] | undefined>;
    const countRedirect = (): void => {
      current.redirects += 1;
    };
    const noteError = (error: unknown): unknown => {
      current.error = error;
      return error;
    };
    got["hooks"] = {
      ...own,
      beforeRedirect: [...(own["beforeRedirect"] ?? []), countRedirect],
      beforeError: [...(own["beforeError"] ?? []), noteError],
    };
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
    if (startedAt === undefined) return port.giveBack(lease);
    const { leaseId, pool } = lease;
    for (let n = 1; n <= followed; n++) port.report(pool, { leaseId, n, result: "success" });
    const tookMs = Math.round(latencyMs ?? performance.now() - startedAt);
    const target = new URL((request as { url: string }).url).hostname;
    const seen = { leaseId, n: followed + 1, target, latencyMs: tookMs, final: true };
    port.report(pool, { ...seen, ...classOf(response, current.error, how) });
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
      const before = context.session?.errorScore ?? 0;
      await requestHandler(context, ...more);
      // The page was no good to the handler: it has called session.markBad() or session.retire().
      const isBad = (context.session?.errorScore ?? 0) > before;
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
  { reason, error }: { reason?: Outcome["reason"]; error?: Error },
): Partial<Outcome> {
  const code = codeOf(gotError);
  const isOfSession = error?.constructor.name === "SessionError"; // Crawlee does not set its `name`.
  const { statusCode: status, headers = {} } = response ?? {};
  if (status === undefined) {
    if (code !== undefined) return { error: code };
    return { reason: isOfSession || gotError !== undefined ? "proxy-error" : "client-abort" };
  }
  const retryAfterMs = [429, 503].includes(status) ? readRetryAfter(String(headers["retry-after"] ?? "")) : undefined;
  const seen = { status, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  if (reason !== undefined || isOfSession) return { ...seen, reason: reason ?? "blocked" };
  return { ...seen, ...(code === undefined ? {} : { error: code }) };
}
