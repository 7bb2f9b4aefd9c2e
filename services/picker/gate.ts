// The gate between a pool's clients and its leader. It keeps the requests that come before there is a leader, in their
// order, and answers none of them. Once open, it passes on every request as it comes. While the pool is handed over, it
// notes which requests have come, because the next leader's gate has them as well.
import { createHash } from "node:crypto";
import type { Subscription } from "@nats-io/transport-node";
import { userHeader } from "../../protocol/over-nats.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import { type LeaderVerb, verbsBy } from "../../protocol/verbs.ts";
import { type Bus, drained } from "../../runtime/bus.ts";
import type { Asked, Responder, Unread } from "../../runtime/responder.ts";

/**
 * The subject of the answer, the user that the HTTP service named, and the time that the request has waited already.
 */
export interface Sender {
  inbox: string;
  user?: string | undefined;
  waitedMs?: number | undefined;
}

/** A waiting request, as its leader passes it to the next one. */
export interface Handed {
  verb: "lease" | "token.get" | "cancel";
  body: object;
  /** Absent: no client waits for the answer. */
  from?: Sender | undefined;
}

/** The leader, as the gate sees it: the receiver of the requests. */
export interface Receiver {
  admits(verb: LeaderVerb, unread: Unread): boolean;
  /** Answers a request that is not read, because too many have come. */
  rejects(unread: Unread): void;
  take(verb: LeaderVerb, asked: Asked, from: Sender): Promise<void> | void;
}

interface GatePorts {
  pool: string;
  responder: Pick<Responder, "serve">;
  front: Bus;
}

interface Kept {
  key: string;
  bytes: number;
  pass: () => void;
}

/** Beyond these bounds a request gets no answer, and its client repeats it. */
const keptMax = 20_000;
const keptBytesMax = 32 * 1024 ** 2;

export class Gate {
  readonly #ports: GatePorts;
  #subscriptions: Subscription[] = [];
  #subscribed: Promise<void> | undefined;
  #receiver: Receiver | undefined;
  #kept: Kept[] = [];
  #keptBytes = 0;
  #isOver = false;
  #noted: string[] | undefined;
  #unanswered = 0;

  constructor(ports: GatePorts) {
    this.#ports = ports;
  }

  /** Resolves when every request that a client sends from now on comes here. Rejects if the connection goes down. */
  subscribe(): Promise<void> {
    const { pool, responder, front } = this.#ports;
    if (this.#isOver) return Promise.resolve();
    if (this.#subscribed !== undefined) return this.#subscribed;
    for (const verb of this.#subscriptions.length === 0 ? verbsBy("leader") : []) {
      const admits = (unread: Unread): boolean => this.#admits(verb, unread);
      // In a hand-over the gates compare which requests have come to them, so none may wait before a gate.
      const rejects = (unread: Unread): void => this.#receiver?.rejects(unread);
      const endpoint = { name: verb, subject: requestSubject(verb, pool), mayWait: false, admits, rejects };
      this.#subscriptions.push(responder.serve(endpoint, (asked) => this.#came(verb, asked)));
    }
    this.#subscribed = front.nc.flush();
    this.#subscribed.catch(() => {
      this.#subscribed = undefined;
    });
    return this.#subscribed;
  }

  /** Passes on the requests that have come, and then all that come. @param first called before. */
  open(receiver: Receiver, first = (): void => {}): void {
    if (this.#isOver) return;
    this.#receiver = receiver;
    first();
    for (const { pass } of this.#kept.splice(0)) pass();
  }

  /** Passes on a request that has waited, here or at the gate of the last leader. */
  async take(verb: LeaderVerb, asked: Asked, waitedMs: number): Promise<void> {
    // Its body is read already, so there must be room for it once more.
    if (this.#receiver?.admits(verb, asked) === true) await this.#pass(this.#receiver, verb, asked, waitedMs);
  }

  /** Requests that were passed on, and have no answer yet. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /** From now on the requests that come are noted. */
  note(): void {
    this.#noted ??= [];
  }

  /** Forgets the requests that another gate has noted. */
  drop(noted: readonly string[]): void {
    const counts = new Map<string, number>();
    for (const key of noted) counts.set(key, (counts.get(key) ?? 0) + 1);
    this.#kept = this.#kept.filter(({ key, bytes }) => {
      const count = counts.get(key) ?? 0;
      counts.set(key, count - 1);
      if (count > 0) this.#keptBytes -= bytes;
      return count <= 0;
    });
  }

  /** Forgets all that it keeps. */
  clear(): void {
    this.#kept = [];
    this.#keptBytes = 0;
  }

  /** Resolves when all requests that clients have sent here have come, and no more will. Returns the noted ones. */
  async shut(): Promise<string[]> {
    await drained(this.#ports.front, this.#subscriptions.splice(0));
    return this.#noted ?? [];
  }

  /** From now on passes on nothing, not even the requests that have come. */
  end(): void {
    this.#isOver = true;
    this.#kept = [];
    for (const subscription of this.#subscriptions.splice(0)) subscription.unsubscribe();
  }

  #admits(verb: LeaderVerb, unread: Unread): boolean {
    if (this.#isOver) return false;
    if (this.#receiver !== undefined) return this.#receiver.admits(verb, unread);
    return this.#kept.length < keptMax && this.#keptBytes + unread.bytes <= keptBytesMax;
  }

  #came(verb: LeaderVerb, asked: Asked): Promise<void> | void {
    const key = this.#noted === undefined && this.#receiver !== undefined ? "" : keyOf(verb, asked);
    this.#noted?.push(key);
    if (this.#receiver !== undefined) return this.#pass(this.#receiver, verb, asked);
    this.#keptBytes += asked.bytes;
    const cameOn = performance.now();
    return new Promise((resolve, reject) => {
      const waitedMs = (): number => Math.floor(performance.now() - cameOn);
      const pass = (): void => void this.take(verb, asked, waitedMs()).then(resolve, reject);
      this.#kept.push({ key, bytes: asked.bytes, pass });
    });
  }

  #pass(receiver: Receiver, verb: LeaderVerb, asked: Asked, waitedMs?: number): Promise<void> | void {
    const { inbox, header } = asked;
    const user = header(userHeader);
    this.#unanswered++;
    let isAnswered = false;
    const respond = (answer: object): void => {
      if (!isAnswered) this.#unanswered--;
      isAnswered = true;
      asked.respond(answer);
    };
    const from = { inbox, ...(user === undefined ? {} : { user }), ...(waitedMs === undefined ? {} : { waitedMs }) };
    return receiver.take(verb, { ...asked, respond }, from);
  }
}

/** Equal for a request in two gates. A client may use one inbox for many requests. */
function keyOf(verb: LeaderVerb, { inbox, body }: Asked): string {
  return createHash("sha256")
    .update(JSON.stringify([verb, inbox, body]))
    .digest("base64url")
    .slice(0, 22);
}
