// Connections to NATS. Ledger, front and follower each have one of their own, so that a storm of requests cannot kill
// commits. A connection that is down fails fast: the library would buffer what is published meanwhile and throw it
// away at the next dial, so nothing is published while it is down.
import { AuthorizationError, connect, type Msg, type MsgHdrs, type NatsConnection } from "@nats-io/transport-node";
import { Fault } from "./fault.ts";
import { hostsIn, maskedNatsUrl, readNatsUrl } from "./nats-url.ts";
import { trustIn } from "./tls.ts";

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

/** A machine that is too busy to log in in time is given so many tries. */
const dialsMax = 5;

export interface BusOptions {
  /** A file with what the connection trusts; else what the system does. */
  caFile?: string | undefined;
}

/** @throws Fault "retry-later" when nobody answers there, "fix-setup" when the login is wrong. */
export async function openBus(url: string, name: string, options: BusOptions = {}): Promise<Bus> {
  const nc = await dial(url, name, options);
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

async function dial(url: string, name: string, { caFile }: BusOptions): Promise<NatsConnection> {
  const tls = trustIn(caFile, hostsIn(url));
  for (let attempt = 1; ; attempt++) {
    try {
      return await connect({
        ...readNatsUrl(url),
        ...(tls === undefined ? {} : { tls }),
        name,
        // The library's own defaults notice a dead link after minutes and give up after ten attempts.
        reconnectTimeWait: 100,
        maxReconnectAttempts: -1,
        pingInterval: 2000,
        maxPingOut: 2,
        timeout: 5000,
        // It captures a stack trace per request otherwise: a quarter of its time.
        noAsyncTraces: true,
        // A server that refuses a login for a moment (it is being set up anew) must not end the connection for good.
        ignoreAuthErrorAbort: true,
      });
    } catch (cause) {
      const isLate = cause instanceof AuthorizationError && wasLate(cause);
      if (isLate && attempt < dialsMax) continue;
      if (cause instanceof AuthorizationError && !isLate) throw wrongLogin(url, cause);
      const where = maskedNatsUrl(url);
      const why = isLate
        ? `NATS at ${where} has heard no login in its time, ${dialsMax} times: one of the two machines is too busy.`
        : `No NATS server answers at ${where}. Is it running? (REMUDA_NATS_URL names it.)`;
      throw new Fault("retry-later", why, { cause });
    }
  }
}

/** The library has one error for a login that is wrong and for one that came too late (after 2 s), and only its text to tell. */
function wasLate(error: AuthorizationError): boolean {
  return /authentication timeout/i.test(error.message);
}

/** Says who was refused, and never with which password. */
export function wrongLogin(url: string, cause: unknown): Fault {
  const { user } = readNatsUrl(url);
  const who = user === undefined ? "a connection without user and password" : `the login of the user "${user}"`;
  return new Fault(
    "fix-setup",
    `NATS at ${maskedNatsUrl(url)} does not accept ${who}. Set REMUDA_NATS_URL to what "npx remuda env" prints where ` +
      "the service runs, or REMUDA_DATA_DIR (or REMUDA_NATS_USERS) to where its users file is.",
    { cause },
  );
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
