// The client: manual leases, leases for the duration of a function, and `fetch`. Everything with a lifetime (the
// connection to the service, blocks, agents, outcomes under way) ends with `close()`, within a bound.
import { randomUUID } from "node:crypto";
import type { Response } from "undici";
import type { LeaseReply, LeaseRequest, LeasesGranted, Outcome, ReleaseReply, ReportReply } from "../protocol/wire.ts";
import { codeOf } from "../transport/failure.ts";
import { type Ask, askThrough } from "./ask.ts";
import { Block } from "./block.ts";
import { type CrawlerOptions, leasedCrawler, type ProxyConfigurationOption, type ThroughCrawlee } from "./crawlee.ts";
import type { AnyDispatcher } from "./dispatched.ts";
import { RemudaFault, RemudaRefusal, reportLate } from "./fault.ts";
import { type FetchInit, type FetchInput, fetchThrough, type Through, type Via } from "./fetch.ts";
import { type HeldLease, holdLease, type Lease } from "./held-lease.ts";
import { openHttp } from "./http.ts";
import type { OneLease } from "./kinds.ts";
import { openNats } from "./nats.ts";
import { agentsThrough, type NodeAgents } from "./node-agents.ts";
import { type Options, type PerCall, poolName, readOptions, type Settings } from "./options.ts";
import { Outcomes } from "./outcomes.ts";
import type { Port } from "./port.ts";
import { Traffic } from "./traffic.ts";

export { FormData, Headers, Request, Response } from "undici";
export type * from "../protocol/wire.ts";
export { ProxyFailure } from "../transport/failure.ts";
export type { AnswerClass, Classify } from "./callers-word.ts";
export type { CrawlerOptions, ThroughCrawlee } from "./crawlee.ts";
export type { AnyDispatcher } from "./dispatched.ts";
export { type FaultCode, RemudaFault, RemudaRefusal } from "./fault.ts";
export type { FetchInit, FetchInput, Through } from "./fetch.ts";
export type { HeldLease, Lease } from "./held-lease.ts";
export type { FetchLease, OneLease } from "./kinds.ts";
export type { NodeAgents } from "./node-agents.ts";
export type { FetchOptions, Options, PerCall } from "./options.ts";
export type { TokenOptions } from "./token.ts";

/** A picker that does not know `count` grants one lease. */
type OneOrMore = LeaseReply | LeasesGranted;

/** @throws RemudaFault "wrong-options", "no-connection", "not-allowed". Over HTTP, only the first request connects. */
export async function connect(options: Options = {}): Promise<Client> {
  const settings = readOptions(options, process.env);
  const { transport, tls } = settings;
  const port =
    transport.kind === "nats"
      ? await openNats(transport.url, tls)
      : openHttp(transport.url, { key: transport.key, ca: tls.ca });
  return new Client(settings, port);
}

export class Client implements AsyncDisposable {
  readonly #settings: Settings;
  readonly #port: Port;
  readonly #ask: Ask;
  readonly #outcomes: Outcomes;
  readonly #traffic: Traffic;
  /** Work that close() waits for. */
  readonly #underWay = new Set<Promise<unknown>>();
  #shut = false;
  #closing: Promise<void> | undefined;
  readonly #ending = new AbortController();

