// `remuda pool …`: opens, shows, changes and closes pools.
import type { Command } from "commander";
import { given } from "../protocol/given.ts";
import type { PoolReply, StatsReply } from "../protocol/pool.ts";
import { showInstant } from "../runtime/text.ts";
import { type Asked, poolCommand, readCount } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { printError } from "./failure.ts";
import { readDocument } from "./files.ts";
import { print, printJson, printReply, Table } from "./output.ts";

export function addPools(program: Command, withService: WithService): void {
  const pool = program.command("pool").description("open, show, change and close pools");

  poolCommand(pool, "open", "open a pool; if it is open, merge the given policy into its own")
    .option("--policy <document>", "a partial policy: JSON, a file, or - for the standard input")
    .option("--forget", "open it though its ledger has lost commits, and forget what is lost")
    .action(async (options: Asked & { policy?: string; forget?: true }) => {
      const policy = options.policy === undefined ? undefined : await readDocument(options.policy);
      show(
        options,
        await withService(options, (ask) => ask<PoolReply>("pool.open", given({ policy, forget: options.forget }))),
        "is open",
      );
    });

  poolCommand(pool, "get", "show a pool and its policy").action(async (options: Asked) => {
    const reply = await withService(options, (ask) => ask<PoolReply>("pool.get", {}));
    printReply(options, reply);
  });

  poolCommand(pool, "policy", "print the policy as JSON, or merge a partial one into it")
    .argument("[document]", "a partial policy: JSON, a file, or - for the standard input")
    .option("--reset", "go back to the default policy; a document given is merged into that one")
    .option("--if-version <n>", "only if the policy is still at this version", readCount)
    .action(async (document: string | undefined, options: Asked & { ifVersion?: number; reset?: true }) => {
      const { reset, ifVersion } = options;
      if (document === undefined && reset === undefined) {
        const reply = await withService(options, (ask) => ask<PoolReply>("pool.get", {}));
        // The output can be edited and passed back.
        return options.json ? printJson(reply) : print(JSON.stringify(reply.policy, null, 2));
      }
      const policy = document === undefined ? undefined : await readDocument(document);
      const body = given({ policy, reset, ifVersion });
      show(options, await withService(options, (ask) => ask<PoolReply>("pool.policy", body)), "has its policy");
    });

  poolCommand(pool, "stats", "show a pool's statistics").action(async (options: Asked) => {
    const reply = await withService(options, (ask) => ask<StatsReply>("pool.stats", {}));
    printReply(options, reply);
  });

  poolCommand(pool, "close", "close a pool; its ledger stays, and the pool can be opened again")
    .option("--drain", "grant no more leases, and close when the last lease has ended")
    .action(async (options: Asked & { drain?: true }) => {
      const body = given({ drain: options.drain });
      const reply = await withService(options, (ask) => ask<PoolReply>("pool.close", body));
      if (options.json) printJson(reply);
      else print(options.drain ? `${reply.pool} closes when its last lease has ended` : `${reply.pool} is closed`);
    });

  pool
    .command("list")
    .description("list the open pools")
    .option("--json", "print JSON")
    .action(async (options: { json?: true }) => {
      const asked = { ...options, pool: "default" };
      const reply = await withService(asked, (ask) => ask<{ pools: PoolReply[] }>("pool.list", {}));
      if (options.json) return printJson(reply);
      new Table(["POOL", "POLICY VERSION", "STRATEGY", "OPENED"]).print(
        reply.pools.map((each) => [each.pool, each.version, each.policy.strategy.kind, showInstant(each.openedAt)]),
      );
    });
}

function show(options: Asked, reply: PoolReply, what: string): void {
  if (options.json) return printJson(reply);
  print(`${reply.pool} ${what}, version ${reply.version}`);
  for (const warning of reply.warnings ?? []) printError(`warning: ${warning}`);
}
