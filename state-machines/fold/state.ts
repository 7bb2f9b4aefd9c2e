// The state of a pool: what its ledger amounts to so far. Integers and strings only, changed by `evolve` alone.
// Heaps and the index of choices are derived from the rest and never recorded.
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

/** The exit that a target counts: the address that proxies leave from. Rate, concurrency and usage are kept here. */
export interface Exit extends Counted {
  readonly key: string;
  members: Proxy[];
  /** How many of them name limits of their own. */
  limited: number;
  limits: ExitLimits;
  leases: Lease[];
  /** Its usage rest lasts until then. 0: none yet. */
  restUntil: number;
  /** The widest of its windows that was filled, with the limit that it had then: whether it still is, `spentWindow` says. */
  spent: RateWindow | null;
  /** What else is counted here, since proxies have moved; past.ts says how much that makes with all the above. */
  moved: Moved | null;
  /** Where indexes keep it. Derived. */
  groups: GroupLink | null;
}

/** A list, through `next`, of where the candidate indexes keep an exit. */
export interface GroupLink {
  next: GroupLink | null;
}

/** Of a former exit, as another one counts it (past.ts). */
export interface Past {
  readonly of: Exit;
  /** Its uses since its rest when the exit that counts it last had its usage rest. */
  since: number;
}

/** What an exit has of the past: nearly none has any. */
export interface Moved {
  readonly exit: Exit;
  past: Past[];
  /** Of a former exit: its number. 0: it is none. */
  order: number;
  /** Of a former exit: who counts it. */
  readonly countedBy: Set<Exit>;
  /** When something of it may have run out: too early perhaps, never too late. */
  fadesAt: number;
  fadePlace: number;
}

/** What outcomes say of a proxy, discounted up to `at` (candidates/evidence.ts). */
export interface Evidence {
  successes: number;
  failures: number;
  at: number;
}

/** What is known of a proxy at one target. */
export interface Pair {
  readonly proxy: Proxy;
  /** The proxy's `addedOrder`: added again, it starts afresh. */
  readonly order: number;
  readonly target: string;
  evidence: Evidence;
  /** Of the evidence at its last outcome: what `bestAt` goes by. */
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
  username?: string | undefined;
  /** As labelled or literal; the exit that limits are kept by is `account`. */
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
  /** Report times of its latest failures, at most one more than the rule allows. */
  failures: number[];
  openLeases: number;
  granted: number;
  succeeded: number;
  failed: number;
  neutral: number;
  unreported: number;
  addedAt: number;
  /** 0: not. */
  retiredAt: number;
  /** 0: never. */
  lastUsedAt: number;
  lastClosedAt: number;
  /** Counters that order proxies: when added, last granted, last put on the stack (added or returned). */
  addedOrder: number;
  usedOrder: number;
  stackOrder: number;
  /** `time-based`: its `usedOrder` when it was first used in the interval of its last use. */
  turnOrder: number;
  /** `bandit`: what its outcomes so far say. null: none. */
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
  readonly uses: number;
  readonly epoch: number;
  readonly grantedAt: number;
  expiresAt: number;
  /** Dropped when the lease closes. */
  request: RecordedRequest | null;
  /** As it was when granted: what is on its way to the target may take so long, whatever the policy says later. */
  readonly graceMs: number;
  /** Slots it holds open: granted uses not yet reported. After its end: unreported ones, based at `closed.slotAt`. */
  slots: number;
  /** Reported uses: all of 1..reportedTo, and those in reportedMore. */
  reportedTo: number;
  reportedMore: number[];
  closed: { how: LeaseClosed["how"]; used: number; at: number; slotAt: number } | null;
  /** The token given with it. */
  readonly token: { tokenId: string; mintedAt: number; expiresAt: number } | null;
  expiryPlace: number;
}

/** A name that requests share, bound to one proxy. */
export interface Session {
  readonly name: string;
  /** Retired or even forgotten since, perhaps: then the next request binds it anew. */
  proxyId: string;
  /** Open ones. */
  readonly leases: Set<Lease>;
  /** When the last lease of it was granted or ended. */
  usedAt: number;
}

/** Closed leases are remembered this long, for a second release and late outcomes, and at most so many. */
export const closedKeptMs = 600_000;
export const closedKeptMax = 2_000_000;

/** A retired proxy can be looked up this long at least. */
export const retiredKeptMs = 3_600_000;

/** An exit with more proxies than this begins their usage rest over several commits. */
export const spreadFrom = 400;

/** Is informed of every proxy and exit that an event may have changed. */
export interface Watcher {
  proxyMoved(proxy: Proxy): void;
  exitMoved(exit: Exit): void;
  /** It is another exit's now. Before it is placed there. */
  proxyLeft(proxy: Proxy, exit: Exit): void;
  everythingMoved(): void;
}

