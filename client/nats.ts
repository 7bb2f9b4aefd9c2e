// The service over plain NATS. The library is loaded only here, and only if needed. A connection that is down fails
// fast: the library would keep requests meanwhile and send them much later.
import { isIP } from "node:net";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import type { NatsConnection, TlsOptions } from "@nats-io/transport-node";
import { noticeIn } from "../protocol/notice.ts";
import { isRefusal, requestBytesMax, tooLarge } from "../protocol/refusal.ts";
import { noticeSubject, requestSubject } from "../protocol/subjects.ts";
import type { Ca } from "../transport/tunnel.ts";
import { RemudaFault } from "./fault.ts";
import { endWhenStale } from "./half-open.ts";
import { masked, readNatsUrl } from "./nats-url.ts";
import { type AskedVerb, Broken, orAborted, type Port } from "./port.ts";

const connectMs = 5000;
/** How often to try if the machine is too busy to log in in time. */
const dialsMax = 5;
/** For the check whether a pool is open. */
const poolMs = 2000;
const cancelMs = 2000;

/** @throws RemudaFault "no-connection", "not-allowed". */
export async function openNats(url: string, { pingMs = 2000, ...tls }: { ca?: Ca; pingMs?: number }): Promise<Port> {
  const nats = await import("@nats-io/transport-node");
  const { encrypted, ...login } = readNatsUrl(url);
  const where = masked(url);
  const dial = (): Promise<NatsConnection> =>
    nats.connect({
      ...login,
      ...(encrypted || tls.ca !== undefined ? { tls: trustIn(tls.ca, login.servers) } : {}),
      name: "remuda-client",
      timeout: connectMs,
      // The library's own defaults notice a dead link after minutes and give up after ten attempts.
      reconnectTimeWait: 100,
      maxReconnectAttempts: -1,
      pingInterval: pingMs,
      maxPingOut: 2,
      // Otherwise it captures a stack trace per request, which takes a quarter of its time.
      noAsyncTraces: true,
      ignoreAuthErrorAbort: true,
    });
  const nc = await loggedIn(dial, where, nats);
  void endWhenStale(nc);
  let up = true;
  const cuts = new Set<(error: Broken) => void>();
  const wentDown = (): void => {
    up = false;
    for (const cut of cuts) cut(new Broken("no-connection", `The connection to NATS at ${where} broke.`));
    cuts.clear();
  };
  void (async () => {
    for await (const status of nc.status()) {
      if (status.type === "disconnect" || status.type === "staleConnection") wentDown();
      if (status.type === "reconnect") up = true;
    }
  })();
  void nc.closed().then(wentDown);
  /** By pool: called when it has a new leader. That leader does not have the requests without an answer. */
  const listeners = new Map<string, Set<() => void>>();
  const terms = new Map<string, number>();
  const onNotice = (error: Error | null, message: { subject: string; string(): string }): void => {
    if (error !== null) return; // Without the right to hear notices, a request is repeated after its timeout.
    const pool = message.subject.slice(noticeSubject("").length);
    const term = noticeIn(message.string())?.term;
    if (term === undefined || term <= (terms.get(pool) ?? 0)) return;
    terms.set(pool, term);
    for (const tell of [...(listeners.get(pool) ?? [])]) tell();
  };
  const onNewLeader = (pool: string, tell: () => void): (() => void) => {
    const ofPool = listeners.get(pool) ?? new Set();
    // Pool by pool: a user may have no more than these.
    if (!listeners.has(pool)) nc.subscribe(noticeSubject(pool), { callback: onNotice });
    listeners.set(pool, ofPool.add(tell));
    return () => void ofPool.delete(tell);
  };

  const sent = async (subject: string, body: string, timeoutMs: number): Promise<unknown> => {
    try {
      const reply = await nc.request(subject, body, { timeout: timeoutMs });
      return reply.json<unknown>();
    } catch (error) {
      if (error instanceof nats.RequestError && error.isNoResponders())
        throw new Broken("no-leader", `No service answers ${subject} at ${where}.`);
      const cause = error instanceof nats.RequestError && error.cause !== undefined ? error.cause : error;
      if (cause instanceof nats.PermissionViolationError)
        throw new RemudaFault("not-allowed", `NATS at ${where} does not allow this user ${cause.subject}.`, { cause });
      if (cause instanceof SyntaxError)
        throw new RemudaFault("not-remuda", `The answer to ${subject} from ${where} is not JSON.`, { cause });
      throw new Broken("no-answer", `No answer to ${subject} from ${where} in time.`, cause);
    }
  };
  /** There are no responders for the pool. Any picker can tell whether it is open. */
  const answered = async (verb: AskedVerb, pool: string, body: string, timeoutMs: number): Promise<unknown> => {
    try {
      return await sent(requestSubject(verb, pool), body, timeoutMs);
    } catch (error) {
      if (!(error instanceof Broken) || error.why !== "no-leader") throw error;
      const about = await sent(requestSubject("pool.get", pool), "", poolMs).catch(() => undefined);
      if (isRefusal(about) && about.code === "unknown-pool") return about;
      throw error;
    }
  };
  const bytesMax = (): number => Math.min(requestBytesMax, nc.info?.max_payload ?? requestBytesMax);
  return {
    get bytesMax() {
      return bytesMax();
    },
    async attempt({ verb, pool, body, timeoutMs, signal, late = () => {} }) {
      signal?.throwIfAborted();
      const text = JSON.stringify(body);
      const bytes = Buffer.byteLength(text);
      if (bytes > bytesMax()) return tooLarge(bytes, bytesMax());
      if (!up) throw new Broken("no-connection", `The connection to NATS at ${where} is down.`);
      let cut = (_error: Broken): void => {};
      const broken = new Promise<never>((_resolve, reject) => {
        cut = reject;
      });
      cuts.add(cut);
      const off = onNewLeader(pool, () => cut(new Broken("new-leader", `The pool ${pool} has a new leader.`)));
      const reply = answered(verb, pool, text, timeoutMs);
      reply.catch(() => {}); // If the link goes down first, the outcome of the reply no longer matters.
      try {
        return await orAborted(Promise.race([reply, broken]), signal);
      } catch (error) {
        if (signal?.aborted) reply.then(late, () => {});
        throw error;
      } finally {
        cuts.delete(cut);
        off();
      }
    },
    async cancel(pool, requestId) {
      if (!up) return;
      await sent(requestSubject("cancel", pool), JSON.stringify({ requestId }), cancelMs).catch(() => {});
    },
    onNewLeader: (pool, callback) => onNewLeader(pool, callback),
    close: () => nc.close(),
  };
}

