// The engine of a pool: one pure turn. The state, the time, the chance, outcomes and requests come in. Events, answers
// and the number of ingested outcomes go out. A driver has its own `To` type that says where an answer goes.
//
// The order within a turn is fixed (docs/decisions/0003): outcomes, because they may end a lease or begin a rest; events
// that time has made due; waiting requests; new requests; recorded refusals; the signed head. After a claim, every outcome
// stored before it is ingested before anything expires, ends or is granted.
import type { Cursor } from "../events/commit.ts";
import type { Event } from "../events/event.ts";
import type { Outcome } from "../protocol/outcome.ts";
import { type Refusal, refuse } from "../protocol/refusal.ts";
import { Candidates, commonest } from "./candidates/candidates.ts";
import type { Answer, Command, Request, SignedHead, StoredToken } from "./command.ts";
import { headDueAt } from "./decide/head.ts";
import { closeWhenDrained } from "./decide/pool.ts";
import { tick, wakeAt } from "./decide/timers.ts";
import { recoverTokens } from "./decide/token-result.ts";
import { Turn } from "./decide/turn.ts";
import { decide } from "./decide.ts";
import { endCommit } from "./fold/evolve.ts";
import type { PoolState } from "./fold/state.ts";
import { Counts } from "./queue/counts.ts";
import type { QuotaPool, Quotas } from "./queue/quotas.ts";
import { type Asked, type Decided, RequestQueue } from "./queue/requests.ts";
import { TokenWaiters } from "./queue/token-waiters.ts";
import { WaitingRequests } from "./queue/waiting.ts";

/** One message of the outcomes stream. */
export interface StoredOutcomes {
  seq: number;
  storedAt: number;
  /** undefined: it cannot be read, and is only counted. */
  outcomes: readonly (Outcome | undefined)[];
}

export interface TurnInput<To> {
  /** The pool's time in ms. Never before that of an earlier turn. */
  at: number;
  /** 32 hex digits. */
  chance: string;
  /** 22 characters, unguessable. */
  newId(): string;
  /** The driver's name in the ledger, and the version of Remuda. Its first turn claims the ledger. */
  claim?: string | undefined;
  version?: string | undefined;
  /** In the order of the stream, from the cursor on. */
  outcomes: readonly StoredOutcomes[];
  requests: readonly Asked<To>[];
  /** Whether the commit has room for more, in this share of it. Absent: in the whole. */
  hasRoom(share?: number): boolean;
  onEvent?: (event: Event) => void;
  /**
   * The leader's last commit was acknowledged recently. If not, refusals are recorded at once: their commit proves that
   * it still leads.
   */
  proven: boolean;
  /** A commit is needed as proof that the leader still leads. If there is no other event, the signed head is stored. */
  mustProve?: boolean;
  /** Signature of the last commit, if one is due or needed. */
  head?: SignedHead | undefined;
  /** The stored values, by token id. Only a new leader needs them, until it has recovered its tokens. */
  storedTokens?: ReadonlyMap<string, StoredToken> | undefined;
}

/** The command that a turn was deciding: a request, whose answer goes to all of `to`, or an outcome of the stream. */
export type Undecided<To> =
  | { request: Request; to: readonly To[] }
  | { outcome: Outcome; place: { seq: number; storedAt: number; index: number } };

export interface Reply<To> {
  to: To;
  answer: Answer;
}

export interface TurnOutput<To> {
  events: readonly Event[];
  /** Undefined: nothing was drawn. */
  chance: string | undefined;
  cursor: Cursor;
  /** How many of the messages are ingested completely. */
  ingested: number;
  /** To be sent once the events are stored. Without events: once it is proven that the leader still leads. */
  answers: readonly Reply<To>[];
  /** There is more to do at once. */
  more: boolean;
  /** The pool was closed. The answers cover all requests that still waited. There is no further turn. */
  closed: boolean;
}

