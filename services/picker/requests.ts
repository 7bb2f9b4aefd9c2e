// The requests of the protocol. Each is parsed here, once, and turned into a request to the engine. The transport
// (NATS, HTTP) provides a way to answer, and knows nothing else of it.
import type { z } from "zod";
import type { Cursor } from "../../events/commit.ts";
import { defaultPolicy } from "../../events/policy.ts";
import { contract } from "../../protocol/contract.ts";
import { warningsMax, withWarnings } from "../../protocol/fields.ts";
import type { HistogramReply } from "../../protocol/metrics.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import type { StatsReply } from "../../protocol/pool.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { readRequest } from "../../protocol/request.ts";
import type { LeaderVerb, PoolVerb } from "../../protocol/verbs.ts";
import type { InstallationKey, Secrets } from "../../runtime/secrets.ts";
import type { Answer, Command, Request } from "../../state-machines/command.ts";
import { readFor } from "../../state-machines/decide/pool.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { viewPool, viewProxy, viewStats } from "../../state-machines/view.ts";
import { NotAllowed, type Outbound } from "../../transport/outbound.ts";
import { Adding } from "./adding.ts";
import { exportPage, exportReply } from "./export.ts";
import type { Sender } from "./gate.ts";
import type { Call } from "./inbox.ts";
import type { Leader } from "./leader.ts";
import type { Filling } from "./page.ts";
import { leasePage, proxyPage } from "./pages.ts";
import { changedReply, Replies, reportReply } from "./replies.ts";
import { TokenExchange } from "./tokens.ts";
import { anybody, ownerFor, shownTo, type Who } from "./who.ts";

export interface RequestPorts {
  leader: Leader;
  secrets: Pick<Secrets, "put" | "putAs" | "claim" | "get" | "prune">;
  key: InstallationKey;
  /** Which addresses of token sources and proxies are allowed. */
  outbound: Outbound;
  proxiesMax?: number | undefined;
  newLeaseId: () => string;
  /** Further inputs for metrics. Absent: not known here. */
  watched?: {
    /** When the first outcome after the cursor was stored; undefined if there is none. */
    outcomeStoredAfter(cursor: Cursor): Promise<number | undefined>;
    /** How often leaders of this pool failed in this process. */
    defects(): number;
    /** Stalls of this process, sampled each second. */
    stallMs(): HistogramReply;
  };
}

/** The requests without any field. Their bodies are ignored. */
const withoutBody: ReadonlySet<z.ZodObject> = new Set(
  Object.values(contract).flatMap(({ request }) => (Object.keys(request.shape).length === 0 ? [request] : [])),
);

type HandledVerb = Exclude<LeaderVerb | PoolVerb, "pool.open">;
type Given<V extends HandledVerb> = z.infer<(typeof contract)[V]["request"]>;
type Handles = { [V in HandledVerb]: (given: Given<V>, call: Call) => Promise<void> | void };

/** All requests that a pool's leader answers. */
export class Requests {
  readonly #ports: RequestPorts;
  readonly #replies: Replies;
  readonly #adding: Adding;
  readonly #exchange: TokenExchange;
  /** When the outcomes stream was read last for the lag, in the pool's time. */
  #readAt: number;

  constructor(ports: RequestPorts) {
    this.#ports = ports;
    this.#readAt = ports.leader.now();
    this.#replies = new Replies(ports.leader.engine, ports.secrets);
    this.#adding = new Adding(ports);
    this.#exchange = new TokenExchange(ports);
  }

