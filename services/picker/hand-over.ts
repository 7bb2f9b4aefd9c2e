// A planned change of leader. The leader of a pool asks which picker takes over. The first picker that has folded the
// ledger becomes its successor. The successor subscribes to the pool's subjects, and keeps the requests that come. Then
// the leader lets no further request in, decides and answers all that it has, and takes no further turn. It hands over
// the requests that wait, and says which requests have come to both pickers. The successor claims the ledger, and
// decides the remaining ones.
//
// Nothing here is needed for safety: the ledger lets only one picker claim it, even if these messages are lost.
import type { Msg, Subscription } from "@nats-io/transport-node";
import { refuse } from "../../protocol/refusal.ts";
import { pickerSubject } from "../../protocol/subjects.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import { isInbox } from "../../runtime/responder.ts";
import type { Handed, Sender } from "./gate.ts";
import type { Caller } from "./inbox.ts";
import type { Leader } from "./leader.ts";
import type { Prepared, Served } from "./serving.ts";

/** Everything that a leader leaves to its successor. */
interface Estate {
  /** Requests that have come to both, and that the leader has taken. */
  noted: string[];
  waiting: Handed[];
}

/** A part of it. The last part says so. */
type Part = Partial<Estate> & { isLast?: true };

interface Given {
  /** Of the picker. */
  id: string;
  bus: Bus;
}

/** Folding takes a long time if nothing of the ledger is known. Meanwhile the leader still leads. */
const foldMsMax = 1000;
const settleMsMax = 1000;
const settlePauseMs = 2;
const stepMs = 500;
/** How long a successor waits to be chosen, and for its estate. */
const chosenMsMax = 2 * stepMs;
const estateMsMax = settleMsMax + 2 * stepMs;
const partBytesMax = 256 * 1024;

const successorsSubject = pickerSubject("successors");
const takingSubject = (id: string, pool: string): string => pickerSubject(`${id}.take.${pool}`);

/**
 * Resolves when the pool's next leader has all that it needs. If there is no next leader, the waiting requests are
 * refused. The leader takes no further turn.
 * @param given.shut when it resolves, only its clients' requests still come to the leader.
 */
export async function handOver(
  { pool, leader, gate }: Pick<Served, "pool" | "leader" | "gate">,
  { id, bus, shut }: Given & { shut: () => Promise<void> },
): Promise<void> {
  const successor = await successorOf(pool, { id, bus });
  gate.note();
  const isReady = successor !== undefined && (await told(bus, takingSubject(successor, pool), { queue: true }));
  const [noted] = await Promise.all([gate.shut(), shut()]);
  const until = performance.now() + settleMsMax;
  while (gate.unanswered > countWaiting(leader) && performance.now() < until) await pause(settlePauseMs);
  const leftMs = Math.max(0, until - performance.now());
  // If its last commit has no result, it does not know which requests to hand over.
  if (!(await within(leftMs + stepMs, leader.finish(leftMs)))) return;
  const waiting = waitingAt(leader);
  let isTaken = isReady;
  for (const part of partsOf({ noted, waiting }))
    isTaken &&= await told(bus, takingSubject(successor ?? "", pool), part); // There is one if it is ready.
  if (!isTaken && leader.leads && leader.isSure) refuseWaiting(leader);
}

async function successorOf(pool: string, { id, bus }: Given): Promise<string | undefined> {
  try {
    const asked = JSON.stringify({ pool, picker: id });
    const reply = await requestOn(bus, successorsSubject, asked, { timeoutMs: foldMsMax });
    return reply.json<{ picker: string }>().picker;
  } catch {
    return undefined; // No other picker runs, or none is ready in time.
  }
}

async function told(bus: Bus, subject: string, body: object): Promise<boolean> {
  return requestOn(bus, subject, JSON.stringify(body), { timeoutMs: stepMs }).then(
    () => true,
    () => false,
  );
}

/** The requests that came from clients, copies included. */
function countWaiting({ engine }: Leader): number {
  let count = 0;
  for (const { copies } of engine.waiting.all()) for (const { from } of copies) if (from !== undefined) count++;
  for (const { to } of engine.tokenWaiters.all()) if (to.from !== undefined) count++;
  return count;
}

/** In the order in which they came. */
export function waitingAt(leader: Pick<Leader, "engine" | "now">): Handed[] {
  const { waiting, tokenWaiters } = leader.engine;
  const now = leader.now();
  const sender = ({ from, arrivedAt }: Caller): Sender | undefined =>
    from && { ...from, waitedMs: Math.max(0, now - arrivedAt) };
  const leases = [...waiting.all()].flatMap(({ request, copies, cancelled }): Handed[] => {
    const { requestId } = request;
    const cancel: Handed = { verb: "cancel", body: { requestId } };
    const each = copies.map((copy): Handed => ({ verb: "lease", body: request, from: sender(copy) }));
    return [...each, ...Array<Handed>(cancelled).fill(cancel)];
  });
  const tokens = [...tokenWaiters.all()].map(({ proxyId, deadline, to }): Handed => {
    const body = { ...(proxyId === undefined ? {} : { proxyId }), waitMs: Math.max(0, deadline - to.arrivedAt) };
    return { verb: "token.get", body, from: sender(to) };
  });
  return [...leases, ...tokens];
}