/**
 * The share of a turn that outcomes get while a request waits. Decisions that are due by time may need half of the
 * turn, so this leaves some room for requests in any case. Ignored outcomes are not events, but still take time. So the
 * number of outcomes has a bound as well.
 */
const outcomesShare = 0.4;
const outcomesMaxBesideRequests = 500;

export class Engine<To> {
  readonly state: PoolState;
  readonly candidates: Candidates;
  readonly counts = new Counts();
  readonly waiting: WaitingRequests<To>;
  readonly tokenWaiters: TokenWaiters<To>;
  readonly requests = new RequestQueue<To>();
  #answers: Reply<To>[] = [];
  readonly #tell = (to: To, answer: Answer): void => void this.#answers.push({ to, answer });
  /** The last outcome that was stored when the ledger was claimed. */
  #upTo: { seq: number; storedAt: number } | undefined;
  #serves = false;
  #hasRecovered = false;
  /** Whether all events that time has made due are decided. Only then may a request be refused. */
  #isSettled = false;
  /** The request, and the outcome of the stream, that is being decided. */
  #deciding: Asked<To> | undefined;
  #ingesting: StoredOutcomes | undefined;
  #ingestingIndex = 0;

  readonly #quotas: Quotas | undefined;
  readonly #counted: QuotaPool;

