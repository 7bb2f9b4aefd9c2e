// The requests of the protocol, each made into a job for the leader. Here bodies are parsed, once; inside, their types
// are trusted. Whoever brings the request (NATS, HTTP) brings a way to answer, and knows nothing else of it.
import type { Cursor } from "../../events/commit.ts";
import {
  type LeaseReply,
  leasesListRequestSchema,
  releaseRequestSchema,
  renewRequestSchema,
} from "../../protocol/lease.ts";
import type { HistogramReply } from "../../protocol/metrics.ts";
import { type IgnoredOutcome, outcomeSchema, type ReportReply, reportRequestSchema } from "../../protocol/outcome.ts";
import { closeRequestSchema, openRequestSchema, policyRequestSchema, type StatsReply } from "../../protocol/pool.ts";
import { isRefusal, type Refusal } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import type { LeaderVerb, PoolVerb } from "../../protocol/verbs.ts";
import type { InstallationKey, Secrets } from "../../runtime/secrets.ts";
import { isResting } from "../../state-machines/candidates/group.ts";
import { release, renew } from "../../state-machines/decide/lease.ts";
import { changePolicy, close, open } from "../../state-machines/decide/pool.ts";
import { takeUp } from "../../state-machines/decide/report.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { Lease } from "../../state-machines/fold/state.ts";
import { readPolicy } from "../../state-machines/policy/policy.ts";
import { viewLease, viewPool, viewStats } from "../../state-machines/view.ts";
import { HerdRequests } from "./herd.ts";
import { eachOf, type Job, once } from "./job.ts";
import type { Leader } from "./leader.ts";
import { LeasePage } from "./lease-page.ts";
import { addressOf } from "./lease-url.ts";
import { Tokens } from "./tokens.ts";
import { Wishes } from "./wishes.ts";

export type Respond = (answer: object) => void;

export interface RequestPorts {
  leader: Leader;
  secrets: Pick<Secrets, "put" | "putAs" | "claim" | "look" | "get" | "prune">;
  key: InstallationKey;
  newLeaseId: () => string;
  /** What metrics ask beside the leader. Absent: not known here. */
  watched?: {
    /** When the first outcome after the cursor was stored; undefined: there is none. */
    outcomeStoredAfter(cursor: Cursor): Promise<number | undefined>;
    /** Of this process, each second. */
    stallMs(): HistogramReply;
  };
}

type HandledVerb = Exclude<LeaderVerb | PoolVerb, "pool.open">;
type Handle = (body: unknown, respond: Respond, arrivedAt: number) => void;

