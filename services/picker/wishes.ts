// Wishes at a pool's leader: granted, refused, or kept waiting until one of both can be said, and taken back. Whoever asks
// again with the same requestId joins the wish that waits, and all of them hear the same.
import { type LeaseReply, type LeaseRequest, leaseRequestSchema, withdrawRequestSchema } from "../../protocol/lease.ts";
import { isRefusal, type Refusal, refuse } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import { type Granted, grant, judgeWish, leaseOfRequest } from "../../state-machines/decide/lease.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { Lease } from "../../state-machines/fold/state.ts";
import { poolKey } from "../../state-machines/machines/token.ts";
import type { Waiter } from "../../state-machines/queue/wait-groups.ts";
import { isPassing } from "../../state-machines/queue/waiting.ts";
import { isUnavailable } from "../../state-machines/rules/token.ts";
import { closed } from "./job.ts";
import type { Leader } from "./leader.ts";

export interface WishPorts {
  leader: Leader;
  newLeaseId: () => string;
  /** A lease as it is told to who asked. */
  reply(lease: Lease, arrivedAt: number): LeaseReply;
}

type Respond = (answer: object) => void;

/** Who asked for a waiting wish: all copies of it, and how many of them have gone. */
interface Asking {
  copies: { respond: Respond; arrivedAt: number }[];
  gone: number;
}

interface AskedWish {
  wish: LeaseRequest;
  leaseId: string;
  respond: Respond;
  arrivedAt: number;
}

export class Wishes {
  readonly #ports: WishPorts;
  /** Who is answered when a waiting wish is. */
  readonly #waiters = new Map<Waiter, Asking>();
  /** Copies of those beside the first: together no more than wishes may wait. */
  #joined = 0;
  /** Of those that have been put aside, the first under each requestId. */
  readonly #aside = new Map<string, AskedWish>();

  constructor(ports: WishPorts) {
    this.#ports = ports;
    ports.leader.onWaiterSettled = (waiter, granted) => this.#settleWaiter(waiter, granted);
    ports.leader.onWaiterOverdue = (turn, waiter) => {
      const granted = grant(turn, ports.leader.candidates, waiter.wish, waiter.leaseId);
      if ("again" in granted) return;
      ports.leader.waiting.remove(ports.leader.candidates, waiter);
      this.#settleWaiter(waiter, granted);
    };
  }