  /**
   * @param quotas those of the process's pools. Absent: users have none.
   * @param candidates those of the state, if it has some.
   */
  constructor(state: PoolState, quotas?: Quotas, candidates = new Candidates(state)) {
    this.state = state;
    this.#quotas = quotas;
    this.candidates = candidates;
    this.waiting = new WaitingRequests(state, this.candidates, this.counts, quotas);
    this.tokenWaiters = new TokenWaiters(state, this.candidates, this.waiting.refreshes);
    this.#counted = { state, waiting: () => this.waiting.copies() };
    quotas?.add(this.#counted);
  }

  /** Call it when the driver no longer leads the pool. */
  end(): void {
    this.#quotas?.remove(this.#counted);
  }

  /**
   * After the claim: the last stored outcome, if any. Until it is ingested, nothing expires, ends or is granted. May be
   * called again: if the outcome is gone by now (a broker that crashed, a purge), there is less to wait for.
   */
  catchUp(last: { seq: number; storedAt: number } | undefined): void {
    this.#upTo ??= last;
    if (last === undefined || isPast(this.state.cursor, last)) this.#serves = true;
  }

  /** Whether every outcome stored before the claim is ingested. */
  get serves(): boolean {
    if (this.#upTo !== undefined && isPast(this.state.cursor, this.#upTo)) this.#serves = true;
    return this.#serves;
  }

  /** Whether the tokens of the state have been compared with the stored values, after the claim. */
  get hasRecovered(): boolean {
    return this.#hasRecovered;
  }

  /**
   * After a turn that threw: the command that it was deciding. Undefined: none, so the state alone made it fail. The
   * engine must not take another turn.
   */
  get undecided(): Undecided<To> | undefined {
    const { granting } = this.waiting;
    if (granting !== undefined) {
      const { request, leaseId, deadline, user, copies } = granting;
      return { request: { type: "lease", request, leaseId, deadline, user }, to: copies };
    }
    if (this.#deciding !== undefined) return { request: this.#deciding.request, to: [this.#deciding.to] };
    if (this.#ingesting === undefined) return undefined;
    const { seq, storedAt, outcomes } = this.#ingesting;
    const index = this.#ingestingIndex;
    const outcome = outcomes[index];
    return outcome && { outcome, place: { seq, storedAt, index } };
  }

  /** Before the claim: builds the most frequent indexes in steps. Returns whether there is another step. */
  prepare(): boolean {
    const common = commonest(this.state);
    if (!this.candidates.isReady(common) && this.candidates.build()) return true;
    const index = this.candidates.indexFor(common);
    if (index !== undefined) this.candidates.pin({ plain: index }, 1);
    return false;
  }

  turn(input: TurnInput<To>): TurnOutput<To> {
    const { state, candidates } = this;
    const { claim, requests, proven } = input;
    const turn = new Turn(state, { ...input, candidates, quotas: this.#quotas });
    // A pool without a ledger has nothing to catch up with. It is claimed and opened in one commit.
    const serves = this.serves || (claim !== undefined && state.commits === 0);
    // A closed pool is claimed and opened in one commit as well: a claim alone would pass for an open pool.
    const isClosed = claim !== undefined && state.commits > 0 && !state.opened;
    const opener = isClosed ? requests.find(({ request }) => request.type === "open") : undefined;
    for (const asked of requests) if (asked !== opener) this.requests.push(asked);
    if (claim !== undefined) decide(turn, { type: "claim", leader: claim, version: input.version });
    this.#deciding = opener;
    if (opener?.request.type === "open") this.#tell(opener.to, this.#decide(turn, opener.request) as Answer); // At once.
    this.#deciding = undefined;
    const { cursor, ingested } = this.#ingest(turn, input);
    this.#ingesting = undefined;
    if (serves) this.#serve(turn, input);
    if (input.head !== undefined && headDueAt(state) <= turn.at) decide(turn, { type: "sign-head", head: input.head });
    this.counts.record(turn, { proven });
    if (input.head !== undefined && input.mustProve === true && turn.events.length === 0)
      decide(turn, { type: "sign-head", head: input.head });
    const closed = !state.opened && turn.events.some((event) => event.type === "PoolClosed");
    if (closed) this.#tellAll(refuse("unknown-pool", "The pool has been closed."));
    if (turn.events.length > 0) endCommit(state, { n: state.commits + 1, cursor });
    const isBuilding = candidates.build();
    const answers = this.#answers;
    this.#answers = [];
    const more = isBuilding || ingested < input.outcomes.length || (this.serves && this.#hasWork());
    return { events: turn.events, chance: turn.chance, cursor, ingested, answers, more, closed };
  }

  /** When time alone calls for a turn; Infinity: never. */
  wakeAt(): number {
    if (!this.serves) return Infinity;
    return Math.min(wakeAt(this.state), this.waiting.wakeAt(), this.tokenWaiters.wakeAt(), this.counts.dueAt);
  }

  /** While a request waits, outcomes get a share of the turn. Otherwise a backlog of them would starve requests. */
  #ingest(turn: Turn, input: TurnInput<To>): { cursor: Cursor; ingested: number } {
    const { outcomes: messages } = input;
    const isAsked = this.requests.size > 0 || this.waiting.isDue;
    let left = isAsked && this.serves ? outcomesMaxBesideRequests : Infinity;
    const hasRoom = (): boolean => (left === Infinity ? input.hasRoom() : left-- > 0 && input.hasRoom(outcomesShare));
    let { cursor } = turn.state;
    let taken = cursor.taken ?? 0;
    for (const [ingested, message] of messages.entries()) {
      const { seq, storedAt, outcomes } = message;
      for (; taken < outcomes.length && hasRoom(); taken++) {
        this.#ingesting = message;
        this.#ingestingIndex = taken;
        this.#ingestOne(turn, outcomes[taken], storedAt);
      }
      if (taken < outcomes.length) {
        if (taken > 0) cursor = { seq: cursor.seq, at: cursor.at, taken };
        return { cursor, ingested };
      }
      taken = 0;
      cursor = { seq, at: storedAt };
    }
    return { cursor, ingested: messages.length };
  }

  #ingestOne(turn: Turn, outcome: Outcome | undefined, storedAt: number): void {
    if (outcome === undefined) this.counts.ignored("unreadable");
    else this.#decide(turn, { type: "report", outcome, storedAt });
  }

  #serve(turn: Turn, input: TurnInput<To>): void {
    const { hasRoom, storedTokens } = input;
    if (!this.#hasRecovered && storedTokens !== undefined) {
      this.#hasRecovered = recoverTokens(turn, storedTokens, hasRoom);
      if (!this.#hasRecovered) return;
    }
    this.#isSettled = tick(turn);
    this.#serveWaiting(turn, hasRoom);
    // Ids of lease requests that are put aside in this turn. A cancel command for one of them comes after it.
    const aside = new Set<string>();
    this.requests.run(turn, {
      hasRoom,
      begin: (asked) => {
        this.#deciding = asked;
      },
      decide: (request, to) => this.#decideRequest(turn, request, { to, hasRoom, aside }),
      decidePart: (command) => (hasRoom() ? this.#decide(turn, command) : "later"),
      answer: this.#tell,
      moved: () => this.#serveWaiting(turn, hasRoom),
    });
    this.#deciding = undefined;
    closeWhenDrained(turn);
  }

  #serveWaiting(turn: Turn, hasRoom: () => boolean): void {
    this.tokenWaiters.regroup();
    if (this.candidates.isRebuilding) return this.tokenWaiters.serve(turn, this.#tell);
    for (;;) {
      this.waiting.serve(turn, hasRoom, this.#tell, { isSettled: this.#isSettled });
      this.tokenWaiters.serve(turn, this.#tell);
      const overdue = this.#isSettled ? this.waiting.overdue(turn.at) : undefined;
      if (overdue === undefined || !hasRoom()) return;
      const before = turn.events.length;
      this.waiting.serveOverdue(turn, overdue, this.#tell);
      // Each round answers the request or decides an event, and the turn's room bounds the number of events. A round
      // that does neither would repeat for ever.
      if (turn.events.length === before && this.waiting.overdue(turn.at) === overdue)
        throw new Error("a lease request has waited long enough, and is neither granted nor refused");
    }
  }

  #decideRequest(
    turn: Turn,
    request: Exclude<Request, { type: "each" }>,
    { to, hasRoom, aside }: { to: To; hasRoom: () => boolean; aside: Set<string> },
  ): Decided {
    switch (request.type) {
      case "look":
        return request.counts === true && this.candidates.isRebuilding ? "aside" : { settled: this.#isSettled };
      case "cancel":
        if (aside.has(request.requestId)) return "aside";
        return { found: this.waiting.cancel(request, this.#tell) };
    }
    if (!hasRoom()) return "later";
    switch (request.type) {
      case "lease": {
        const { requestId } = request.request;
        // The first request of its kind, among very many proxies. Other requests go on while its candidate index is
        // built.
        if (this.candidates.isReady(request.request))
          return this.waiting.ask(turn, request, to, { isSettled: this.#isSettled });
        if (requestId !== undefined) aside.add(requestId);
        return "aside";
      }
      case "get-token":
        return this.tokenWaiters.ask(turn, { proxyId: request.proxyId, deadline: request.deadline, to });
      default:
        return this.#decide(turn, request);
    }
  }

  #decide(turn: Turn, command: Command): Answer | "later" {
    const answer = decide(turn, command);
    if (answer !== "later" && "ignored" in answer) this.counts.ignored(answer.ignored);
    return answer;
  }

  #tellAll(refusal: Refusal): void {
    this.waiting.close(this.#tell, refusal);
    this.tokenWaiters.close(this.#tell, refusal);
    for (const to of this.requests.takeAll()) this.#tell(to, { refusal });
  }

  #hasWork(): boolean {
    return this.requests.size > 0 || this.waiting.isDue || !this.#isSettled;
  }
}

/** Time is compared first: after a crash of the broker, sequences begin lower again. */
function isPast(cursor: Cursor, message: { seq: number; storedAt: number }): boolean {
  return cursor.at > message.storedAt || (cursor.at === message.storedAt && cursor.seq >= message.seq);
}