  /** Only for `connect`. */
  constructor(settings: Settings, port: Port) {
    this.#settings = settings;
    this.#port = port;
    this.#ask = askThrough(port, {
      retryMs: settings.retryMs,
      isClosed: () => this.#shut,
      track: (work) => void this.#tracked(work),
    });
    const onStop = (leaseId: string): void => this.#traffic.stop(leaseId);
    const bytesMax = (): number => port.bytesMax;
    this.#outcomes = new Outcomes({ ask: this.#ask, bytesMax, onStop, onProblem: settings.onProblem });
    this.#traffic = new Traffic({
      settings,
      outcomes: this.#outcomes,
      checkOpen: () => this.#mustBeOpen(),
      track: (work) => this.#tracked(work),
      ask: (pool, request) => this.#tracked(this.#request(pool, request, this.#ending.signal)),
      giveBack: (pool, block) => this.#tracked(this.#giveBack(pool, block, { allReported: false })),
    });
  }

  /** @throws RemudaRefusal; RemudaFault; the signal's reason. */
  async lease(request: OneLease = {}, { pool, signal }: PerCall = {}): Promise<Lease> {
    this.#mustBeOpen();
    const { lease, askedAt } = await this.#request(poolName(pool ?? this.#settings.pool), request, signal);
    return { ...lease, endsAt: askedAt + lease.leftMs };
  }

  /** So many leases, on different exits: as many as can be had at once, at least one. @throws as `lease` does. */
  async leases(count: number, request: OneLease = {}, { pool, signal }: PerCall = {}): Promise<Lease[]> {
    this.#mustBeOpen();
    const asked = this.#request<OneOrMore>(poolName(pool ?? this.#settings.pool), { ...request, count }, signal);
    const { lease, askedAt } = await asked;
    return leasesIn(lease).map((each) => ({ ...each, endsAt: askedAt + each.leftMs }));
  }

  /** The lease, with its new end. */
  async renew(lease: LeaseReply, { ttlMs, signal }: { ttlMs?: number; signal?: AbortSignal } = {}): Promise<Lease> {
    this.#mustBeOpen();
    const askedAt = performance.now();
    const body = { leaseId: lease.leaseId, ...(ttlMs === undefined ? {} : { ttlMs }) };
    const renewed = await this.#ask<LeaseReply>({ verb: "renew", pool: poolName(lease.pool), body, signal });
    return { ...renewed, endsAt: askedAt + renewed.leftMs };
  }

  /** @param used how many uses were made. Default: all of them. The remainder returns. */
  async release(
    lease: LeaseReply,
    { used, signal }: { used?: number; signal?: AbortSignal } = {},
  ): Promise<ReleaseReply> {
    this.#mustBeOpen();
    const body = { leaseId: lease.leaseId, ...(used === undefined ? {} : { used }) };
    return this.#ask<ReleaseReply>({ verb: "release", pool: poolName(lease.pool), body, signal });
  }

  /** Resolves once they are in the ledger. At most 1 000 at a time. */
  async report(outcomes: Outcome | readonly Outcome[], { pool, signal }: PerCall = {}): Promise<ReportReply> {
    this.#mustBeOpen();
    const body = { outcomes: [outcomes].flat() };
    return this.#ask<ReportReply>({ verb: "report", pool: poolName(pool ?? this.#settings.pool), body, signal });
  }

  /**
   * Leases, calls `use`, and always gives back unused uses. If no use was taken or reported, all uses count as made.
   * The first use then counts as a success if `use` returns, else as the code of its error says.
   */
  async withLease<T>(
    request: OneLease,
    use: (lease: HeldLease, signal: AbortSignal) => T | Promise<T>,
    perCall: PerCall = {},
  ): Promise<T> {
    const granted = await this.lease(request, perCall);
    let quiet = (): void => {};
    const isQuiet = new Promise<void>((resolve) => {
      quiet = resolve;
    });
    const block = new Block(granted, granted.endsAt - granted.leftMs, ({ stopped, inFlight }) => {
      if (stopped && inFlight === 0) quiet();
    });
    const cut = new AbortController();
    const { pool } = granted;
    block.onCut(() => cut.abort(new RemudaFault("lease-over", "The time of the lease is over.")));
    const { lease, reported, over } = holdLease(block, {
      cut,
      late: (n) => this.#settings.onProblem(reportLate(n, granted.leaseId)),
      report: (outcome) => void this.#outcomes.report(pool, outcome),
      fetch: (input, init, seen) => fetchThrough(this.#traffic.onlyFrom(block, { ...seen, input, init }), input, init),
    });
    let error: unknown;
    try {
      return await this.#tracked(Promise.resolve(use(lease, cut.signal)));
    } catch (thrown) {
      error = thrown;
      throw thrown;
    } finally {
      over();
      if (block.taken === 0) {
        const code = codeOf(error);
        if (error === undefined) lease.report({ result: "success" });
        else lease.report(code === undefined || code === "lease-over" ? { reason: "client-abort" } : { error: code });
        // A caller that does not count its uses may have made them all.
        block.taken = granted.uses;
      }
      block.stopped = true;
      const giveBack = async (): Promise<void> => {
        if (block.inFlight > 0) await isQuiet;
        cut.abort(new RemudaFault("lease-over", "The lease is given back."));
        await this.#giveBack(pool, block, { allReported: reported.size >= granted.uses });
      };
      // A request that is still under way holds the lease until it ends or is cut. A `use` that returns its response
      // does not have to wait for that.
      const isBusy = block.inFlight > 0;
      const givenBack = this.#tracked(giveBack());
      if (!isBusy) await givenBack;
    }
  }

  /** @throws TypeError as fetch does; RemudaRefusal if no proxy is available; RemudaFault. */
  async fetch(input: FetchInput, init?: FetchInit, via: Via = {}): Promise<Response> {
    return this.#traffic.fetch(input, init, via);
  }

  /**
   * For undici and for Node's own `fetch`: `fetch(url, { dispatcher })`. Each request that is dispatched takes a use of
   * its own. `close()` of the client ends it.
   */
  dispatcher(via: Through = {}): AnyDispatcher {
    return this.#traffic.dispatcher(via);
  }

  /** For tools on node:http, such as axios and got. Each of their requests takes a use of its own. */
  agent(via: Through = {}): NodeAgents {
    return agentsThrough(this.#traffic.dispatcher(via));
  }

  /**
   * For Crawlee's HTTP crawlers: `new HttpCrawler(remuda.crawlee({ requestHandler }))`. Each try of a request has a
   * lease of its own, and is reported when its handler has ended. @throws RemudaFault "wrong-options".
   */
  crawlee<Given extends CrawlerOptions>(options: Given, via: ThroughCrawlee = {}): Given & ProxyConfigurationOption {
    return leasedCrawler(options, via, {
      waitMs: this.#settings.fetch.waitMs,
      lease: (request, pool) => this.lease(request, { pool }),
      report: (pool, outcome) => void this.#tracked(this.#outcomes.report(pool, outcome)),
      giveBack: (lease) => this.#giveBackLate(lease.pool, lease),
    });
  }

  /** Sends pending reports, releases leases, closes connections. Takes no longer than `closeMs`. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const { closeMs } = this.#settings;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), closeMs);
    const tooLate = new Promise<void>((resolve) => late.signal.addEventListener("abort", () => resolve()));
    this.#traffic.refuse(isClosed());
    this.#ending.abort(isClosed()); // No caller waits for pending lease requests any more.
    const drained = async (): Promise<void> => {
      await this.#traffic.close(); // Requests still under way end here, and are reported.
      while (this.#underWay.size > 0 && !late.signal.aborted) await Promise.allSettled(this.#underWay);
    };
    await Promise.race([drained(), tooLate]);
    clearTimeout(timer);
    this.#shut = true;
    await this.#port.close();
  }

  #mustBeOpen(): void {
    if (this.#closing !== undefined) throw isClosed();
  }

  /** close() waits for it. */
  #tracked<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    const done = (): void => void this.#underWay.delete(work);
    work.then(done, done);
    return work;
  }

  async #request<Reply extends object = LeaseReply>(
    pool: string,
    request: LeaseRequest,
    signal?: AbortSignal,
  ): Promise<{ lease: Reply; askedAt: number }> {
    const { holder } = this.#settings;
    // Unique over all clients. It lets the service recognise a second copy as the same request.
    const requestId = request.requestId ?? randomUUID();
    const body = { ...(holder === undefined ? {} : { holder }), ...request, requestId };
    // If the request has to be sent again, the lease is counted from the first sending. At worst it is too short.
    const askedAt = performance.now();
    // Granted, but no caller waits for it. If the caller chose the requestId, a retry with it gets the lease.
    const giveBack = (reply: unknown): void => this.#giveBackLate(pool, reply);
    const late = request.requestId === undefined ? giveBack : undefined;
    const lease = await this.#ask<Reply>({ verb: "lease", pool, body, waitMs: request.waitMs ?? 0, signal, late });
    return { lease, askedAt };
  }

  /** @param reply may be a refusal. */
  #giveBackLate(pool: string, reply: unknown): void {
    for (const { leaseId } of leasesIn((reply ?? {}) as OneOrMore)) {
      if (leaseId === undefined || this.#shut) continue;
      const given = this.#ask<ReleaseReply>({ verb: "release", pool, body: { leaseId, used: 0 } });
      this.#tracked(given).catch(() => {}); // It expires by itself.
    }
  }

  /** Its outcomes go first, so that none arrives for a closed lease. */
  async #giveBack(pool: string, block: Block, { allReported }: { allReported: boolean }): Promise<void> {
    block.done();
    await this.#outcomes.flush();
    if (block.ended || (block.spent && allReported)) return;
    try {
      const body = { leaseId: block.lease.leaseId, used: block.taken };
      await this.#ask<ReleaseReply>({ verb: "release", pool, body });
    } catch (error) {
      const gone = error instanceof RemudaRefusal && error.code === "unknown-lease";
      if (!gone) this.#settings.onProblem(error as Error); // It expires by itself.
    }
  }
}

function leasesIn(reply: OneOrMore): readonly LeaseReply[] {
  return "leases" in reply ? reply.leases : [reply];
}

function isClosed(): RemudaFault {
  return new RemudaFault("closed", "This client is closed.");
}
