// The service as it is on the wire: real processes, reached only by a TCP socket and the NATS text protocol. No type,
// word or number is taken from the service's own code. Everything here follows the contract.

import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Environment, type RemudaProcess, startRemuda } from "../kit/process.ts";
import { type Body, connectRaw, type RawMessage, type RawNats } from "../kit/raw-nats.ts";

/** Protocol §1. */
export const numbers = {
  "invalid-request": 400,
  forbidden: 403,
  "no-match": 404,
  "unknown-pool": 404,
  "unknown-lease": 404,
  "unknown-proxy": 404,
  "no-token-source": 404,
  "token-unavailable": 503,
  "too-large": 413,
  "pool-exhausted": 429,
  overloaded: 503,
  unavailable: 503,
} as const;
export type Word = keyof typeof numbers;

export type LimitedBy = Record<"rate" | "concurrency" | "usage" | "rest" | "exclude" | "session", number> & {
  holder?: number;
};
export type Refusal = {
  code: string;
  message: string;
  retryAfterMs?: number;
  field?: string;
  limitedBy?: LimitedBy;
};
export type Lease = {
  leaseId: string;
  pool: string;
  proxyId: string;
  url: string;
  scheme: string;
  host: string;
  port: number;
  username?: string;
  password?: string;
  uses: number;
  epoch: number;
  grantedAt: number;
  expiresAt: number;
  leftMs: number;
  labels: Record<string, string>;
  session?: string;
  requestId?: string;
};
export type Proxy = {
  id: string;
  scheme: string;
  host: string;
  port: number;
  username?: string;
  exit: string;
  labels: Record<string, string>;
  limits?: unknown;
  state: string;
  until?: number;
  reasons?: string[];
  leasableAt?: number;
  epoch: number;
  score: number;
  streak: number;
  usesSinceRest: number;
  usesInWindow: number;
  openLeases: number;
  totals: { granted: number; succeeded: number; failed: number; neutral: number; unreported: number };
  addedAt: number;
  lastUsedAt?: number;
};
export type Added = {
  added: number;
  already: number;
  updated: number;
  rejected: { line: number; input: string; why: string }[];
  rejectedCount: number;
};
export type Reported = {
  accepted: number;
  ignored: { leaseId: string; n: number; why: string }[];
  stop: { leaseId: string; until: number }[];
};
export type Released = { leaseId: string; used: number; returned: number };
export type Changed = { changed: number; unknown: string[] };
export type Pool = { pool: string; policy: Policy; version: number; openedAt: number; warnings?: string[] };
export type Policy = { [field: string]: unknown };
export type Stats = {
  pool: string;
  at: number;
  sequence: number;
  commits: number;
  proxies: Record<"available" | "in-use" | "cooling" | "exhausted" | "retired" | "leasable", number>;
  leases: Record<"open" | "granted" | "expired", number>;
  outcomes: Record<"succeeded" | "failed" | "neutral" | "ignored", number>;
  refused: Record<string, number>;
  waiting: number;
  leader: { id: string; term: number };
};
export type Event = { type: string; [field: string]: unknown };
export type Commit = {
  v: number;
  n: number;
  prev: string;
  term: number;
  at: number;
  cursor: { seq: number; at: number };
  chance?: string;
  events: Event[];
};
/** `storedAt`: by the broker's clock. */
export type Stored = {
  seq: number;
  storedAt: number;
  subject: string;
  header: string;
  bytes: Buffer;
  commit: Commit;
};

/**
 * A request without an answer after this time counts as unanswered. A lease request that waits longer must be answered
 * before.
 */
const ANSWERED_WITHIN_MS = 20_000;

/** Turns off every rule that could disturb a test of another one. */
export const lax = {
  rate: null,
  concurrency: null,
  usage: null,
  failures: null,
  streak: null,
  backoff: { kind: "none" },
} satisfies Policy;

/** As `lax`, and counts uses against limits that no test reaches. */
export const windows = {
  ...lax,
  rate: { limit: 1000, windowMs: 60_000 },
  usage: { limit: 1000, restMs: 60_000 },
} satisfies Policy;

export type Wire = Asking & {
  readonly remuda: RemudaProcess;
  readonly dataDir: string;
  /** Ends the service and removes its files. */
  stop(): Promise<void>;
};