  readonly #handles: Handles = {
    lease: (given, call) => this.#lease(given, call),
    cancel: (given, call) => this.#ask({ type: "cancel", ...given, owner: ownerFor(call.who) }, call),
    renew: (given, call) => this.#ask({ type: "renew", ...given, owner: ownerFor(call.who) }, call),
    release: (given, call) => this.#ask({ type: "release", ...given, owner: ownerFor(call.who) }, call),
    report: ({ outcomes }, call) => this.#report(outcomes, call),
    "proxies.add": (given, call) => this.#add(given, call),
    "proxies.list": (given, call) =>
      this.#page(call, proxyPage(this.#state, given), ({ items, ...next }) => ({ proxies: items, ...next })),
    "proxies.get": ({ id }, call) => this.#look(call, () => this.#proxy(id)),
    "proxies.export": (given, call) => {
      const page = exportPage({ ...this.#ports, state: this.#state }, given);
      this.#page(call, page, ({ items, ...next }) => ({ ...exportReply(items), ...next }));
    },
    "proxies.retire": ({ ids, reason }, call) =>
      this.#change(ids, call, (proxyId) => ({ type: "retire", proxyId, reason, by: call.who.name })),
    "proxies.rest": ({ ids, forMs, reason }, call) =>
      this.#change(ids, call, (proxyId) => ({ type: "rest", proxyId, forMs, note: reason, by: call.who.name })),
    "proxies.revive": ({ ids }, call) =>
      this.#change(ids, call, (proxyId) => ({ type: "revive", proxyId, by: call.who.name })),
    "leases.list": (given, call) => {
      const page = leasePage(this.#state, given, call);
      this.#page(call, page, ({ items, ...next }) => ({ leases: items, ...next }));
    },
    "token.get": ({ proxyId, waitMs }, call) =>
      this.#ask({ type: "get-token", proxyId, deadline: call.arrivedAt + waitMs }, call),
    "token.reject": (given, call) => this.#ask({ type: "reject-token", ...given }, call),
    "token.take": (given, call) => this.#exchange.take(given, call),
    "token.result": (given, call) => this.#exchange.result(given, call),
    "pool.get": (_given, call) => this.#look(call, () => shownTo(call.who, viewPool(this.#state))),
    "pool.policy": (given, call) => {
      const refusal = this.#sourceRefused(given.policy);
      if (refusal !== undefined) this.#look(call, () => refusal);
      else this.#ask({ type: "change-policy", ...given, by: call.who.name }, call);
    },
    "pool.stats": (_given, call) => this.#count(call, () => this.#stats()),
    "pool.metrics": (_given, call) => this.#metrics(call),
    "pool.close": (given, call) =>
      this.#ask({ type: "close", ...given, by: call.who.name }, call, () => viewPool(this.#state)),
  };

  /** A body that does not match its schema is refused in its turn, like every answer. */
  handle(
    verb: HandledVerb,
    body: unknown,
    respond: Call["respond"],
    who: Who = anybody,
    bytes?: number,
    from?: Sender,
  ): Promise<void> | void {
    const { leader } = this.#ports;
    const schema: z.ZodObject = contract[verb].request;
    const handle = this.#handles[verb] as (given: unknown, call: Call) => Promise<void> | void; // Its verb's, as its schema.
    const read = withoutBody.has(schema) ? { value: {}, warnings: [] } : readRequest(schema, body);
    const arrivedAt = leader.now() - (from?.waitedMs ?? 0);
    const call = warning({ respond, arrivedAt, who, bytes, from }, read.warnings);
    if ("value" in read) return handle(read.value, call);
    if (verb === "lease") leader.engine.counts.refused(read.refusal);
    this.#look(call, () => read.refusal);
  }

  open(body: unknown, respond: Call["respond"], who: Who = anybody): void {
    const { leader, key } = this.#ports;
    const read = readRequest(contract["pool.open"].request, body);
    const call = warning({ respond, arrivedAt: leader.now(), who }, read.warnings);
    if ("refusal" in read) return call.respond(read.refusal);
    const { policy } = read.value;
    const refusal = this.#sourceRefused(policy);
    if (refusal !== undefined) return call.respond(refusal);
    this.#ask({ type: "open", policy, keyFingerprint: key.fingerprint, by: who.name }, call);
  }

  /** Why this request would not open a pool; undefined if it would. Checked before its ledger is begun. */
  refusalToOpen(body: unknown): Refusal | undefined {
    const read = readRequest(contract["pool.open"].request, body);
    if ("refusal" in read) return read.refusal;
    const present = this.#state.policyVersion > 0 ? this.#state.rules.policy : defaultPolicy;
    const policy = readFor(this.#state, read.value.policy ?? {}, present);
    return "refusal" in policy ? policy.refusal : this.#sourceRefused(read.value.policy);
  }

  /** A name's addresses are checked at each request. A literal address can be refused at once. */
  #sourceRefused(policy: unknown): Refusal | undefined {
    const { token } = (policy ?? {}) as { token?: { source?: { url?: unknown } } | null };
    const url = URL.parse(String(token?.source?.url ?? ""));
    if (url === null || this.#ports.outbound.allowsTarget(url.hostname)) return undefined;
    const field = "policy.token.source.url";
    return refuse("invalid-request", `${field}: ${new NotAllowed(url.hostname).message}`, { field });
  }

  get #state(): PoolState {
    return this.#ports.leader.engine.state;
  }

  #ask(
    request: Request,
    call: Call,
    reply = (answer: Answer): object => this.#replies.to(answer, call.arrivedAt),
  ): void {
    this.#ports.leader.submit(request, { ...call, reply });
  }

  #each(commands: readonly Command[], call: Call, reply: (each: readonly Answer[]) => object): void {
    this.#ask({ type: "each", commands }, call, (answer) => ("each" in answer ? reply(answer.each) : answer));
  }

