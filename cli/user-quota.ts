// The quotas of users, as options of `remuda user …`. A running picker applies a change to the next request.
import { type Command, InvalidArgumentError } from "commander";
import { type Quota, quotaMax, quotaNames, quotas } from "../protocol/quota.ts";
import type { Config } from "../runtime/config.ts";
import { readUsers, type User } from "../runtime/users.ts";
import { readCount } from "./arguments.ts";
import { roleOf, usersFileOf } from "./login.ts";
import { print, printJson } from "./output.ts";

export type QuotaOptions = Partial<Record<keyof Quota, number | "none">>;

/** Adds an option for each quota: `--open-leases <n>`. */
export function withQuotas(command: Command, { mayEnd = false } = {}): Command {
  for (const name of quotaNames) {
    const option = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const what = `quota: the maximum number of ${quotas[name]}${mayEnd ? ', or "none"' : ""}`;
    command.option(`--${option} <n>`, what, (text) => (mayEnd && text === "none" ? text : readMost(text)));
  }
  return command;
}

/** The quotas that the options set, over the present ones. Undefined: none is left. */
export function quotaIn(options: QuotaOptions, present: User["quota"] = {}): User["quota"] | undefined {
  const quota = { ...present };
  for (const name of quotaNames) {
    const most = options[name];
    if (most === "none") delete quota[name];
    else if (most !== undefined) quota[name] = most;
  }
  return Object.keys(quota).length === 0 ? undefined : quota;
}

export function shownQuota(quota: User["quota"]): string {
  return Object.entries(quota ?? {})
    .map(([name, most]) => `${name} ${most}`)
    .join(", ");
}

export function addUserQuota(
  user: Command,
  ports: {
    config: () => Config;
    change: (config: Config, decide: (users: readonly User[]) => readonly User[]) => Promise<void>;
    refused: (message: string) => Error;
    unknown: (name: string) => Error;
  },
): void {
  const command = user
    .command("quota")
    .description("change a user's quotas, or show them")
    .argument("<name>", "client, operator, or a user that was added")
    .option("--json", "print JSON");
  withQuotas(command, { mayEnd: true }).action(async (name: string, options: QuotaOptions & { json?: true }) => {
    const config = ports.config();
    const changed = (each: User): User => {
      const { quota: present, ...others } = each;
      const quota = quotaIn(options, present);
      return quota === undefined ? others : { ...others, quota };
    };
    const found = (users: readonly User[]): User => {
      const one = users.find((each) => each.name === name);
      if (one === undefined) throw ports.unknown(name);
      if (roleOf(one) === undefined) throw ports.refused(`${name} is a login of the installation. It has no quotas.`);
      return one;
    };
    let quota: User["quota"];
    if (quotaNames.every((each) => options[each] === undefined))
      ({ quota } = found(readUsers(usersFileOf(config)) ?? []));
    else
      await ports.change(config, (users) => {
        const one = changed(found(users));
        ({ quota } = one);
        return users.map((each) => (each.name === name ? one : each));
      });
    if (options.json) return printJson({ name, quota: quota ?? {} });
    print(`${name}: ${quota === undefined ? "no quotas" : shownQuota(quota)}`);
  });
}

function readMost(text: string): number {
  const most = readCount(text);
  if (most <= quotaMax) return most;
  throw new InvalidArgumentError(`It must be at most ${quotaMax}.`);
}
