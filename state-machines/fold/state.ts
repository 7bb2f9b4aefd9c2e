// The state of a pool: the fold of its ledger so far. It holds integers and strings only, and only `evolve` changes it.
// Heaps and candidate indexes are derived and never recorded.
import type { Cursor } from "../../events/commit.ts";
import type { Labels } from "../../events/ids.ts";
import type { LeaseClosed, RecordedRequest } from "../../events/lease.ts";
import type { Limits, RateWindow } from "../../events/policy.ts";
import type { ProxyStateName, RestReason, Scheme } from "../../events/proxy.ts";
import type { RefusalWord } from "../../events/refusal.ts";
import type { Token } from "../machines/token.ts";
import { beforeOpening, type ExitLimits, type Rules } from "../policy/rules.ts";
import { Heap } from "../structures/heap.ts";
import { Ids } from "../structures/ids.ts";
import { type Counted, newCounted } from "./counted.ts";

/** The exit IP: the address that a target sees. Rate, concurrency, usage and bytes are counted here. */
export interface Exit extends Counted {
  readonly key: string;
  members: Proxy[];
  /** How many of them have limits of their own. */
  limited: number;
  limits: ExitLimits;
  leases: Lease[];
  /** Its usage rest lasts until then. 0: none yet. */
  restUntil: number;
  /** The widest of its windows that was filled, with its limit then. `spentWindow` tells whether it still is. */
  spent: RateWindow | null;
  /** The former exits that count here too, because proxies have moved (past.ts). null: none. */
  moved: Moved | null;
  /** Its groups in candidate indexes. Derived. */
  groups: GroupLink | null;
}

/** A linked list of the exit's groups in candidate indexes. */
export interface GroupLink {
  next: GroupLink | null;
}

/** A former exit, as another exit counts it (past.ts). */
export interface Past {
  readonly of: Exit;
  /** Its `usesSinceRest` at the last usage rest of the exit that counts it. */
  since: number;
}

/** The former exits of an exit. Hardly any exit has one. */
export interface Moved {
  readonly exit: Exit;
  past: Past[];
  /** Of a former exit: its number. 0: it is not a former one. */
  order: number;
  /** Of a former exit: the exits that count it. */
  readonly countedBy: Set<Exit>;
  /** When part of it may have run out: perhaps too early, never too late. */
  fadesAt: number;
  fadePlace: number;
}

/** The evidence about a proxy, discounted up to `at` (candidates/evidence.ts). */
export interface Evidence {
  successes: number;
  failures: number;
  at: number;
}

/** The evidence about a proxy at one target. */
export interface Pair {
  readonly proxy: Proxy;
  /** The proxy's `addedOrder`. A proxy that is added again starts afresh. */
  readonly order: number;
  readonly target: string;
  evidence: Evidence;
  /** The mean of the evidence at its last outcome. `bestAt` orders by it. */
  mean: number;
  place: number;
}

/** The pairs of one target, the best first. */
export type Known = Heap<"place", Pair>;

export interface Proxy {
  readonly id: string;
  scheme: Scheme;
  host: string;
  port: number;
  /** Of the user name. The whole of it is in the sealed bucket. */
  maskedName?: string | undefined;
  /** As labelled or literal. Limits are kept by `account`. */
  exit: string;
  labels: Labels;
  limits?: Limits | undefined;
  account: Exit;
  state: ProxyStateName;
  /** Its rest lasts until then. 0: none; kept through retirement. */
  until: number;
  reasons: readonly RestReason[];
  epoch: number;
  score: number;
  streak: number;
  /** Rests for a streak since it was added. */
  streakRests: number;
  /** Report times of its latest failures, at most one more than the rule's limit. */
  failures: number[];
  openLeases: number;
  granted: number;
  succeeded: number;
  failed: number;
  neutral: number;
  unreported: number;
  addedAt: number;
  /** 0: it is not retired. */
  retiredAt: number;
  /** 0: never. */
  lastUsedAt: number;
  lastClosedAt: number;
  /** Its place in three orders: of adding, of the last grant, and of the last adding or return. */
  addedOrder: number;
  usedOrder: number;
  stackOrder: number;
  /** `time-based`: its `usedOrder` when it was first used in the interval of its last use. */
  turnOrder: number;
  /** `bandit`: the evidence about it. null: none. */
  evidence: Evidence | null;
  /** Places in heaps. */
  restPlace: number;
  forgetPlace: number;
  forgetAt: number;
}

