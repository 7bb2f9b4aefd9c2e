// `remuda user …`: the users that may lease from other machines. A change takes effect at once if the service runs, or
// at its next start.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AuthorizationError } from "@nats-io/transport-node";
import { type Command, InvalidArgumentError, Option } from "commander";
import { given } from "../protocol/given.ts";
import { refuse } from "../protocol/refusal.ts";
import { isUserRole, roles, userNamePattern } from "../protocol/rights.ts";
import { type UserRole, userRoles } from "../protocol/verbs.ts";
import { reloadServer } from "../runtime/broker/reload.ts";
import type { Config } from "../runtime/config.ts";
import type { Hashed } from "../runtime/credentials.ts";
import { dial } from "../runtime/dial.ts";
import { Fault } from "../runtime/fault.ts";
import { replaceFile } from "../runtime/files.ts";
import { readNatsUrl, withLogin } from "../runtime/nats-url.ts";
import { shellQuoted } from "../runtime/text.ts";
import { changeUsers, newUser, readUsers, rotated, type User } from "../runtime/users.ts";
import { changesOf, logChange, type UserChanged } from "../runtime/users-log.ts";
import { findAddress } from "./address.ts";
import { readHostName, readPoolName } from "./arguments.ts";
import { environmentOf } from "./environment.ts";
import { printError, Refused } from "./failure.ts";
import { confOf, roleOf, usersFileOf, withBuiltIn } from "./login.ts";
import { print, printJson, Table } from "./output.ts";
import { healthUser, writeServiceUsers } from "./service-users.ts";
import { addUserQuota, type QuotaOptions, quotaIn, shownQuota, withQuotas } from "./user-quota.ts";

/** A NATS server applies a change within milliseconds. */
const effectMsMax = 5000;
const usersMax = 1000;

export function addUsers(program: Command, config: () => Config): void {
  const user = program
    .command("user")
    .description("add and remove users: each has a password for NATS and a key for HTTP");

  const add = user
    .command("add")
    .description("add a user, and print the settings that it needs")
    .argument("<name>", "at most 32 lower-case letters, digits and dashes", readNewName)
    .addOption(
      new Option(
        "--role <role>",
        "its rights: admin (everything), worker (leases), viewer (reads), metrics (reads /metrics)",
      )
        .choices(userRoles)
        .default("worker"),
    )
    .option("--pool <name>", "only in this pool; may be repeated", (text: string, earlier: string[] = []) => [
      ...new Set([...earlier, readPoolName(text)]),
    ])
    .option("--host <name>", "the name or address by which the user reaches this machine", readHostName)
    .option("--json", "print JSON");
  withQuotas(add).action(
    async (name: string, options: QuotaOptions & { role: UserRole; pool?: string[]; host?: string; json?: true }) => {
      const settings = config();
      const { role, pool: pools } = options;
      const quota = quotaIn(options);
      await change(settings, (users) => {
        if (users.some((each) => each.name === name))
          throw refused(
            `The user ${name} exists. See its settings with "npx remuda env --as ${name}", or remove it first.`,
          );
        if (users.length >= usersMax)
          throw refused(`There are ${users.length} users, which is the maximum. Remove one first.`);
        return [...users, newUser({ name, role, hasKey: true, pools, quota })];
      });
      await untilKnown(settings, name);
      printSettings(settings, name, options);
    },
  );
  addUserQuota(user, { config, change, refused, unknown: unknownUser });

  user
    .command("list")
    .description("list all users, including those of the installation")
    .option("--json", "print JSON")
    .action((options: { json?: true }) => {
      const users = (readUsers(usersFileOf(config())) ?? []).map((each) => {
        const { name, role, pools, quota } = each;
        return { name, role: roleOf(each) ?? role, ...given({ pools, quota }) };
      });
      if (options.json) return printJson({ users });
      const poolsOf = ({ role, pools }: (typeof users)[number]): string =>
        pools?.join(", ") ?? (isUserRole(role) ? "all" : "");
      new Table(["NAME", "ROLE", "POOLS", "QUOTAS"]).print(
        users.map((each) => [each.name, each.role, poolsOf(each), shownQuota(each.quota)]),
      );
    });

  user
    .command("rotate")
    .description("give a user a new password and key, close its connections, and print its new settings")
    .argument("<name>", "client, operator, auditor, or a user that was added")
    .option("--host <name>", "the name or address by which the user reaches this machine", readHostName)
    .option("--json", "print JSON")
    .action(async (name: string, options: { host?: string; json?: true }) => {
      const settings = config();
      let before: User | undefined;
      await change(settings, (users) => {
        before = users.find((each) => each.name === name);
        if (before === undefined) throw unknownUser(name);
        if (before.role !== "auditor" && roleOf(before) === undefined)
          throw refused(`${name} is a login of the installation's services. They would be cut off.`);
        return users.map((each) => (each === before ? rotated(each) : each));
      });
      if (before !== undefined) await untilUnknown(settings, before);
      printSettings(settings, name, options);
    });

  user
    .command("remove")
    .description("remove a user and close its connections")
    .argument("<name>", "a user that was added", readName)
    .option("--json", "print JSON")
    .action(async (name: string, options: { json?: true }) => {
      const settings = config();
      const before = readUsers(usersFileOf(settings))?.find((each) => each.name === name);
      await change(settings, (users) => {
        if (!users.some((each) => each.name === name)) throw unknownUser(name);
        return users.filter((each) => each.name !== name);
      });
      if (before !== undefined) await untilUnknown(settings, before);
      if (options.json) return printJson({ removed: name });
      print(`${name} is removed`);
    });

  user
    .command("conf")
    .description("print accounts, users and rights, to include in the configuration of your own NATS server")
    .option("--out <file>", "write to this file, which only you can read")
    .option("--services <folder>", "also write <folder>/<service>/users.json, with the logins that each service needs")
    .action(async ({ out, services }: { out?: string; services?: string }) => {
      await changeUsers(usersFileOf(config()), withBuiltIn, (users) => {
        if (services !== undefined) writeServiceUsers(services, users);
        if (out === undefined) process.stdout.write(confOf(users));
        else replaceFile(out, confOf(users));
      });
    });
}

