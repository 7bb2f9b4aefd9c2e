// Rights on NATS: accounts, and each user's rights in them, subject by subject. Server configurations are rendered from
// this file, which is the only place that defines rights.
//
// The ledger has an account of its own, because rights alone do not guard it. A user that may publish with a reply
// subject of its choice (an outcome, a JetStream call) makes the server write the answer to that subject. Within WORK,
// such an answer reaches no ledger. Auditors are in an account without JetStream, into which only read calls are passed.
import {
  ledgerStream,
  ledgerSubjects,
  outcomeSubjects,
  outcomesStream,
  poolListSubject,
  requestSubject,
  secretsBucket,
} from "./subjects.ts";
import { type Verb, verbsBy, verbsFor } from "./verbs.ts";

export interface Rights {
  account: string;
  publish: readonly string[];
  /** Beside the user's own inbox, `_INBOX.<user>.>`. */
  subscribe: readonly string[];
}

export interface Account {
  name: string;
  jetstream: boolean;
  /** Subjects of this account that the named accounts may call as if they were their own. */
  services?: readonly { subject: string; to: string; stream?: boolean }[];
  /** A call that must not reach the server's own JetStream. It is mapped to a subject without subscribers. */
  blocked?: readonly string[];
}

const everyPool = (verb: Verb): string => requestSubject(verb, "*");
/** Also covers invalid pool names, so that such a request gets "no responders" at once. */
const anyPool = (verb: Verb): string => requestSubject(verb, ">");
const asking = verbsFor("clients").map(anyPool);
const askingAsOperator = [...asking, ...verbsFor("operators").map(anyPool)];
const askingForSecrets = verbsFor("secrets").map(anyPool);
const discovery = ["PING", "INFO", "STATS"].flatMap((verb) => [`$SRV.${verb}`, `$SRV.${verb}.>`]);
/** Between pickers: the question which of them leads a pool. */
const leaders = "remuda.leader.*";

/** Reading a stream: what it is, and its messages, one by one or in batches. Nothing can be created by it. */
const readingOf = (stream: string): string[] => [
  `$JS.API.STREAM.INFO.${stream}`,
  `$JS.API.STREAM.MSG.GET.${stream}`,
  `$JS.API.DIRECT.GET.${stream}`,
  `$JS.API.DIRECT.GET.${stream}.>`,
];
const auditing = ["$JS.API.STREAM.NAMES", ...readingOf(ledgerStream)];

export const rights = {
  /** The picker's commits, and its secrets. */
  ledger: {
    account: "LEDGER",
    publish: [ledgerSubjects, "$JS.API.>", `$KV.${secretsBucket}.>`],
    subscribe: [],
  },
  /** The picker's answers: to inboxes alone, wherever a request says that its answer should go. */
  front: {
    account: "WORK",
    publish: ["_INBOX.>"],
    subscribe: [...verbsBy("leader"), ...verbsBy("picker")].map(everyPool).concat(leaders, discovery),
  },
  /** The picker's outcomes, and its questions to other pickers. */
  follower: {
    account: "WORK",
    publish: [
      ...readingOf(outcomesStream),
      `$JS.API.STREAM.CREATE.${outcomesStream}`,
      `$JS.API.STREAM.UPDATE.${outcomesStream}`,
      leaders,
    ],
    subscribe: [],
  },
  http: { account: "WORK", publish: askingAsOperator, subscribe: [] },
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
    publish: [...askingAsOperator, ...askingForSecrets, outcomeSubjects, ...discovery],
    subscribe: [],
  },
  client: { account: "WORK", publish: [...asking, outcomeSubjects, ...discovery], subscribe: [] },
  auditor: { account: "AUDIT", publish: auditing, subscribe: [] },
} as const satisfies Record<string, Rights>;

export type Role = keyof typeof rights;
export const roles = Object.keys(rights) as Role[]; // Its own keys.

export const accounts: readonly Account[] = [
  {
    name: "LEDGER",
    jetstream: true,
    services: auditing.map((subject) => ({
      subject,
      to: "AUDIT",
      // One request, many responses.
      stream: subject.includes(".DIRECT.GET."),
    })),
  },
  { name: "WORK", jetstream: true },
  // A server offers its own `$JS.API.>` to every account that has none. Here it has no effect.
  { name: "AUDIT", jetstream: false, blocked: ["$JS.API.>"] },
];

/** The account of each stream, for a store that was created before there were accounts. */
export const streamAccounts: Readonly<Record<string, string>> = {
  [ledgerStream]: "LEDGER",
  [`KV_${secretsBucket}`]: "LEDGER",
  [outcomesStream]: "WORK",
};

/** Only clients are created by name. Each has the rights of `client`. */
export const userNamePattern = /^[a-z0-9][a-z0-9-]{0,31}$/;
