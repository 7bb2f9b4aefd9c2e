// The part of a nats-server's configuration that has accounts, users and rights. It is a separate included file, so
// that it can be replaced while the server runs. The caller decides the rights.
import type { Hashed } from "../credentials.ts";
import type { User } from "../users.ts";

export interface AccountConf {
  readonly name: string;
  readonly jetstream: boolean;
  readonly services?: readonly { readonly subject: string; readonly to: string; readonly stream?: boolean }[];
  readonly blocked?: readonly string[];
  /** Of each connection. Absent: no bound. */
  readonly subscriptionsMax?: number;
  /** Of all users together. */
  readonly connectionsMax: number;
}

export interface RightsConf {
  readonly account: string;
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

/**
 * For each call the server remembers where its answer goes, until the answer has come or so long after the last one.
 * The server's default is two minutes, in which a caller can make it remember millions.
 */
const answerWithin = "10s";

/** Blocked calls end in this account, which has no users. */
const nowhere = "NOWHERE";

/** @param given.rightsFor a user without rights is left out. */
export function usersConf(given: {
  accounts: readonly AccountConf[];
  rightsFor: (user: User) => RightsConf | undefined;
  users: readonly Hashed<User>[];
}): string {
  const { accounts, rightsFor, users } = given;
  const blocking = accounts.filter(({ blocked = [] }) => blocked.length > 0);
  const lines = [
    "# Written at every start and with every change of the users; changes made here are lost.",
    "accounts {",
    ...accounts.flatMap((account) => [
      `  ${account.name} {`,
      ...(account.jetstream ? ["    jetstream: enabled"] : []),
      `    limits { ${limitsOf(account)} }`,
      ...list(
        "users",
        users.flatMap((user) => userConf(user, rightsFor(user), account)),
      ),
      ...list("exports", exportsOf(account)),
      ...list("imports", importsOf(account, accounts)),
      "  }",
    ]),
    ...(blocking.length === 0
      ? []
      : [
          `  ${nowhere} {`,
          ...list(
            "exports",
            blocking.map(({ name }) => `{ service: "nowhere.>", accounts: [${name}] }`),
          ),
          "  }",
        ]),
    "}",
  ];
  return `${lines.join("\n")}\n`;
}

function limitsOf({ connectionsMax, subscriptionsMax }: AccountConf): string {
  const subscriptions = subscriptionsMax === undefined ? "" : `, max_subscriptions: ${subscriptionsMax}`;
  return `max_connections: ${connectionsMax}${subscriptions}`;
}

function userConf(user: Hashed<User>, rights: RightsConf | undefined, account: AccountConf): string[] {
  if (rights?.account !== account.name) return [];
  const subscribe = [`_INBOX.${user.name}.>`, ...rights.subscribe];
  return [
    `{ user: ${text(user.name)}, password: ${text(user.passwordHash)}, permissions: {`,
    `    publish: [${rights.publish.map(text).join(", ")}]`,
    `    subscribe: [${subscribe.map(text).join(", ")}] } }`,
  ];
}

function exportsOf({ services = [] }: AccountConf): string[] {
  return services.map(
    ({ subject, to, stream }) =>
      `{ service: ${text(subject)}, ${stream === true ? "response_type: stream, " : ""}` +
      `threshold: "${answerWithin}", accounts: [${to}] }`,
  );
}

function importsOf({ name, blocked = [] }: AccountConf, accounts: readonly AccountConf[]): string[] {
  return [
    ...blocked.map((subject) => `{ service: { account: ${nowhere}, subject: "nowhere.>" }, to: ${text(subject)} }`),
    ...accounts.flatMap((from) =>
      (from.services ?? [])
        .filter(({ to }) => to === name)
        .map(({ subject }) => `{ service: { account: ${from.name}, subject: ${text(subject)} } }`),
    ),
  ];
}

function list(name: string, entries: readonly string[]): string[] {
  return entries.length === 0 ? [] : [`    ${name}: [`, ...entries.map((entry) => `      ${entry}`), "    ]"];
}

function text(value: string): string {
  return JSON.stringify(value);
}