function readName(text: string): string {
  if (!userNamePattern.test(text)) {
    throw new InvalidArgumentError(
      "It must be at most 32 lower-case letters, digits and dashes, and not begin with a dash.",
    );
  }
  if (roles.some((role) => role === text)) throw new InvalidArgumentError("This user belongs to the installation.");
  return text;
}

function readNewName(text: string): string {
  if (text === healthUser) throw new InvalidArgumentError("This name is reserved for the health check.");
  return readName(text);
}

async function change(config: Config, decide: (users: readonly User[]) => readonly User[]): Promise<void> {
  let changes: UserChanged[] = [];
  await changeUsers(
    usersFileOf(config),
    (users) => {
      const before = withBuiltIn(users);
      const after = decide(before);
      changes = changesOf(before, after);
      return after;
    },
    async (users) => {
      try {
        await apply(config, users);
      } finally {
        for (const each of changes) logChange(config.dataDir, each);
      }
    },
  );
}

/** The NATS server learns of the changed users. */
async function apply(config: Config, users: readonly Hashed<User>[]): Promise<void> {
  const folder = join(config.dataDir, "nats");
  if (config.natsUsers !== undefined) {
    return printError('the users file is changed. Run "npx remuda user conf" again, and reload your NATS server.');
  }
  if (!existsSync(folder)) return;
  replaceFile(join(folder, "users.conf"), confOf(users));
  await reloadServer({ folder, record: join(folder, "broker.json") });
}

function printSettings(config: Config, name: string, options: { host?: string; json?: true }): void {
  const variables = environmentOf(config, { as: name, host: options.host });
  if (options.json) return printJson(variables);
  for (const [variable, value] of Object.entries(variables)) print(`${variable}=${shellQuoted(value)}`);
}

function unknownUser(name: string): Refused {
  return refused(`There is no user ${name}. "npx remuda user list" lists all.`);
}

function refused(message: string): Refused {
  return new Refused(refuse("invalid-request", message));
}

async function untilKnown(config: Config, name: string): Promise<void> {
  await until((state) => state !== "refused", config, findAddress({ ...config, ...noLogin(config) }, name).natsUrl);
}

async function untilUnknown(config: Config, user: User): Promise<void> {
  const { natsUrl } = findAddress({ ...config, ...noLogin(config) });
  await until((state) => state !== "accepted", config, withLogin(natsUrl, user));
}

/** REMUDA_NATS_URL may have another user's login. */
function noLogin({ natsUrl }: Config): Partial<Config> {
  return natsUrl === undefined ? {} : { natsUrl: readNatsUrl(natsUrl).servers.join(",") };
}

async function until(isSettled: (state: Login) => boolean, config: Config, url: string): Promise<void> {
  if (config.natsUsers !== undefined || readNatsUrl(url).user === undefined) return;
  const deadline = performance.now() + effectMsMax;
  while (!isSettled(await tryLogin(url, findAddress(config).tlsCa))) {
    if (performance.now() > deadline) {
      throw new Fault(
        "retry-later",
        "the users file is changed, but the NATS server has not loaded it. See its log, nats/nats.log.",
      );
    }
    await sleep(20);
  }
}

type Login = "accepted" | "refused" | "no answer";

async function tryLogin(url: string, caFile: string | undefined): Promise<Login> {
  try {
    const nc = await dial(url, {
      caFile,
      unanswered: (where) => `no server answers at ${where}`,
      reconnect: false,
      timeout: 2000,
    });
    await nc.close();
    return "accepted";
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    if (error.code === "retry-later") return "no answer";
    if (error.cause instanceof AuthorizationError) return "refused";
    throw error;
  }
}
