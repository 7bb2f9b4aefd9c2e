// Connections to NATS. Ledger, front and follower each have their own, so that a storm of requests cannot stop commits.
// A connection that is down fails fast. The library would buffer messages meanwhile and discard them at the next dial,
// so nothing is published while it is down.
import {
  createInbox,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  RequestError,
  type Subscription,
} from "@nats-io/transport-node";
import { dial } from "./dial.ts";
import { Fault } from "./fault.ts";
import { readNatsUrl } from "./nats-url.ts";

export interface Bus {
  readonly nc: NatsConnection;
  /** Whether it is connected now. */
  readonly up: boolean;
  /** Resolves when it is connected. Rejects when it is closed for good. */
  whenUp(): Promise<void>;
  /** Rejects when the connection goes down, for racing against a request. Call `cancel` when it is no longer needed. */
  whenDown(): { promise: Promise<never>; cancel: () => void };
  /** A reply subject of its own, for a request with many answers. */
  newInbox(): string;
  /** The connection has ended for good, and we did not close it. */
  onLost(callback: () => void): void;
  close(): Promise<void>;
}

export interface BusOptions {
  /** A file with the trusted certificates. If absent, the system's are trusted. */
  caFile?: string | undefined;
  /** How often the server is pinged. After two pings without an answer the connection is stale. */
  pingMs?: number;
}

const pingMs = 2000;

/** @throws Fault "retry-later" if no server answers there, "fix-setup" if the login is wrong. */
export async function openBus(url: string, name: string, options: BusOptions = {}): Promise<Bus> {
  const nc = await dial(url, {
    caFile: options.caFile,
    unanswered: (where, why) =>
      `No NATS server answers at ${where} (${why}). Is it running? (REMUDA_NATS_URL names it.)`,
    name,
    // The library's own defaults notice a dead link after minutes and give up after ten attempts.
    reconnectTimeWait: 100,
    maxReconnectAttempts: -1,
    pingInterval: options.pingMs ?? pingMs,
    maxPingOut: 2,
    timeout: 5000,
    // A server may refuse a login for a moment while it is being reconfigured. That must not end the connection for
    // good.
    ignoreAuthErrorAbort: true,
  });
  const fault = (how: "down" | "closed"): Fault =>
    new Fault("retry-later", `The connection to NATS (${name}) is ${how}.`);
  const { inboxPrefix } = readNatsUrl(url);
  let up = true;
  let closed = false;
  let closedByUs = false;
  const lostCallbacks: (() => void)[] = [];
  let waitingForUp: { resolve: () => void; reject: (cause: Error) => void }[] = [];
  const waitingForDown = new Set<(cause: Error) => void>();
  const wentDown = (): void => {
    up = false;
    for (const reject of waitingForDown) reject(fault("down"));
    waitingForDown.clear();
  };
  const closing = nc.closed().then(() => {
    closed = true;
    wentDown();
    for (const each of waitingForUp) each.reject(fault("closed"));
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
        ? Promise.reject(fault("closed"))
        : up
          ? Promise.resolve()
          : new Promise((resolve, reject) => waitingForUp.push({ resolve, reject })),
    whenDown() {
      let reject: (cause: Error) => void = () => {};
      const promise = new Promise<never>((_resolve, rejectIt) => {
        reject = rejectIt;
      });
      promise.catch(() => {}); // Possibly no caller is racing any more.
      if (up && !closed) waitingForDown.add(reject);
      else reject(fault("down"));
      return { promise, cancel: () => void waitingForDown.delete(reject) };
    },
    newInbox: () => createInbox(inboxPrefix),
    onLost: (callback) => void lostCallbacks.push(callback),
    async close() {
      closedByUs = true;
      await nc.close();
      await closing;
    },
  };
}

/** Opens a connection for each login of a service, or none. @throws as openBus does. */
export async function openBuses<Name extends string>(
  urls: Readonly<Record<Name, string>>,
  service: string,
  options: BusOptions = {},
): Promise<{ buses: Record<Name, Bus>; close: () => Promise<void> }> {
  const buses = {} as Record<Name, Bus>; // Filled below.
  const close = async (): Promise<void> => {
    await Promise.all(Object.values<Bus>(buses).map((bus) => bus.close()));
  };
  try {
    for (const name of Object.keys(urls) as Name[])
      buses[name] = await openBus(urls[name], `remuda ${service} ${name}`, options);
    return { buses, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * A request that fails at once if the connection is down or goes down. While it waits for its reply it keeps nothing of
 * its payload: an async function would.
 */
export function requestOn(
  bus: Bus,
  subject: string,
  payload: Uint8Array | string,
  options: { timeoutMs: number; headers?: MsgHdrs },
): Promise<Msg> {
  const down = bus.whenDown();
  const { timeoutMs, headers: sent } = options;
  const timed = { timeout: timeoutMs, ...(sent === undefined ? {} : { headers: sent }) };
  const reply = bus.up ? bus.nc.request(subject, payload, timed) : down.promise;
  return Promise.race([reply, down.promise]).finally(down.cancel);
}

/** Nothing subscribes to the subject, so no service has received the request. */
export function isNoResponders(error: unknown): boolean {
  return error instanceof RequestError && error.isNoResponders();
}

/** Resolves when everything that was sent before has come, and no more will; at once if the connection is down. */
export async function drained(bus: Bus, subscriptions: readonly Subscription[]): Promise<void> {
  const down = bus.whenDown();
  const all = Promise.allSettled(subscriptions.map((subscription) => subscription.drain()));
  await Promise.race([all, down.promise.catch(() => {})]);
  down.cancel();
}

/** Whether the server answers on this connection within the time. Answers come after all that it has sent before. */
export async function hasRoundTrip(bus: Bus, withinMs: number): Promise<boolean> {
  if (!bus.up) return false;
  const down = bus.whenDown();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, withinMs, false);
  });
  try {
    const trip = bus.nc.flush().then(
      () => true,
      () => false,
    );
    return await Promise.race([trip, late, down.promise]);
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    down.cancel();
  }
}
