// `remuda user …`: the users that may lease from other machines. A change takes effect at once if the service runs,
// else at its next start.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AuthorizationError } from "@nats-io/transport-node";
import { type Command, InvalidArgumentError } from "commander";
import { refuse } from "../protocol/refusal.ts";
import { roles, userNamePattern } from "../protocol/rights.ts";
import { reloadServer } from "../runtime/broker/reload.ts";
import type { Config } from "../runtime/config.ts";
import { dial } from "../runtime/dial.ts";
import { Fault } from "../runtime/fault.ts";
import { replaceFile } from "../runtime/files.ts";
import { readNatsUrl, withLogin } from "../runtime/nats-url.ts";
import { changeUsers, newUser, readUsers, type User } from "../runtime/users.ts";
import { findAddress } from "./address.ts";
import { readHostName } from "./arguments.ts";
import { environmentOf, quoted } from "./environment.ts";
import { complain, Refused } from "./failure.ts";
import { confOf, usersFileOf, withBuiltIn } from "./login.ts";
import { print, printJson, Table } from "./output.ts";
import { writeServiceUsers } from "./service-users.ts";

/** A notified server applies a change within milliseconds. */
const effectMsMax = 5000;
const usersMax = 1000;

export function addUsers(program: Command, config: () => Config): void {
  const user = program
    .command("user")
    .description("let others in: each user has a password for NATS and a key for HTTP");

  user
    .command("add")
    .description("add a user with the rights of a client, and print what that user needs")
    .argument("<name>", "lower-case letters, digits and dashes, at most 32", readName)
    .option("--host <name>", "the name or address under which the user reaches this machine", readHostName)
    .option("--json", "print one JSON object")
    .action(async (name: string, options: { host?: string; json?: true }) => {
      const settings = config();
      await change(settings, (users) => {
        if (users.some((each) => each.name === name))
          throw refused(
            `the user ${name} is there already; remove it first for a new login, or see "npx remuda env --as ${name}"`,
          );
        if (users.length >= usersMax) throw refused(`there are ${users.length} users; at most ${usersMax}`);
        return [...users, newUser({ name, role: "client", hasKey: true })];
      });
      const { host } = options;
      const variables = environmentOf(settings, { as: name, ...(host === undefined ? {} : { host }) });
      await untilKnown(settings, name);
      if (options.json) return printJson(variables);
      for (const [variable, value] of Object.entries(variables)) print(`${variable}=${quoted(value)}`);
    });

  user
    .command("list")
    .description("list the users, those that came with the installation included")
    .option("--json", "print one JSON object")
    .action((options: { json?: true }) => {
      const users = (readUsers(usersFileOf(config())) ?? []).map(({ name, role }) => ({ name, role }));
      if (options.json) return printJson({ users });
      new Table(["NAME", "RIGHTS"]).print(users.map(({ name, role }) => [name, role]));
    });

  user
    .command("remove")
    .description("remove a user; its connections are closed")
    .argument("<name>", "a user added before", readName)
    .option("--json", "print one JSON object")
    .action(async (name: string, options: { json?: true }) => {
      const settings = config();
      const before = readUsers(usersFileOf(settings))?.find((each) => each.name === name);
      await change(settings, (users) => {
        if (!users.some((each) => each.name === name))
          throw refused(`there is no user ${name}; "npx remuda user list" has all`);
        return users.filter((each) => each.name !== name);
      });
      if (before !== undefined) await untilUnknown(settings, before);
      if (options.json) return printJson({ removed: name });
      print(`${name} is removed`);
    });

  user
    .command("conf")
    .description("print accounts, users and rights for a NATS server of your own, to be included in its configuration")
    .option("--out <file>", "write them into a file, readable by its owner alone")
    .option("--services <folder>", "and <folder>/<service>/users.json, with what each service needs to log in")
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
    throw new InvalidArgumentError("It must be lower-case letters, digits and dashes, at most 32, no dash first.");
  }
  if (roles.some((role) => role === text)) throw new InvalidArgumentError("This user belongs to the installation.");
  return text;
}

async function change(config: Config, decide: (users: readonly User[]) => readonly User[]): Promise<void> {
  const folder = join(config.dataDir, "nats");
  await changeUsers(
    usersFileOf(config),
    (users) => decide(withBuiltIn(users)),
    async (users) => {
      if (config.natsUsers !== undefined) {
        return complain(
          'the users file is changed; a NATS server of your own needs "npx remuda user conf" again, and a reload',
        );
      }
      if (!existsSync(folder)) return;
      replaceFile(join(folder, "users.conf"), confOf(users));
      await reloadServer({ folder, record: join(folder, "broker.json") });
    },
  );
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
        "the users file is changed, but the NATS server has not taken it over; its log (nats/nats.log) says why",
      );
    }
    await sleep(20);
  }
}

type Login = "accepted" | "refused" | "nobody there";

async function tryLogin(url: string, caFile: string | undefined): Promise<Login> {
  try {
    const nc = await dial(url, { caFile, nobody: (where) => `nobody is at ${where}`, reconnect: false, timeout: 2000 });
    await nc.close();
    return "accepted";
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    if (error.code === "retry-later") return "nobody there";
    if (error.cause instanceof AuthorizationError) return "refused";
    throw error;
  }
}