export interface Lease {
  readonly id: string;
  readonly proxy: Proxy;
  exit: Exit;
  /** The user who took it. Absent: it is not known. */
  readonly user: string | undefined;
  readonly uses: number;
  readonly epoch: number;
  readonly grantedAt: number;
  expiresAt: number;
  /** Dropped when the lease closes. */
  request: RecordedRequest | null;
  /** The grace at the grant. A later policy does not shorten it. */
  readonly graceMs: number;
  /** Slots of its unreported uses: open ones or, after its end, those based at `closed.slotAt`. */
  slots: number;
  /** The reported uses are 1..reportedTo and those in reportedMore. */
  reportedTo: number;
  reportedMore: number[];
  closed: { how: LeaseClosed["how"]; used: number; at: number; slotAt: number } | null;
  /** The token given with it. */
  readonly token: { tokenId: string; mintedAt: number; expiresAt: number } | null;
  /** The open leases of its request, in the order of granting. Null: the request has had this one alone. */
  siblings: Lease[] | null;
  expiryPlace: number;
}

/** A name that requests share, bound to one proxy. */
export interface Session {
  readonly name: string;
  /** It may be retired or forgotten by now. Then the next request binds the session anew. */
  proxyId: string;
  readonly leases: Set<Lease>;
  /** When the last lease of it was granted or ended. */
  usedAt: number;
}

/** Closed leases are remembered for late outcomes and repeated releases: for this long, and at most this many. */
export const closedKeptMs = 600_000;
export const closedKeptMax = 2_000_000;

/** A retired proxy can be looked up at least this long. */
export const retiredKeptMs = 3_600_000;

/** An exit with more proxies than this begins their usage rest over several commits. */
export const spreadFrom = 400;

/** Called for every proxy and exit that an event may have changed. */
export interface Watcher {
  proxyChanged(proxy: Proxy): void;
  exitChanged(exit: Exit): void;
  /** The proxy belongs to another exit now, and is not placed there yet. */
  proxyLeft(proxy: Proxy, exit: Exit): void;
  everythingChanged(): void;
}

/** Called for changes after which a waiting request may be served, or no longer. */
export interface Queue {
  exitChanged(exit: Exit): void;
  holderChanged(holder: string): void;
  sessionChanged(session: string): void;
  tokenChanged(key: string): void;
  everythingChanged(): void;
  /** Whether a waiting request's session is bound to a proxy of this exit. */
  waitsFor(exit: Exit): boolean;
}

export class PoolState {
  readonly pool: string;
  opened = false;
  draining = false;
  openedAt = 0;
  /** The user who opened it. Absent: it is not known. */
  openedBy: string | undefined;
  keyFingerprint = "";
  rules: Rules = beforeOpening;
  policyVersion = 0;
  leader = "";
  term = 0;
  /** Of Remuda, which wrote the commits of this term. "": not known. */
  writtenBy = "";
  at = 0;
  commits = 0;
  cursor: Cursor = { seq: 0, at: 0 };
  /** The last signed commit, and when it was signed. n 0: none yet. */
  head = { n: 0, at: 0 };
  /** The last commit that is archived, and its place in the stream. n 0: none. */
  archived = { n: 0, sequence: 0 };
  /** From a backup: its last commit, when it was restored, and when leases may be granted again. 0: never. */
  restored = { last: 0, at: 0, until: 0 };
  readonly proxies = new Map<string, Proxy>();
  readonly exits = new Map<string, Exit>();
  /** Former exits that another exit counts, by number (past.ts). */
  readonly former = new Map<number, Exit>();
  readonly leases = new Map<string, Lease>();
  /** In the order of their closing. */
  readonly closedLeases = new Map<string, Lease>();
  /** The first of them, if known, and an iterator over the others. Derived. */
  oldestClosed: Lease | undefined;
  closedInTurn: Iterator<Lease, undefined> = this.closedLeases.values();
  /** Of open leases, by requestId. */
  readonly requests = new Map<string, Lease>();
  readonly sessions = new Map<string, Session>();
  /** Sessions without an open lease, by the end of their last one. */
  readonly idleSessions = new Set<Session>();
  /** By the proxy's id, or "pool". */
  readonly tokens = new Map<string, Token>();
  /** Current tokens and those being fetched, by their ids. Derived. */
  readonly tokenIds = new Map<string, Token>();
  /** By proxy: how many requests wait for its own token. In the leader's memory only. */
  readonly askedFor = new Map<string, number>();
  /** Open leases by holder. Derived. */
  readonly holders = new Map<string, Set<Lease>>();
  /** `bandit`: the evidence from proxies that were new. */
  newcomers: Evidence | null = null;
  /** `bandit` by target: the evidence there, in the order of learning. */
  readonly pairs = new Map<string, Pair>();
  /** Derived: the same by target. */
  readonly targets = new Map<string, Known>();
  /** The order that the next added, granted or returned proxy gets. */
  nextOrder = 1;
  /** The number that the next former exit takes. */
  nextFormer = 1;
  readonly byState: Record<ProxyStateName, number> = {
    available: 0,
    "in-use": 0,
    cooling: 0,
    exhausted: 0,
    retired: 0,
  };
  readonly totals = { granted: 0, expired: 0, succeeded: 0, failed: 0, neutral: 0, ignored: 0 };
  readonly refused: Partial<Record<RefusalWord, number>> = {};

