// Who may do what on NATS: accounts, and in each the users' rights, subject by subject. Whoever renders a server's
// configuration reads it from here, and nobody else decides it.
//
// The ledger is in an account of its own, since rights alone do not guard it: whoever may publish with a reply subject
// of his choice (an outcome, a call of JetStream's) lets the server write the answer there. Within WORK such an answer
// meets no ledger; auditors are in an account without JetStream, into which only the calls that read are passed.
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

export const roles = [
  "ledger",
  "front",
  "follower",
  "http",
  "events",
  "sources",
  "sources-front",
  "guest-token",
  "guest-token-events",
  "operator",
  "client",
  "auditor",
  "audit",
] as const;
export type Role = (typeof roles)[number];

export interface Rights {
  account: string;
  publish: readonly string[];
  /** Beside the user's own inbox, `_INBOX.<user>.>`. */
  subscribe: readonly string[];
}

export interface Account {
  name: string;
  jetstream: boolean;
  /** Subjects of this account that the others named may call as if they were their own. */
  services?: readonly { subject: string; to: string; stream?: boolean }[];
  /** Inboxes of users of another account that this one's streams may deliver to. */
  deliveries?: readonly { subject: string; to: string }[];
  /** A call that must not reach the server's own JetStream: it ends where nobody listens. */
  blocked?: readonly string[];
}

const everyPool = (verb: Verb): string => requestSubject(verb, "*");
/** Also of what is no pool's name: whoever asks for that hears at once that nobody answers. */
const anyPool = (verb: Verb): string => requestSubject(verb, ">");
const asking = verbsFor("clients").map(anyPool);
const askingAsOperator = [...asking, ...verbsFor("operators").map(anyPool)];
const askingForSecrets = verbsFor("secrets").map(anyPool);
const discovery = ["PING", "INFO", "STATS"].flatMap((verb) => [`$SRV.${verb}`, `$SRV.${verb}.>`]);
/** Among pickers: who leads a pool? */
const leaders = "remuda.leader.*";

/** Reading a stream: what it is, single messages, and consumers. */
const readingOf = (stream: string): string[] => [
  `$JS.API.STREAM.INFO.${stream}`,
  `$JS.API.STREAM.MSG.GET.${stream}`,
  `$JS.API.DIRECT.GET.${stream}`,
  `$JS.API.DIRECT.GET.${stream}.>`,
  `$JS.API.CONSUMER.CREATE.${stream}`,
  `$JS.API.CONSUMER.CREATE.${stream}.>`,
  `$JS.API.CONSUMER.INFO.${stream}.*`,
  `$JS.API.CONSUMER.DELETE.${stream}.*`,
  `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`,
  `$JS.ACK.${stream}.>`,
  `$JS.FC.${stream}.>`,
];
const auditing = ["$JS.API.STREAM.NAMES", ...readingOf(ledgerStream)];

export const rights: Readonly<Record<Role, Rights>> = {
  /** The picker's commits, and its secrets. */
  ledger: {
    account: "LEDGER",
    publish: [ledgerSubjects, "$JS.API.>", "$JS.ACK.>", "$JS.FC.>", `$KV.${secretsBucket}.>`],
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
  /** Adds what the sources name; of another pool's proxies it needs the passwords. */
  sources: { account: "WORK", publish: [...asking, ...askingForSecrets], subscribe: [] },
  /** Answers about sources. */
  "sources-front": { account: "WORK", publish: ["_INBOX.>"], subscribe: verbsBy("sources").map(everyPool) },
  /** The executor of refreshes: it learns of a proxy's password only with a refresh that goes through it. */
  "guest-token": { account: "WORK", publish: [...verbsFor("executors").map(anyPool), poolListSubject], subscribe: [] },
  /** Where it sees which refreshes there are. */
  "guest-token-events": { account: "AUDIT", publish: auditing, subscribe: [] },
  /** The command line. */
  operator: {
    account: "WORK",
    publish: [...askingAsOperator, ...askingForSecrets, outcomeSubjects, ...discovery],
    subscribe: [],
  },
  client: { account: "WORK", publish: [...asking, outcomeSubjects, ...discovery], subscribe: [] },
  auditor: { account: "AUDIT", publish: auditing, subscribe: [] },
};

export const accounts: readonly Account[] = [
  {
    name: "LEDGER",
    jetstream: true,
    services: auditing.map((subject) => ({
      subject,
      to: "AUDIT",
      // One question, many answers.
      stream: subject.includes(".MSG.NEXT.") || subject.includes(".DIRECT.GET."),
    })),
    deliveries: [{ subject: "_INBOX.auditor.>", to: "AUDIT" }],
  },
  { name: "WORK", jetstream: true },
  // A server offers its own `$JS.API.>` to every account that has none: here it leads nowhere.
  { name: "AUDIT", jetstream: false, blocked: ["$JS.API.>"] },
];

/** Where each stream is, for a store that was begun before there were accounts. */
export const streamAccounts: Readonly<Record<string, string>> = {
  [ledgerStream]: "LEDGER",
  [`KV_${secretsBucket}`]: "LEDGER",
  [outcomesStream]: "WORK",
};

/** Only clients are made by name; each has the rights of `client`. */
export const userNamePattern = /^[a-z0-9][a-z0-9-]{0,31}$/;