function refuseWaiting({ engine }: Leader): void {
  const refusal = refuse("unavailable", "This picker is stopping.", { retryAfterMs: 1000 });
  for (const { copies } of engine.waiting.all()) for (const to of copies) to.respond(refusal);
  for (const { to } of engine.tokenWaiters.all()) to.respond(refusal);
}

/** Each fits into one message. */
function* partsOf({ noted, waiting }: Estate): Iterable<Part> {
  for (const [name, items] of Object.entries({ noted, waiting })) {
    let part: unknown[] = [];
    let bytes = 0;
    for (const item of items) {
      const size = JSON.stringify(item).length;
      if (part.length > 0 && bytes + size > partBytesMax) {
        yield { [name]: part };
        part = [];
        bytes = 0;
      }
      part.push(item);
      bytes += size;
    }
    if (part.length > 0) yield { [name]: part };
  }
  yield { isLast: true };
}

/** A picker that may succeed the leader of a pool. */
export class Successor {
  readonly #given: Given & { pool: string; respond: (answer: object) => void };
  readonly #chosen = Promise.withResolvers<void>();
  readonly #estate = Promise.withResolvers<void>();
  readonly #noted: string[] = [];
  readonly #waiting: Handed[] = [];
  #onChosen: () => Promise<void> = async () => {};

  constructor(given: Given & { pool: string; respond: (answer: object) => void }) {
    this.#given = given;
  }

  /**
   * Called when the ledger is folded. Resolves with the leader's estate, or undefined if it leaves nothing.
   * @param onChosen called if it becomes the successor, before the leader lets no further request in.
   * `isChosen`: it has become the successor. Without an estate the leader is gone.
   */
  async succeed(onChosen: () => Promise<void>): Promise<{ isChosen: boolean; estate: Estate | undefined }> {
    const { bus, id, pool, respond } = this.#given;
    this.#onChosen = onChosen;
    const callback = (error: Error | null, message: Msg): void => {
      // If a connection goes down, the leader gets no answer, and hands nothing over.
      if (error === null && isInbox(message.reply)) this.#hear(message).catch(() => {});
    };
    const subscription = bus.nc.subscribe(takingSubject(id, pool), { callback });
    try {
      await bus.nc.flush();
      respond({ picker: id });
      const isChosen = await within(chosenMsMax, this.#chosen.promise);
      const isGiven = isChosen && (await within(estateMsMax, this.#estate.promise));
      return { isChosen, estate: isGiven ? { noted: this.#noted, waiting: this.#waiting } : undefined };
    } finally {
      // It must not accept an estate that comes too late: the leader would not refuse the requests that wait.
      subscription.unsubscribe();
    }
  }

  async #hear(message: Msg): Promise<void> {
    const { queue, noted = [], waiting = [], isLast } = message.json<Part & { queue?: true }>(); // Only pickers send here.
    if (queue === true) {
      this.#chosen.resolve();
      await this.#onChosen();
    }
    // Not as arguments of one call: there may be very many.
    for (const key of noted) this.#noted.push(key);
    for (const handed of waiting) this.#waiting.push(handed);
    if (isLast === true) this.#estate.resolve();
    message.respond();
  }
}

/** Undefined: another picker succeeds the leader. Without an estate, the pool must be claimed like any other. */
export async function inherit(
  prepared: Prepared,
  { successor, signal }: { successor: Successor; signal: AbortSignal },
): Promise<Served | undefined> {
  const { isChosen, estate } = await successor.succeed(() => prepared.gate.subscribe());
  if (!isChosen || signal.aborted) return undefined;
  // The leader may have decided any of them.
  if (estate === undefined) prepared.gate.clear();
  else prepared.gate.drop(estate.noted);
  await prepared.readOn();
  const served = await prepared.finish();
  return estate === undefined ? served : { ...served, handed: estate.waiting };
}

/** Calls back when the leader of a pool looks for a successor. */
export function hearLeaving({ id, bus }: Given, onLeaving: (pool: string, successor: Successor) => void): Subscription {
  const callback = (error: Error | null, message: Msg): void => {
    if (error !== null || !isInbox(message.reply)) return;
    const { pool, picker } = message.json<{ pool: string; picker: string }>(); // Only pickers send here.
    const respond = (answer: object): void => void message.respond(JSON.stringify(answer));
    if (picker !== id) onLeaving(pool, new Successor({ id, bus, pool, respond }));
  };
  return bus.nc.subscribe(successorsSubject, { callback });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function within(ms: number, work: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  return Promise.race([work.then(() => true), late]).finally(() => clearTimeout(timer));
}