  #look(call: Call, view: () => object): void {
    this.#ask({ type: "look" }, call, view);
  }

  /** While the candidate indexes are being rebuilt, the number of leasable proxies is not known. */
  #count(call: Call, view: () => object): void {
    this.#ask({ type: "look", counts: true }, call, view);
  }

  /** Each slice is a request of its own, queued behind the requests that wait by then. */
  #page<T>(call: Call, filling: Filling<T>, view: (page: { items: T[]; next?: string }) => object): void {
    const reply = (): object | undefined => {
      const step = filling.next();
      if (step.done === true) return view(step.value);
      this.#page(call, filling, view);
      return undefined;
    };
    this.#ports.leader.submit({ type: "look" }, { ...call, reply });
  }

  #lease(request: Given<"lease">, call: Call): void {
    const { leader, newLeaseId } = this.#ports;
    const { arrivedAt, who } = call;
    const { count } = request;
    leader.submit(
      {
        type: "lease",
        request,
        leaseId: newLeaseId(),
        more: count === undefined ? undefined : Array.from({ length: count - 1 }, newLeaseId),
        deadline: arrivedAt + request.waitMs,
        user: who.name,
        quota: who.quota,
      },
      { ...call, isLease: true, reply: (answer) => this.#replies.granted(answer, arrivedAt, count) },
    );
  }

  async #add(given: Given<"proxies.add">, call: Call): Promise<void> {
    const added = await this.#adding.add(given, call.bytes);
    if ("refusal" in added) return this.#look(call, () => added.refusal);
    const respond = (answer: object): void => {
      added.over();
      call.respond(answer);
    };
    const commands = added.commands.map((command) => ({ ...command, by: call.who.name }));
    this.#each(commands, { ...call, respond }, added.reply);
  }

  #report(outcomes: readonly unknown[], call: Call): void {
    const owner = ownerFor(call.who);
    const read = outcomes.map((outcome) => reported(outcome, owner));
    const warned = warning(call, [...new Set(read.flatMap(({ warnings }) => warnings))].slice(0, warningsMax));
    const commands = read.map(({ command }) => command);
    const unreadable = read.find(({ refusal }) => refusal !== undefined)?.refusal;
    if (unreadable === undefined || read.some(({ refusal }) => refusal === undefined))
      return this.#each(commands, warned, (each) => reportReply(this.#state, each));
    const each = read.map(({ refusal }, index): Answer => {
      const { leaseId, n } = namedIn(outcomes[index]);
      return { ignored: "unreadable", leaseId, n, field: refusal?.field };
    });
    const { ignored, ignoredCount } = reportReply(this.#state, each);
    const { field = "outcomes", message } = unreadable;
    const why = unreadable.field === undefined ? "outcomes: must be outcomes, each an object with a leaseId." : message;
    this.#look(warned, () => ({ ...refuse("invalid-request", why, { field }), ignored, ignoredCount }));
  }

  #change(ids: readonly string[], call: Call, commandFor: (proxyId: string) => Command): void {
    this.#each(ids.map(commandFor), call, (each) => changedReply(ids, each));
  }

  #proxy(id: string): object {
    const proxy = this.#state.proxies.get(id);
    if (proxy === undefined) return refuse("unknown-proxy", "No proxy of this pool has this id.");
    return viewProxy(this.#state, proxy);
  }

  async #metrics(call: Call): Promise<void> {
    const { leader, watched } = this.#ports;
    const nextAt = await this.#nextOutcomeAt();
    this.#count(call, () => ({
      stats: this.#stats(),
      ...leader.metrics.view({
        counts: leader.engine.counts,
        defects: watched?.defects() ?? 0,
        outcomeLagMs: nextAt === undefined ? 0 : Math.max(0, leader.now() - nextAt),
        stallMs: watched?.stallMs() ?? { le: [], counts: [0], sum: 0 },
      }),
    }));
  }

  /** When the next outcome to ingest was stored: one that has arrived, or one that is in the stream. */
  async #nextOutcomeAt(): Promise<number | undefined> {
    const { leader, watched } = this.#ports;
    if (watched === undefined || leader.outcomes.nextAt !== undefined) return leader.outcomes.nextAt;
    try {
      const storedAt = await watched.outcomeStoredAfter(this.#state.cursor);
      this.#readAt = leader.now();
      return storedAt;
    } catch {
      return this.#readAt; // One may have been stored since.
    }
  }

  #stats(): StatsReply {
    const { engine, last } = this.#ports.leader;
    return viewStats(engine.state, engine.candidates, { sequence: last.seq, waiting: engine.waiting.size });
  }
}

/** Names unknown fields of the request in its reply. */
function warning(call: Call, warnings: readonly string[]): Call {
  if (warnings.length === 0) return call;
  return { ...call, respond: (answer) => call.respond(withWarnings(answer, warnings)) };
}

function reported(
  raw: unknown,
  owner: string | undefined,
): { command: Command; refusal?: Refusal; warnings: readonly string[] } {
  const read = readRequest(outcomeSchema, raw);
  const { field } = "refusal" in read ? read.refusal : {};
  const command: Command =
    "refusal" in read
      ? { type: "ignore", ...namedIn(raw), why: "unreadable", field }
      : { type: "report", outcome: read.value, owner };
  return { command, ...read };
}

/** The lease and use that an unreadable outcome still names. */
function namedIn(raw: unknown): { leaseId: string; n: number } {
  const { leaseId, n } = (typeof raw === "object" && raw !== null ? raw : {}) as { leaseId?: unknown; n?: unknown };
  return {
    leaseId: typeof leaseId === "string" ? leaseId.slice(0, 128) : "",
    n: typeof n === "number" && Number.isSafeInteger(n) ? n : 0,
  };
}
