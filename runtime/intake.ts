// Decides when each request that has come is handled. One turn of the event loop handles a bounded number of them,
// because the other connections of this process must be read as well. Requests beyond that wait in groups. The groups
// take turns, so a flood in one group delays each other group by one request at a time. Some requests may not wait,
// because their order over all connections counts. Their number is bounded where they are decided.
//
// A request beyond the bounds is rejected, unread, and so are large ones beyond their bound. Beyond a number of
// rejections in one second, requests are dropped without an answer: a flood that is answered in full would keep this
// process and the NATS server busy for seconds after its end.

export interface Arrival {
  /** Requests of one group may delay each other. */
  group: string;
  /** With its headers. */
  bytes: number;
  /** False: it is handled at once, or rejected. */
  mayWait: boolean;
  /** At most this many requests of the group go on at the same time. Absent: 256. */
  atOnceMax?: number | undefined;
  /** A promise, if it goes on after it has returned. */
  run(): Promise<void> | undefined | void;
  /** Called instead of `run`. @param given.isDropped without an answer. */
  reject(given: { isDropped: boolean }): void;
  /** It will wait: keeps the needed parts, and not the piece of memory in which it came. */
  keep(): void;
}

/** At most this much in one turn of the event loop, and one request more. */
const turnMax = { requests: 500, bytes: 256 * 1024 };
/** Of the requests that wait. */
const groupMax = { requests: 5000, bytes: 8 * 1024 ** 2 };
const allMax = { requests: 20_000, bytes: 32 * 1024 ** 2 };
/** A client may invent senders. Beyond this number, groups share one. */
const groupsMax = 200;
const atOnceMaxUsual = 256;
/** While requests of the group are rejected, at most this many go on at the same time. */
const atOnceMaxRejecting = 2;
/** After this time, a request no longer counts as one that goes on. */
const underWayMsMax = 30_000;
/** Reading a request of this size takes as long as reading a hundred small ones. */
export const largeBytes = 32 * 1024;
/** Of large requests, in one second. Reading as much takes about a quarter of it. */
const largeMax = { group: 16 * 1024 ** 2, all: 32 * 1024 ** 2 };
/** Rejections that are answered, in one second. */
const answeredMax = 1000;
const secondMs = 1000;

class Group {
  readonly waiting: Arrival[] = [];
  bytes = 0;
  underWay = 0;
  rejectedOn = Number.NEGATIVE_INFINITY;
}

/** Of this process. A test has its own. */
interface Loop {
  /** Calls back in the next turn of the event loop. */
  soon(callback: () => void): void;
  /** Returns a function that cancels it. */
  after(ms: number, callback: () => void): () => void;
  monotonic(): number;
}

const own: Loop = {
  soon: setImmediate,
  after(ms, callback) {
    const timer = setTimeout(callback, ms).unref();
    return () => clearTimeout(timer);
  },
  monotonic: () => performance.now(),
};

export class Intake {
  readonly #loop: Loop;
  readonly #groups = new Map<string, Group>();
  #all = { requests: 0, bytes: 0 };
  /** Of the present turn of the event loop. */
  #turn = { requests: 0, bytes: 0, on: 0 };
  /** Of the present second. `large`: bytes of large requests, by group. */
  readonly #second = { until: Number.NEGATIVE_INFINITY, rejections: 0, allLarge: 0, large: new Map<string, number>() };
  #hasTurn = false;

  constructor(loop: Loop = own) {
    this.#loop = loop;
  }

  take(arrival: Arrival): void {
    this.#begin();
    if (arrival.bytes >= largeBytes && !this.#admitsLarge(arrival)) return this.#reject(arrival);
    if (!arrival.mayWait) return void arrival.run();
    const name = this.#groupOf(arrival);
    const group = this.#groups.get(name) ?? new Group();
    if (group.waiting.length === 0 && this.#mayRun(group, arrival)) return this.#run(name, group, arrival);
    if (!hasRoom(group, arrival.bytes) || !this.#hasRoom(arrival.bytes)) {
      group.rejectedOn = this.#turn.on;
      return this.#reject(arrival);
    }
    arrival.keep();
    this.#groups.set(name, group);
    group.waiting.push(arrival);
    group.bytes += arrival.bytes;
    this.#all.requests++;
    this.#all.bytes += arrival.bytes;
  }

  #admitsLarge({ group, bytes }: Arrival): boolean {
    const second = this.#second;
    const all = second.allLarge + bytes;
    const ofGroup = (second.large.get(group) ?? 0) + bytes;
    if (all > largeMax.all || ofGroup > largeMax.group) return false;
    second.allLarge = all;
    second.large.set(group, ofGroup);
    return true;
  }

  #reject(arrival: Arrival): void {
    arrival.reject({ isDropped: this.#second.rejections++ >= answeredMax });
  }

  #groupOf({ group }: Arrival): string {
    return this.#groups.size < groupsMax || this.#groups.has(group) ? group : "";
  }

  #hasRoom(bytes: number): boolean {
    return this.#all.requests < allMax.requests && this.#all.bytes + bytes <= allMax.bytes;
  }

  #mayRun({ underWay, rejectedOn }: Group, { atOnceMax = atOnceMaxUsual }: Arrival): boolean {
    const isRejecting = this.#turn.on - rejectedOn < secondMs;
    const most = isRejecting ? Math.min(atOnceMax, atOnceMaxRejecting) : atOnceMax;
    return this.#turn.requests < turnMax.requests && this.#turn.bytes < turnMax.bytes && underWay < most;
  }

  #run(name: string, group: Group, arrival: Arrival): void {
    this.#turn.requests++;
    this.#turn.bytes += arrival.bytes;
    const done = arrival.run();
    if (done === undefined) return;
    group.underWay++;
    this.#groups.set(name, group);
    let isOver = false;
    const settled = (): void => {
      if (isOver) return;
      isOver = true;
      cancel();
      group.underWay--;
      this.#forget(name, group);
      if (group.waiting.length > 0) this.#begin();
    };
    const cancel = this.#loop.after(underWayMsMax, settled);
    done.then(settled, settled);
  }

  /** Once in a turn of the event loop: the next turn handles what waits. */
  #begin(): void {
    if (this.#hasTurn) return;
    this.#hasTurn = true;
    this.#note();
    this.#loop.soon(() => {
      this.#hasTurn = false;
      this.#turn = { requests: 0, bytes: 0, on: 0 };
      this.#note();
      this.#goOn();
    });
  }

  #note(): void {
    const on = this.#loop.monotonic();
    this.#turn.on = on;
    if (on < this.#second.until) return;
    this.#second.until = on + secondMs;
    this.#second.rejections = 0;
    this.#second.allLarge = 0;
    this.#second.large.clear();
  }

  #goOn(): void {
    // A group that had its turn is put at the end, so this loop comes to it again.
    for (const [name, group] of this.#groups) {
      const [next] = group.waiting;
      if (next === undefined || !this.#mayRun(group, next)) continue;
      this.#begin();
      group.waiting.shift();
      group.bytes -= next.bytes;
      this.#all.requests--;
      this.#all.bytes -= next.bytes;
      this.#groups.delete(name);
      this.#groups.set(name, group);
      this.#run(name, group, next);
      this.#forget(name, group);
    }
  }

  #forget(name: string, { waiting, underWay }: Group): void {
    if (waiting.length === 0 && underWay === 0) this.#groups.delete(name);
  }
}

function hasRoom(group: Group, bytes: number): boolean {
  return group.waiting.length < groupMax.requests && group.bytes + bytes <= groupMax.bytes;
}