  readonly expiries = new Heap<"expiryPlace", Lease>("expiryPlace", (a, b) =>
    a.expiresAt !== b.expiresAt ? a.expiresAt < b.expiresAt : a.id < b.id,
  );
  readonly rests = new Heap<"restPlace", Proxy>("restPlace", (a, b) =>
    a.until !== b.until ? a.until < b.until : a.addedOrder < b.addedOrder,
  );
  readonly forgets = new Heap<"forgetPlace", Proxy>("forgetPlace", (a, b) =>
    a.forgetAt !== b.forgetAt ? a.forgetAt < b.forgetAt : a.addedOrder < b.addedOrder,
  );
  /** Exits that count former ones or have no proxy any more. Derived. */
  readonly fading = new Heap<"fadePlace", Moved>("fadePlace", (a, b) => a.fadesAt < b.fadesAt);
  /** Tokens, ordered by the instant at which time alone changes their permitted uses. Derived. */
  readonly tokenTimes = new Heap<"timePlace", Token>("timePlace", (a, b) =>
    a.changesAt !== b.changesAt ? a.changesAt < b.changesAt : a.key < b.key,
  );
  /** Tokens being fetched, by their deadlines. Derived. */
  readonly deadlines = new Heap<"deadlinePlace", Token>("deadlinePlace", (a, b) =>
    a.deadlineAt !== b.deadlineAt ? a.deadlineAt < b.deadlineAt : a.key < b.key,
  );
  /** Exits whose usage rest may not have begun for all their proxies yet. Derived. */
  readonly spreading = new Set<Exit>();
  /** The proxies' ids, in order. Derived. */
  readonly ids = new Ids();
  /** The proxy of the grant being decided. It saves a second look-up among a million. */
  chosen: Proxy | null = null;
  watcher: Watcher | null = null;
  queue: Queue | null = null;

  constructor(pool: string) {
    this.pool = pool;
  }

  proxyChanged(proxy: Proxy): void {
    this.watcher?.proxyChanged(proxy);
    this.queue?.exitChanged(proxy.account);
  }

  exitChanged(exit: Exit): void {
    this.watcher?.exitChanged(exit);
    this.queue?.exitChanged(exit);
    if (exit.moved !== null) for (const other of exit.moved.countedBy) this.exitChanged(other);
  }

  tokenChanged(key: string): void {
    const proxy = this.proxies.get(key);
    if (proxy !== undefined) this.proxyChanged(proxy);
    this.queue?.tokenChanged(key);
  }

  /** A request begins or stops to wait for this proxy's own token. */
  askFor(proxyId: string, change: 1 | -1): void {
    const count = (this.askedFor.get(proxyId) ?? 0) + change;
    if (count > 0) this.askedFor.set(proxyId, count);
    else this.askedFor.delete(proxyId);
    const proxy = this.proxies.get(proxyId);
    if (proxy !== undefined) this.watcher?.proxyChanged(proxy);
  }

  proxyLeft(proxy: Proxy, exit: Exit): void {
    this.watcher?.proxyLeft(proxy, exit);
    this.queue?.everythingChanged();
  }

  everythingChanged(): void {
    this.watcher?.everythingChanged();
    this.queue?.everythingChanged();
  }

  exitFor(key: string): Exit {
    let exit = this.exits.get(key);
    if (exit === undefined) {
      exit = {
        key,
        members: [],
        limited: 0,
        ...newCounted(),
        limits: this.rules.limits,
        leases: [],
        restUntil: 0,
        spent: null,
        moved: null,
        groups: null,
      };
      this.exits.set(key, exit);
    }
    return exit;
  }
}
