// Connections to NATS. Ledger, front and follower each have one of their own, so that a storm of requests cannot kill
// commits. A connection that is down fails fast: the library would buffer what is published meanwhile and throw it
// away at the next dial, so nothing is published while it is down.
import type { Msg, MsgHdrs, NatsConnection } from "@nats-io/transport-node";
import { dial } from "./dial.ts";
import { Fault } from "./fault.ts";

export interface Bus {
  readonly nc: NatsConnection;
  /** Is it connected now? */
  readonly up: boolean;
  /** Resolves when it is connected; rejects when it is closed for good. */
  whenUp(): Promise<void>;
  /** Rejects when the connection goes down; for racing against a request. Take it back with `cancel`. */
  whenDown(): { promise: Promise<never>; cancel: () => void };
  onUp(callback: () => void): void;
  /** The connection has ended for good, and not by our doing. */
  onLost(callback: () => void): void;
  close(): Promise<void>;
}

export interface BusOptions {
  /** A file with what the connection trusts; else what the system does. */
  caFile?: string | undefined;
}

/** @throws Fault "retry-later" when nobody answers there, "fix-setup" when the login is wrong. */
export async function openBus(url: string, name: string, options: BusOptions = {}): Promise<Bus> {
  const nc = await dial(url, {
    caFile: options.caFile,
    nobody: (where, why) => `No NATS server answers at ${where} (${why}). Is it running? (REMUDA_NATS_URL names it.)`,
    name,
    // The library's own defaults notice a dead link after minutes and give up after ten attempts.
    reconnectTimeWait: 100,
    maxReconnectAttempts: -1,
    pingInterval: 2000,
    maxPingOut: 2,
    timeout: 5000,
    // A server that refuses a login for a moment (it is being set up anew) must not end the connection for good.
    ignoreAuthErrorAbort: true,
  });
  let up = true;
  let closed = false;
  let closedByUs = false;
  const lostCallbacks: (() => void)[] = [];
  const upCallbacks: (() => void)[] = [];
  let waitingForUp: { resolve: () => void; reject: (cause: Error) => void }[] = [];
  const waitingForDown = new Set<(cause: Error) => void>();
  const wentDown = (): void => {
    up = false;
    for (const reject of waitingForDown) reject(new Fault("retry-later", `The connection to NATS (${name}) is down.`));
    waitingForDown.clear();
  };
  const closing = nc.closed().then(() => {
    closed = true;
    wentDown();
    for (const each of waitingForUp)
      each.reject(new Fault("retry-later", `The connection to NATS (${name}) is closed.`));
    waitingForUp = [];
    if (!closedByUs) for (const callback of lostCallbacks) callback();
  });
  void (async () => {
    for await (const status of nc.status()) {
      if (status.type === "disconnect" || status.type === "staleConnection") wentDown();
      if (status.type === "reconnect") {
        up = true;
        for (const each of waitingForUp) each.resolve();
        waitingForUp = [];
        for (const callback of upCallbacks) callback();
      }
    }
  })();
  return {
    nc,
    get up() {
      return up && !closed;
    },
    whenUp: () =>
      closed
        ? Promise.reject(new Fault("retry-later", `The connection to NATS (${name}) is closed.`))
        : up
          ? Promise.resolve()
          : new Promise((resolve, reject) => waitingForUp.push({ resolve, reject })),
    whenDown() {
      let reject: (cause: Error) => void = () => {};
      const promise = new Promise<never>((_resolve, rejectIt) => {
        reject = rejectIt;
      });
      promise.catch(() => {}); // Nobody may be racing any more.
      if (up && !closed) waitingForDown.add(reject);
      else reject(new Fault("retry-later", `The connection to NATS (${name}) is down.`));
      return { promise, cancel: () => void waitingForDown.delete(reject) };
    },
    onUp: (callback) => void upCallbacks.push(callback),
    onLost: (callback) => void lostCallbacks.push(callback),
    async close() {
      closedByUs = true;
      await nc.close();
      await closing;
    },
  };
}

/** A request that fails at once when the connection is, or goes, down. */
export async function requestOn(
  bus: Bus,
  subject: string,
  payload: Uint8Array | string,
  options: { timeoutMs: number; headers?: MsgHdrs },
): Promise<Msg> {
  const down = bus.whenDown();
  try {
    if (!bus.up) return await down.promise;
    const { timeoutMs, headers: sent } = options;
    const reply = bus.nc.request(subject, payload, {
      timeout: timeoutMs,
      ...(sent === undefined ? {} : { headers: sent }),
    });
    reply.catch(() => {}); // When the link goes down first, its own end no longer matters.
    return await Promise.race([reply, down.promise]);
  } finally {
    down.cancel();
  }
}