/**
 * The library has one error for three cases: a wrong login, a login that the server did not hear in time (2 s), and an
 * expired login of an account. Only the text tells them apart.
 */
async function loggedIn(
  dial: () => Promise<NatsConnection>,
  where: string,
  nats: Pick<typeof import("@nats-io/transport-node"), "AuthorizationError" | "UserAuthenticationExpiredError">,
): Promise<NatsConnection> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await dial();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : "unknown";
      if (cause instanceof nats.AuthorizationError && /authentication timeout/i.test(why)) {
        if (attempt < dialsMax) continue;
        const message = `NATS at ${where} received no login in time, ${dialsMax} times. One of the two machines is too busy.`;
        throw new RemudaFault("no-connection", message, { cause });
      }
      if (cause instanceof nats.UserAuthenticationExpiredError || /account authentication expired/i.test(why))
        throw new RemudaFault("not-allowed", `These credentials for NATS at ${where} have expired.`, { cause });
      if (cause instanceof nats.AuthorizationError)
        throw new RemudaFault("not-allowed", `NATS at ${where} does not accept these credentials.`, { cause });
      const message = `No connection to NATS at ${where} (${why}). Is the service running?`;
      throw new RemudaFault("no-connection", message, { cause });
    }
  }
}

/**
 * If the URL names the server by its address, the library does not tell node:tls, which then checks for "localhost".
 */
function trustIn(ca: Ca | undefined, servers: readonly string[]): TlsOptions {
  const hosts = servers.map((server) => /^\w+:\/\/\[?((?<=\[)[^\]]*|[^:/]*)/.exec(server)?.[1] ?? "");
  const addresses = hosts.filter((host) => isIP(host) !== 0 || host === "localhost");
  const options = {
    ...(ca === undefined ? {} : { ca: pemOf(ca) }),
    checkServerIdentity(name: string, certificate: PeerCertificate) {
      const names = name === "localhost" && addresses.length > 0 ? addresses : [name];
      const errors = names.map((each) => checkServerIdentity(each, certificate));
      return errors.includes(undefined) ? undefined : errors[0];
    },
  };
  return options; // The library passes unknown options to node:tls.
}

function pemOf(ca: Ca): string {
  return [ca].flat().map(String).join("\n");
}
