// Rights on NATS: accounts, and each user's rights in them, subject by subject. Server configurations are rendered from
// this file, which is the only place that defines rights.
//
// The ledger has an account of its own, because rights alone do not guard it. A user that may publish with a reply
// subject of its choice (an outcome, a JetStream call) makes the server write the answer to that subject. Within WORK,
// such an answer reaches no ledger. Auditors are in an account without JetStream, into which only read calls are
// passed.
import {
  ledgerStream,
  ledgerSubjects,
  noticeSubject,
  noticeSubjects,
  outcomeSubject,
  outcomeSubjects,
  outcomesStream,
  pickerSubjects,
  poolListSubject,
  requestSubject,
  secretsBucket,
  snapshotsBucket,
} from "./subjects.ts";
import { type UserRole, userRoles, type Verb, verbsBy, verbsFor } from "./verbs.ts";

export interface Rights {
  account: string;
  publish: readonly string[];
  /** Besides the user's own inbox, `_INBOX.<user>.>`. */
  subscribe: readonly string[];
}

export interface Account {
  name: string;
  jetstream: boolean;
  /** Subjects of this account that the named accounts may call as if they were their own. */
  services?: readonly { subject: string; to: string; stream?: boolean }[];
  /** A call that must not reach the server's own JetStream. It is mapped to a subject without subscribers. */
  blocked?: readonly string[];
  /** Of each connection. Absent: no bound. */
  subscriptionsMax?: number;
  /** Of all users together. */
  connectionsMax: number;
}

const everyPool = (verb: Verb): string => requestSubject(verb, "*");
/** Also covers invalid pool names, so that such a request gets "no responders" at once. */
const anyPool = (verb: Verb): string => requestSubject(verb, ">");
const asking = verbsFor("admin").map(anyPool);
const askingForSecrets = verbsFor("secrets").map(anyPool);
const discovery = ["PING", "INFO", "STATS"].flatMap((verb) => [`$SRV.${verb}`, `$SRV.${verb}.>`]);
/** Between pickers: requests for a pool's leader. */
const leaders = "remuda.leader.*";

/** Reading a stream: its description, and its messages, one by one or in batches. These calls can create nothing. */
const readingOf = (stream: string): string[] => [
  `$JS.API.STREAM.INFO.${stream}`,
  `$JS.API.STREAM.MSG.GET.${stream}`,
  `$JS.API.DIRECT.GET.${stream}`,
  `$JS.API.DIRECT.GET.${stream}.>`,
];
const auditing = ["$JS.API.STREAM.NAMES", ...readingOf(ledgerStream)];

export const rights = {
  /** The picker's commits, its secrets, and the snapshots. */
  ledger: {
    account: "LEDGER",
    publish: [ledgerSubjects, "$JS.API.>", `$KV.${secretsBucket}.>`, `$O.${snapshotsBucket}.>`],
    subscribe: [],
  },
  /** The picker's answers: to inboxes alone, wherever a request says that its answer should go. */
  front: {
    account: "WORK",
    publish: ["_INBOX.>"],
    subscribe: [...verbsBy("leader"), ...verbsBy("picker")].map(everyPool).concat(leaders, noticeSubjects, discovery),
  },
  /** The picker's outcomes, those of a deleted pool included, and its questions to other pickers. */
  follower: {
    account: "WORK",
    publish: [
      ...readingOf(outcomesStream),
      `$JS.API.STREAM.CREATE.${outcomesStream}`,
      `$JS.API.STREAM.UPDATE.${outcomesStream}`,
      `$JS.API.STREAM.PURGE.${outcomesStream}`,
      leaders,
      // Not on the connection that answers: its only other subjects are inboxes.
      noticeSubjects,
    ],
    subscribe: [],
  },
  /** Whether pickers live, and which pools they lead. On a connection of its own, no flood of requests delays it. */
  peers: { account: "WORK", publish: [pickerSubjects, "_INBOX.>"], subscribe: [pickerSubjects] },
  http: { account: "WORK", publish: asking, subscribe: [noticeSubjects] },
  /** The gateway leases for its users, and knows the pools' policies. */
  gateway: rightsOfRole("worker"),
  /** The audit's answers; it reads ledgers as an auditor. */
  audit: { account: "WORK", publish: ["_INBOX.>"], subscribe: verbsBy("audit").map(everyPool) },
  /** The HTTP service's event stream. */
  events: { account: "AUDIT", publish: auditing, subscribe: [] },
  /** Adds the proxies that sources list. It needs the passwords of other pools' proxies. */
  sources: { account: "WORK", publish: [...asking, ...askingForSecrets], subscribe: [] },
  /** Answers about sources. */
  "sources-front": { account: "WORK", publish: ["_INBOX.>"], subscribe: verbsBy("sources").map(everyPool) },
  /** The executor of refreshes. It gets a proxy's password only with a refresh that goes through that proxy. */
  "guest-token": { account: "WORK", publish: [...verbsFor("executors").map(anyPool), poolListSubject], subscribe: [] },
  /** The connection on which it sees which refreshes have begun. */
  "guest-token-events": { account: "AUDIT", publish: auditing, subscribe: [] },
  /** The command line. */
  operator: {
    account: "WORK",
    publish: [...asking, ...askingForSecrets, outcomeSubjects, ...discovery],
    subscribe: [noticeSubjects],
  },
  client: rightsOfRole("worker"),
  auditor: { account: "AUDIT", publish: auditing, subscribe: [] },
} as const satisfies Record<string, Rights>;