/** A service of its own, on its own data directory. */
export async function startWire(env: Environment = {}): Promise<Wire> {
  const dataDir = await mkdtemp(join(tmpdir(), "protocol-test-"));
  const remuda = await startRemuda({ dataDir, env });
  const nats = await connectRaw(remuda.natsUrl);
  const auditor = await connectRaw(remuda.natsUrlAs("auditor"));
  return Object.assign(asking(nats, auditor), {
    remuda,
    dataDir,
    stop: async () => {
      await Promise.all([nats.close(), auditor.close()]);
      await remuda.interrupt(); // Its broker is in its own process group and ends with it.
      await remuda.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  });
}

export type SharedWire = Asking & {
  readonly httpUrl: string;
  natsUrlAs(user: string): string;
  /** Ends the connections. The service stays for other files. */
  stop(): Promise<void>;
};

let shared: Promise<RemudaProcess> | undefined;

/**
 * The service that the files of one test process share. It ends with the process. A pool in it belongs to one test:
 * `open` throws if the pool exists already.
 */
export async function sharedWire(): Promise<SharedWire> {
  shared ??= mkdtemp(join(tmpdir(), "protocol-tests-")).then((dataDir) => startRemuda({ dataDir, isShared: true }));
  const { natsUrlAs, httpUrl = "" } = await shared;
  const [nats, auditor] = await Promise.all([connectRaw(natsUrlAs("operator")), connectRaw(natsUrlAs("auditor"))]);
  const wire = asking(nats, auditor);
  const open: typeof wire.open = async (pool, policy, entries) => {
    const { status, body } = await wire.ask("pool.get", pool);
    if (status !== 503 && !body.includes("unknown-pool")) throw new Error(`another test has the pool ${pool}`);
    return wire.open(pool, policy, entries);
  };
  const leased: typeof wire.leased = async (pool, host, request, policy = windows) => {
    await open(pool, policy, [`${host}:80`]);
    return wire.lease(pool, request);
  };
  const stop = async () => void (await Promise.all([nats.close(), auditor.close()]));
  return { ...wire, httpUrl, open, leased, natsUrlAs, stop };
}

export type Asking = ReturnType<typeof asking>;

/**
 * Requests in the words of the contract, over one connection. @param auditor the connection of a user that reads
 * streams.
 */
export function asking(nats: RawNats, auditor: RawNats = nats) {
  /** `verb` as in `remuda.<verb>.<pool>`. A body that is neither a string nor bytes is sent as JSON. */
  const ask = (verb: string, pool: string, body: unknown = "", timeoutMs = ANSWERED_WITHIN_MS): Promise<RawMessage> =>
    nats.request(`remuda.${verb}.${pool}`, bodyOf(body), { timeoutMs });

  const ok = async <T>(verb: string, pool: string, body?: unknown): Promise<T> => {
    const message = await ask(verb, pool, body);
    expect(message.status, `no service answers remuda.${verb}.${pool}`).toBeUndefined();
    const answer = message.json<T & { code?: string }>();
    if (answer.code !== undefined) throw new Error(`remuda.${verb}.${pool} was refused: ${message.body}`);
    expect(message.headers.get("Nats-Service-Error-Code")).toBeUndefined();
    return answer;
  };

  const refused = async (verb: string, pool: string, body: unknown, word: Word): Promise<Refusal> =>
    refusalIn(await ask(verb, pool, body), word);

  const lease = (pool: string, request: unknown = {}) => ok<Lease>("lease", pool, request);
  const get = (pool: string, id: string) => ok<Proxy>("proxies.get", pool, { id });
  const stats = (pool: string) => ok<Stats>("pool.stats", pool);

  /** Checks that the request arrived and was decided between these two instants of the pool's own time. */
  const timed = async <T>(pool: string, asked: () => Promise<T>): Promise<{ answer: T; from: number; to: number }> => {
    const { at: from } = await stats(pool);
    const answer = await asked();
    const { at: to } = await stats(pool);
    return { answer, from, to };
  };

  /** Expects a refusal that says to retry at `due`, in the pool's time. */
  const refusedUntil = async (due: number, ...asked: Parameters<typeof refused>): Promise<Refusal> => {
    const { answer, from, to } = await timed(asked[1], () => refused(...asked));
    expect(answer.retryAfterMs).toBeGreaterThanOrEqual(due - to);
    expect(answer.retryAfterMs).toBeLessThanOrEqual(due - from);
    return answer;
  };

  const proxies = async (pool: string): Promise<Proxy[]> => {
    const all: Proxy[] = [];
    let after: string | undefined;
    do {
      const page: { proxies: Proxy[]; next?: string } = await ok("proxies.list", pool, { after, limit: 1000 });
      all.push(...page.proxies);
      after = page.next;
    } while (after !== undefined);
    return all;
  };

  /** Opens a pool and adds these entries to it. */
  const open = async (pool: string, policy: Policy = {}, entries: unknown[] = []): Promise<Pool> => {
    const opened = await ok<Pool>("pool.open", pool, { policy });
    if (entries.length > 0) {
      const added = await ok<Added>("proxies.add", pool, { proxies: entries });
      expect(added).toMatchObject({ added: entries.length, rejected: [] });
    }
    return opened;
  };

  /** Opens a pool with one proxy and leases it. */
  const leased = async (pool: string, host: string, request: object = {}, policy: Policy = windows): Promise<Lease> => {
    await open(pool, policy, [`${host}:80`]);
    return lease(pool, request);
  };

  const report = (pool: string, ...outcomes: unknown[]) => ok<Reported>("report", pool, { outcomes });

  /** Publishes to the outcomes stream; JetStream's own acknowledgement. */
  const publish = async (
    pool: string,
    outcome: unknown,
    id?: string,
  ): Promise<{ seq: number; duplicate?: boolean }> => {
    const headers = id === undefined ? {} : { headers: { "Nats-Msg-Id": id } };
    const message = await nats.request(`remuda.outcome.${pool}`, bodyOf(outcome), headers);
    const ack = message.json<{ stream: string; seq: number; duplicate?: boolean }>();
    expect(ack).toMatchObject({ stream: "REMUDA_OUTCOMES", seq: expect.any(Number) });
    return ack;
  };

  const api = async <T>(call: string, request: unknown): Promise<T & { error?: { code: number; err_code: number } }> =>
    (await auditor.request(`$JS.API.${call}`, JSON.stringify(request))).json();

  const streamOf = async (subject: string): Promise<string> => {
    const { streams } = await api<{ streams: string[] | null }>("STREAM.NAMES", { subject });
    expect(streams).toHaveLength(1);
    return streams?.[0] ?? "";
  };

  /**
   * All messages of a subject, as an auditor reads them. The stream is the named one, or the one found by the subject.
   */
  const messages = async (subject: string, stream?: string): Promise<Omit<Stored, "commit">[]> => {
    const from = stream ?? (await streamOf(subject));
    const all: Omit<Stored, "commit">[] = [];
    for (let seq = 1; ; ) {
      type Got = { message?: { subject: string; seq: number; time: string; hdrs?: string; data?: string } };
      const { message, error } = await api<Got>(`STREAM.MSG.GET.${from}`, { seq, next_by_subj: subject });
      if (message === undefined) {
        expect(error).toMatchObject({ err_code: 10037 }); // no message found
        return all;
      }
      const header = Buffer.from(message.hdrs ?? "", "base64").toString();
      const bytes = Buffer.from(message.data ?? "", "base64");
      const storedAt = Date.parse(message.time);
      all.push({ seq: message.seq, storedAt, subject: message.subject, header, bytes });
      seq = message.seq + 1;
    }
  };

  const ledger = async (pool: string): Promise<Stored[]> =>
    (await messages(`remuda.ledger.${pool}`)).map((stored) => ({
      ...stored,
      commit: JSON.parse(stored.bytes.toString("utf8")),
    }));

  const events = async (pool: string): Promise<Event[]> => (await ledger(pool)).flatMap(({ commit }) => commit.events);

  /** The events of one type, each with the pool's time of its commit. */
  const dated = async (pool: string, type: string): Promise<(Event & { at: number })[]> =>
    (await ledger(pool)).flatMap(({ commit: { at, events } }) =>
      events.filter((event) => event.type === type).map((event) => ({ ...event, at })),
    );

  /** Everything that a client can read of the pool, without the parts that time and reading itself change. */
  const picture = async (pool: string) => {
    const { leases } = await ok<{ leases: Lease[] }>("leases.list", pool, { limit: 1000 });
    const { proxies: counts, leases: counted, outcomes, waiting } = await stats(pool);
    return {
      pool: await ok<Pool>("pool.get", pool),
      proxies: await proxies(pool),
      leases: leases.map(({ leftMs: _, ...rest }) => rest),
      counts,
      counted,
      outcomes: { ...outcomes, ignored: undefined },
      waiting,
    };
  };

  /** Checks that `act` leaves the pool as it was. Its ledger may only have recorded the number of requests. */
  const changesNothing = async (pool: string, act: () => Promise<unknown>): Promise<void> => {
    const before = await picture(pool);
    const count = (await ledger(pool)).length;
    await act();
    expect(await picture(pool)).toEqual(before);
    const news = (await ledger(pool)).slice(count).flatMap(({ commit }) => commit.events.map((event) => event.type));
    expect(news.filter((type) => type !== "RequestsRefused" && type !== "OutcomesIgnored")).toEqual([]);
  };

  return {
    nats,
    auditor,
    ask,
    ok,
    refused,
    lease,
    get,
    stats,
    timed,
    refusedUntil,
    proxies,
    open,
    leased,
    report,
    publish,
    api,
    streamOf,
    messages,
    ledger,
    events,
    dated,
    picture,
    changesNothing,
    /** The first proxy that listens on this host. */
    async proxyAt(pool: string, host: string): Promise<Proxy> {
      const found = (await proxies(pool)).find((proxy) => proxy.host === host);
      if (found === undefined) throw new Error(`no proxy of ${pool} is at ${host}`);
      return found;
    },
    async noResponders(verb: string, pool: string, body: unknown = {}): Promise<void> {
      expect(await ask(verb, pool, body)).toMatchObject({ status: 503, body: "" });
    },
    /** Waits until this many requests wait in the pool. Returns the pool's time then. */
    async untilWaiting(pool: string, count: number): Promise<number> {
      return eventually(async () => {
        const { waiting, at } = await stats(pool);
        expect(waiting).toBe(count);
        return at;
      });
    },
    /** Waits until this many outcomes have been ingested, whatever their result. */
    async untilIngested(pool: string, count: number): Promise<void> {
      await eventually(async () => {
        const { succeeded, failed, neutral, ignored } = (await stats(pool)).outcomes;
        expect(succeeded + failed + neutral + ignored).toBe(count);
      });
    },
    /** Waits until the pool's own time is past this instant, and returns it. */
    async untilPast(pool: string, instant: number): Promise<number> {
      return eventually(async () => {
        const { at } = await stats(pool);
        expect(at).toBeGreaterThan(instant);
        return at;
      });
    },
  };
}

/** A refusal as in protocol §1: its code and message, both also as service-error headers, and the code's number. */
export function refusalIn(message: RawMessage, word: Word): Refusal {
  const refusal = message.json<Refusal>();
  expect(refusal.code ?? message.body.slice(0, 200)).toBe(word);
  expect(refusal.message).toMatch(/\S/);
  expect(message.headers.get("Nats-Service-Error-Code")).toBe(String(numbers[word]));
  // A header is one line.
  expect(message.headers.get("Nats-Service-Error")).toBe(refusal.message.replace(/[\r\n]+/g, " "));
  if (word === "overloaded" || word === "unavailable") expect(refusal.retryAfterMs).toBeGreaterThan(0);
  if (word === "pool-exhausted") {
    expect(
      Object.keys(refusal.limitedBy ?? {})
        .filter((key) => key !== "holder") // Present only if the holder is at its cap.
        .sort(),
    ).toEqual(["rate", "concurrency", "usage", "rest", "exclude", "session"].sort());
  }
  return refusal;
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("base64url");
}

/** `"{"a":{"a": … }}"`, nested this many levels deep. */
export function deepJson(levels: number): string {
  return `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;
}

function bodyOf(body: unknown): Body {
  return typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
}