/** All requests that a pool's leader answers. */
export class Requests {
  readonly #ports: RequestPorts;
  readonly #handles: Record<HandledVerb, Handle>;
  readonly #herd: HerdRequests;
  readonly #tokens: Tokens;
  readonly #wishes: Wishes;
  constructor(ports: RequestPorts) {
    this.#ports = ports;
    this.#herd = new HerdRequests(ports);
    this.#tokens = new Tokens(ports);
    ports.leader.tokens = this.#tokens;
    this.#wishes = new Wishes({ ...ports, reply: (lease, arrivedAt) => this.#leaseReply(lease, arrivedAt) });
    ports.leader.onClosed = () => {
      this.#wishes.close();
      this.#tokens.close();
    };
    this.#handles = {
      lease: (body, respond, arrivedAt) => this.#wishes.lease(body, respond, arrivedAt),
      withdraw: (body, respond, arrivedAt) => this.#wishes.withdraw(body, respond, arrivedAt),
      renew: (body, respond, arrivedAt) => this.#renew(body, respond, arrivedAt),
      release: (body, respond, arrivedAt) => this.#release(body, respond, arrivedAt),
      report: (body, respond, arrivedAt) => this.#report(body, respond, arrivedAt),
      "proxies.add": (body, respond, arrivedAt) => void this.#herd.add(body, respond, arrivedAt),
      "proxies.list": (body, respond, arrivedAt) => this.#herd.list(body, respond, arrivedAt),
      "proxies.get": (body, respond, arrivedAt) => this.#herd.get(body, respond, arrivedAt),
      "proxies.export": (body, respond, arrivedAt) => this.#herd.export(body, respond, arrivedAt),
      "proxies.retire": (body, respond, arrivedAt) => this.#herd.retire(body, respond, arrivedAt),
      "proxies.rest": (body, respond, arrivedAt) => this.#herd.rest(body, respond, arrivedAt),
      "proxies.revive": (body, respond, arrivedAt) => this.#herd.revive(body, respond, arrivedAt),
      "leases.list": (body, respond, arrivedAt) => this.#listLeases(body, respond, arrivedAt),
      "token.get": (body, respond, arrivedAt) => this.#tokens.get(body, respond, arrivedAt),
      "token.reject": (body, respond, arrivedAt) => this.#tokens.reject(body, respond, arrivedAt),
      "token.take": (body, respond, arrivedAt) => void this.#tokens.take(body, respond, arrivedAt),
      "token.result": (body, respond, arrivedAt) => void this.#tokens.result(body, respond, arrivedAt),
      "pool.get": (_body, respond, arrivedAt) => this.#read(respond, arrivedAt, () => viewPool(this.#state)),
      "pool.policy": (body, respond, arrivedAt) => this.#policy(body, respond, arrivedAt),
      "pool.stats": (_body, respond, arrivedAt) => this.#stats(respond, arrivedAt),
      "pool.metrics": (_body, respond, arrivedAt) => void this.#metrics(respond, arrivedAt),
      "pool.close": (body, respond, arrivedAt) => this.#close(body, respond, arrivedAt),
    };
  }

  handle(verb: HandledVerb, body: unknown, respond: Respond): void {
    this.#handles[verb](body, respond, this.#ports.leader.now());
  }

  open(body: unknown, respond: Respond): void {
    const read = readAs(openRequestSchema, body);
    if ("refusal" in read) return respond(read.refusal);
    this.#settlePool(respond, (turn) =>
      open(turn, { policy: read.value.policy, keyFingerprint: this.#ports.key.fingerprint }),
    );
  }

  /** Would this open a pool that is not open? Asked before its ledger is begun. */
  judgeOpen(body: unknown): Refusal | undefined {
    const read = readAs(openRequestSchema, body);
    if ("refusal" in read) return read.refusal;
    const policy = readPolicy(
      read.value.policy ?? {},
      this.#state.policyVersion > 0 ? this.#state.rules.policy : undefined,
    );
    return "refusal" in policy ? policy.refusal : undefined;
  }

  get #state() {
    return this.#ports.leader.state;
  }

  #submit(job: Omit<Job, "grows"> & { grows?: boolean }): void {
    this.#ports.leader.submit({ grows: false, ...job });
  }

  #read(respond: Respond, arrivedAt: number, answer: () => object): void {
    this.#submit({ run: () => true, answer, respond, arrivedAt });
  }

  #leaseReply(lease: Lease, arrivedAt: number): LeaseReply {
    const token = this.#tokens.of(lease);
    return {
      ...viewLease(this.#state, lease, arrivedAt),
      ...addressOf(lease.proxy, this.#ports.secrets),
      ...(token === undefined ? {} : { token }),
    };
  }

  #renew(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(renewRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    let result: Lease | Refusal | undefined;
    this.#submit({
      run: once((turn) => {
        result = renew(turn, read.value);
      }),
      answer: () => (result === undefined || isRefusal(result) ? (result ?? {}) : this.#leaseReply(result, arrivedAt)),
      respond,
      arrivedAt,
    });
  }

  #release(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(releaseRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    let result: object = {};
    this.#submit({
      run: once((turn) => {
        result = release(turn, read.value);
      }),
      answer: () => result,
      respond,
      arrivedAt,
    });
  }

  #report(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(reportRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const reply: ReportReply = { accepted: 0, ignored: [], stop: [] };
    const reported = new Set<string>();
    this.#submit({
      run: eachOf(read.value.outcomes, (turn, raw) => {
        const ignored = this.#takeUp(turn, raw, reported);
        if (ignored === undefined) reply.accepted++;
        else reply.ignored.push(ignored);
      }),
      answer: () => ({ ...reply, stop: this.#stopsOf(reported) }),
      respond,
      arrivedAt,
    });
  }

  #takeUp(turn: Turn, raw: unknown, reported: Set<string>): IgnoredOutcome | undefined {
    const { leader } = this.#ports;
    const outcome = readAs(outcomeSchema, raw);
    if ("refusal" in outcome) {
      leader.counts.ignored("unreadable");
      return { ...namedIn(raw), why: "unreadable" };
    }
    reported.add(outcome.value.leaseId);
    const taken = takeUp(turn, outcome.value, turn.at);
    if (!("ignored" in taken)) return undefined;
    leader.counts.ignored(taken.ignored);
    return { leaseId: taken.leaseId, n: taken.n, why: taken.ignored };
  }

  /** Of the leases reported on, those still open whose proxy rests: no further use of them should be made. */
  #stopsOf(leaseIds: ReadonlySet<string>): ReportReply["stop"] {
    return [...leaseIds].flatMap((leaseId) => {
      const proxy = this.#state.leases.get(leaseId)?.proxy;
      return proxy !== undefined && isResting(proxy) ? [{ leaseId, until: proxy.until }] : [];
    });
  }

  #listLeases(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(leasesListRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const { holder, proxyId } = read.value;
    const state = this.#state;
    const page = new LeasePage(read.value, {
      leases: holder === undefined ? state.leases.values() : (state.holders.get(holder) ?? []),
      isMeant: (lease) => proxyId === undefined || lease.proxy.id === proxyId,
      view: (id) => {
        const lease = state.leases.get(id);
        return lease && { ...viewLease(state, lease, arrivedAt), ...holderOf(lease) };
      },
    });
    this.#readPage(respond, arrivedAt, page);
  }

  /** Each slice is a job of its own, behind those that wait by then. */
  #readPage(respond: Respond, arrivedAt: number, page: LeasePage<object>): void {
    this.#submit({
      run: () => true,
      answer: () => (page.look() ? { leases: page.items, ...page.next } : {}),
      respond: (answer) =>
        page.isWhole || isRefusal(answer) ? respond(answer) : this.#readPage(respond, arrivedAt, page),
      arrivedAt,
    });
  }

  #policy(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(policyRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    this.#settlePool(respond, (turn) => changePolicy(turn, read.value));
  }

  #settlePool(respond: Respond, decide: (turn: Turn) => ReturnType<typeof changePolicy>): void {
    let settled: ReturnType<typeof changePolicy> = { warnings: [] };
    this.#submit({
      run: once((turn) => {
        settled = decide(turn);
      }),
      answer: () =>
        "refusal" in settled
          ? settled.refusal
          : { ...viewPool(this.#state), ...(settled.warnings.length > 0 ? { warnings: settled.warnings } : {}) },
      respond,
      arrivedAt: this.#ports.leader.now(),
    });
  }

  #stats(respond: Respond, arrivedAt: number): void {
    const { leader } = this.#ports;
    this.#readNumbers(respond, arrivedAt, () => this.#statsNow(leader));
  }

  async #metrics(respond: Respond, arrivedAt: number): Promise<void> {
    const { leader, watched } = this.#ports;
    // What has come, else what the stream has and has not come yet.
    const nextAt =
      leader.nextOutcomeAt ?? (await watched?.outcomeStoredAfter(this.#state.cursor).catch(() => undefined));
    this.#readNumbers(respond, arrivedAt, () => ({
      stats: this.#statsNow(leader),
      ...leader.metrics.view({
        outcomeLagMs: nextAt === undefined ? 0 : Math.max(0, leader.now() - nextAt),
        stallMs: watched?.stallMs() ?? { le: [], counts: [0], sum: 0 },
      }),
    }));
  }

  /** While the choice is being worked out anew, how many can be leased is not known. */
  #readNumbers(respond: Respond, arrivedAt: number, answer: () => object): void {
    const { candidates } = this.#ports.leader;
    this.#submit({ run: () => !candidates.isRebuilding || "aside", answer, respond, arrivedAt });
  }

  #statsNow(leader: Leader): StatsReply {
    return viewStats(this.#state, leader.candidates, { sequence: leader.sequence, waiting: leader.waiting.size });
  }

  #close(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(closeRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    this.#submit({
      run: once((turn) => close(turn, read.value)),
      answer: () => viewPool(this.#state),
      respond,
      arrivedAt,
    });
  }
}

function holderOf({ wish }: Lease): { holder?: string } {
  return wish?.holder === undefined ? {} : { holder: wish.holder };
}

/** What can be told of an outcome that cannot be read. */
function namedIn(raw: unknown): { leaseId: string; n: number } {
  const { leaseId, n } = (typeof raw === "object" && raw !== null ? raw : {}) as { leaseId?: unknown; n?: unknown };
  return {
    leaseId: typeof leaseId === "string" ? leaseId.slice(0, 128) : "",
    n: typeof n === "number" && Number.isSafeInteger(n) ? n : 0,
  };
}