/** The logins that every installation has. Each login's role has the same name as the login. */
export type Role = keyof typeof rights;
export const roles = Object.keys(rights) as Role[]; // Its own keys.

/** The users' roles of the logins that act for users. These logins have a key for HTTP. */
export const rolesOfLogins: Readonly<Record<string, UserRole>> = { operator: "admin", client: "worker" };

/**
 * The NATS rights of a user with this role. Undefined if the role is unknown.
 * @param given.pools the pools that the rights are for. Default: all.
 */
export function rightsFor(given: { role: string; pools?: readonly string[] }): Rights | undefined {
  if (isUserRole(given.role)) return rightsOfRole(given.role, given.pools);
  return (rights as Readonly<Record<string, Rights>>)[given.role];
}

export function isUserRole(role: string): role is UserRole {
  return userRoles.some((each) => each === role);
}

function rightsOfRole(role: UserRole, pools?: readonly string[]): Rights {
  const subjectsOf = (verb: Verb): string[] =>
    verb === "pool.list" || pools === undefined
      ? [verb === "pool.list" ? poolListSubject : anyPool(verb)]
      : pools.map((pool) => requestSubject(verb, pool));
  const outcomes = pools === undefined ? [outcomeSubjects] : pools.map(outcomeSubject);
  const publish = [...verbsFor(role).flatMap(subjectsOf), ...(verbsFor(role).includes("report") ? outcomes : [])];
  const subscribe = pools === undefined ? [noticeSubjects] : pools.map(noticeSubject);
  return { account: "WORK", publish: [...publish, ...discovery], subscribe };
}

export const accounts: readonly Account[] = [
  {
    name: "LEDGER",
    jetstream: true,
    connectionsMax: 1000, // Pickers alone.
    services: auditing.map((subject) => ({
      subject,
      to: "AUDIT",
      // One request, many responses.
      stream: subject.includes(".DIRECT.GET."),
    })),
  },
  // Each takes a file descriptor and memory of the server. The accounts of the services that matter most are bounded by
  // themselves, so that workers cannot keep a picker from its ledger.
  { name: "WORK", jetstream: true, connectionsMax: 10_000 },
  // A server offers its own `$JS.API.>` to every account that has none. Here it has no effect.
  // Its users read with a subscription for each batch.
  { name: "AUDIT", jetstream: false, blocked: ["$JS.API.>"], subscriptionsMax: 10_000, connectionsMax: 500 },
];

/** The account of each stream, for a store that was created before there were accounts. */
export const streamAccounts: Readonly<Record<string, string>> = {
  [ledgerStream]: "LEDGER",
  [`KV_${secretsBucket}`]: "LEDGER",
  [`OBJ_${snapshotsBucket}`]: "LEDGER",
  [outcomesStream]: "WORK",
};

/** Of users that are added. */
export const userNamePattern = /^[a-z0-9][a-z0-9-]{0,31}$/;
