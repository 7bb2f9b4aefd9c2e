// `remuda env`: the settings of a client, as shell assignments.
import type { Command } from "commander";
import { given } from "../protocol/given.ts";
import { roles } from "../protocol/rights.ts";
import type { Config } from "../runtime/config.ts";
import { keyOf } from "../runtime/credentials.ts";
import { Fault } from "../runtime/fault.ts";
import { shellQuoted } from "../runtime/text.ts";
import { readUsers } from "../runtime/users.ts";
import { addressFor } from "./address.ts";
import { readHostName } from "./arguments.ts";
import { roleOf, usersFileOf } from "./login.ts";
import { print, printJson } from "./output.ts";

export function addEnvironment(program: Command, config: () => Config): void {
  program
    .command("env")
    .description('print the settings of a client, as shell assignments for eval "$(npx remuda env)"')
    .option(
      "--as <user>",
      "client (leases proxies), operator (may do everything), auditor (reads ledgers), or a user added with user add",
      "client",
    )
    .option("--host <name>", "the name or address by which the client reaches this machine", readHostName)
    .option("--json", "print JSON")
    .action((options: { as: string; host?: string; json?: true }) => {
      const variables = environmentOf(config(), options);
      if (options.json) return printJson(variables);
      for (const [name, value] of Object.entries(variables)) print(`${name}=${shellQuoted(value)}`);
    });
}

/** @param wanted.as a user, or the auditor. The logins of the installation's services are not given out. */
export function environmentOf(
  config: Config,
  wanted: { as: string; host?: string | undefined },
): Record<string, string> {
  const { as } = wanted;
  const user = readUsers(usersFileOf(config))?.find(({ name }) => name === as);
  const { role } = user ?? { role: as };
  const isKnown = user !== undefined || roles.some((each) => each === as);
  if (!isKnown || (role !== "auditor" && roleOf({ role }) === undefined)) {
    throw new Fault(
      "fix-setup",
      `--as: there is no user ${as}. Give client, operator, auditor, or a user that was added ("npx remuda user list").`,
    );
  }
  const { natsUrl, httpUrl, gatewayUrl, tlsCa } = addressFor(config, { as, host: wanted.host });
  const overHttp = as === "auditor" || httpUrl === undefined ? {} : { url: httpUrl, key: user && keyOf(user) };
  const [REMUDA_HTTP_URL, REMUDA_HTTP_KEY] = [overHttp.url, overHttp.key];
  const REMUDA_GATEWAY_URL = as === "auditor" ? undefined : gatewayUrl;
  return {
    REMUDA_NATS_URL: natsUrl,
    ...given({ REMUDA_HTTP_URL, REMUDA_GATEWAY_URL, REMUDA_HTTP_KEY, REMUDA_TLS_CA: tlsCa }),
  };
}