  /** The pool is closed: nothing is granted any more. */
  close(): void {
    for (const { copies } of this.#waiters.values()) for (const { respond } of copies) respond(closed());
    this.#waiters.clear();
  }

  lease(body: unknown, respond: Respond, arrivedAt: number): void {
    const { leader } = this.#ports;
    const read = readAs(leaseRequestSchema, body);
    if ("refusal" in read) {
      leader.counts.refused(read.refusal);
      return this.#refuse(read.refusal, respond, arrivedAt);
    }
    this.#submitWish({ wish: read.value, leaseId: this.#ports.newLeaseId(), respond, arrivedAt });
  }

  #submitWish(asked: AskedWish): void {
    const { leader } = this.#ports;
    const { wish, respond, arrivedAt } = asked;
    const { requestId } = wish;
    const decidable = (): void => {
      if (requestId !== undefined && this.#aside.get(requestId) === asked) this.#aside.delete(requestId);
    };
    let granted: Granted | { waits: true } = { waits: true };
    leader.submit({
      arrivedAt,
      grows: true,
      run: (turn, room) => {
        if (!room()) return false;
        // The first wish of its kind, among very many proxies: others go on while the choice for it is prepared.
        if (!leader.candidates.isReady(wish)) {
          if (requestId !== undefined && !this.#aside.has(requestId)) this.#aside.set(requestId, asked);
          return "aside";
        }
        decidable();
        const decided = this.#decideWish(turn, asked);
        if (decided === "later") return false;
        granted = decided;
        return true;
      },
      answer: () => ("waits" in granted ? {} : this.#grantedReply(granted, arrivedAt)),
      respond: (answer) => {
        decidable();
        if (!("waits" in granted) || isRefusal(answer)) respond(answer);
      },
    });
  }

  #decideWish(turn: Turn, asked: AskedWish): Granted | { waits: true } | "later" {
    const { leader } = this.#ports;
    const { waiting, candidates } = leader;
    const { wish, leaseId, respond, arrivedAt } = asked;
    const { max } = turn.state.rules.policy.waiting;
    const first =
      judgeWish(turn.state, wish) === undefined && leaseOfRequest(turn.state, wish) === undefined
        ? waiting.ofRequest(wish)
        : undefined;
    if (first !== undefined) {
      if (!first.same)
        return this.#refused(
          refuse("invalid-request", "requestId: a waiting wish has this requestId and is another.", {
            field: "requestId",
          }),
          wish,
        );
      if (this.#joined >= max) return this.#refused(tooMany(max), wish);
      this.#joined++;
      this.#waiters.get(first.waiter)?.copies.push({ respond, arrivedAt });
      return { waits: true };
    }
    const granted = grant(turn, candidates, wish, leaseId);
    if ("again" in granted) return "later";
    if ("lease" in granted) return granted;
    if (!isPassing(granted.refusal)) return this.#refused(granted.refusal, wish);
    if (!leader.ticksAreSettled) return "later";
    leader.metrics.heldBack(granted.refusal.limitedBy);
    const isHopeless =
      granted.refusal.code === "token-unavailable" && isUnavailable(turn.state, turn.state.tokens.get(poolKey));
    if (wish.waitMs === 0 || isHopeless) return this.#refused(granted.refusal, wish);
    if (waiting.size >= max) return this.#refused(tooMany(max), wish);
    const indexes = candidates.indexesFor(wish);
    if (indexes === undefined) return this.#refused(granted.refusal, wish);
    const waiter = waiting.add(candidates, indexes, { wish, leaseId, deadline: arrivedAt + wish.waitMs });
    this.#waiters.set(waiter, { copies: [{ respond, arrivedAt }], gone: 0 });
    return { waits: true };
  }

  #refused(refusal: Refusal, wish: LeaseRequest): { refusal: Refusal } {
    this.#ports.leader.counts.refused(refusal, wish);
    return { refusal };
  }

  #settleWaiter(waiter: Waiter, granted: Granted): void {
    const { leader } = this.#ports;
    const copies = this.#forget(waiter);
    if ("refusal" in granted) for (const _each of copies) leader.counts.refused(granted.refusal, waiter.wish);
    for (const { respond, arrivedAt } of copies)
      leader.afterwards(() => respond(this.#grantedReply(granted, arrivedAt)));
  }

  #forget(waiter: Waiter): Asking["copies"] {
    const { copies } = this.#waiters.get(waiter) ?? { copies: [] };
    if (this.#waiters.delete(waiter)) this.#joined -= copies.length - 1;
    return copies;
  }

  /** When the turn is stored: what is told of a wish, and counted. */
  #grantedReply(granted: Granted, arrivedAt: number): object {
    const { metrics, answeredAt } = this.#ports.leader;
    if ("again" in granted) return {}; // Nobody is answered with that.
    metrics.waitMs["lease" in granted ? "granted" : "refused"].observe(answeredAt - arrivedAt);
    return "lease" in granted ? this.#ports.reply(granted.lease, arrivedAt) : granted.refusal;
  }

  /** A job like any other, so that it comes after the wish that it takes back. */
  withdraw(body: unknown, respond: Respond, arrivedAt: number): void {
    const { leader } = this.#ports;
    const read = readAs(withdrawRequestSchema, body);
    if ("refusal" in read) return this.#refuse(read.refusal, respond, arrivedAt);
    let withdrawn = false;
    const run = (): boolean | "aside" => {
      const { requestId } = read.value;
      if (this.#aside.has(requestId)) return "aside";
      const waiter = leader.waiting.under(requestId);
      const asking = waiter && this.#waiters.get(waiter);
      if (waiter === undefined || asking === undefined) return true;
      withdrawn = true;
      leader.metrics.withdrawn();
      // Who of them has gone cannot be told: as long as one is left, all are answered.
      if (++asking.gone < asking.copies.length) return true;
      leader.waiting.remove(leader.candidates, waiter);
      const refusal = refuse("unavailable", "This wish was withdrawn.", { retryAfterMs: 1 });
      for (const copy of this.#forget(waiter)) leader.afterwards(() => copy.respond(refusal));
      return true;
    };
    leader.submit({ grows: false, run, answer: () => ({ withdrawn }), respond, arrivedAt });
  }

  /** In its turn, as every answer. */
  #refuse(refusal: Refusal, respond: Respond, arrivedAt: number): void {
    this.#ports.leader.submit({ grows: false, run: () => true, answer: () => refusal, respond, arrivedAt });
  }
}

function tooMany(max: number): Refusal {
  return refuse("overloaded", `More than ${max} wishes are waiting.`, { retryAfterMs: 1000 });
}