/** Is informed of changes that may let a waiting request be served, or prevent it. */
export interface Queue {
  exitMoved(exit: Exit): void;
  holderMoved(holder: string): void;
  sessionMoved(session: string): void;
  tokenMoved(key: string): void;
  everythingMoved(): void;
  /** Is there a waiting request whose session is bound to a proxy of this exit? */
  waitsFor(exit: Exit): boolean;
}

export class PoolState {
  readonly pool: string;
  opened = false;
  draining = false;
  openedAt = 0;
  keyFingerprint = "";
  rules: Rules = beforeOpening;
  policyVersion = 0;
  leader = "";
  term = 0;
  at = 0;
  commits = 0;
  cursor: Cursor = { seq: 0, at: 0 };
  /** The commit whose head was signed last, and when; n 0: none yet. */
  head = { n: 0, at: 0 };
  readonly proxies = new Map<string, Proxy>();
  readonly exits = new Map<string, Exit>();
  /** What was granted through exits before the last proxy that was there moved, by number, while others count it. */
  readonly former = new Map<number, Exit>();
  readonly leases = new Map<string, Lease>();
  /** In the order of their closing. */
  readonly closedLeases = new Map<string, Lease>();
  /** The first of them, where it is known; and those after it. Derived. */
  oldestClosed: Lease | undefined;
  closedInTurn: Iterator<Lease, undefined> = this.closedLeases.values();
  /** Of open leases, by requestId. */
  readonly requests = new Map<string, Lease>();
  readonly sessions = new Map<string, Session>();
  /** Those without an open lease, in the order in which their last one ended. */
  readonly idleSessions = new Set<Session>();
  /** By the id of their proxy, or "pool". */
  readonly tokens = new Map<string, Token>();
  /** Current ones and those being fetched, by their ids. Derived. */
  readonly tokenIds = new Map<string, Token>();
  /** Proxies whose token somebody waits for, and how many do. Of the leader's memory alone. */
  readonly askedFor = new Map<string, number>();
  /** Open leases by holder. Derived. */
  readonly holders = new Map<string, Set<Lease>>();
  /** `bandit`: how proxies of which little was known have done. */
  newcomers: Evidence | null = null;
  /** `bandit` by target: what is known of proxies there. In the order of learning. */
  readonly pairs = new Map<string, Pair>();
  /** Derived: the same by target. */
  readonly targets = new Map<string, Known>();
  /** Orders that the next proxy, grant, return takes. */
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
  /** Exits that count what was granted through former ones, or have no proxy any more. Derived. */
  readonly fading = new Heap<"fadePlace", Moved>("fadePlace", (a, b) => a.fadesAt < b.fadesAt);
  /** By when time alone changes what may be done with them. Derived. */
  readonly tokenTimes = new Heap<"timePlace", Token>("timePlace", (a, b) =>
    a.changesAt !== b.changesAt ? a.changesAt < b.changesAt : a.key < b.key,
  );
  /** Those that are being fetched, by their deadlines. Derived. */
  readonly deadlines = new Heap<"deadlinePlace", Token>("deadlinePlace", (a, b) =>
    a.deadlineAt !== b.deadlineAt ? a.deadlineAt < b.deadlineAt : a.key < b.key,
  );
  /** Exits whose usage rest has begun, and perhaps not yet for all their proxies. Derived: a look tells. */
  readonly spreading = new Set<Exit>();
  /** Of the proxies, in order. Derived. */
  readonly ids = new Ids();
  /** The proxy that is being granted. It saves an expensive second look-up among a million. Used by decisions alone. */
  chosen: Proxy | null = null;
  watcher: Watcher | null = null;
  queue: Queue | null = null;

  constructor(pool: string) {
    this.pool = pool;
  }

  proxyMoved(proxy: Proxy): void {
    this.watcher?.proxyMoved(proxy);
    this.queue?.exitMoved(proxy.account);
  }

  exitMoved(exit: Exit): void {
    this.watcher?.exitMoved(exit);
    this.queue?.exitMoved(exit);
    if (exit.moved !== null) for (const other of exit.moved.countedBy) this.exitMoved(other);
  }

  tokenMoved(key: string): void {
    const proxy = this.proxies.get(key);
    if (proxy !== undefined) this.proxyMoved(proxy);
    this.queue?.tokenMoved(key);
  }

  /** A request begins or stops waiting for the token of this very proxy. */
  askFor(proxyId: string, change: 1 | -1): void {
    const count = (this.askedFor.get(proxyId) ?? 0) + change;
    if (count > 0) this.askedFor.set(proxyId, count);
    else this.askedFor.delete(proxyId);
    const proxy = this.proxies.get(proxyId);
    if (proxy !== undefined) this.watcher?.proxyMoved(proxy);
  }

  proxyLeft(proxy: Proxy, exit: Exit): void {
    this.watcher?.proxyLeft(proxy, exit);
    this.queue?.everythingMoved();
  }

  everythingMoved(): void {
    this.watcher?.everythingMoved();
    this.queue?.everythingMoved();
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
