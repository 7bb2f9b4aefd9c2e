// `remuda pool …`: opens, shows, changes and closes pools.
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import { given } from "../protocol/given.ts";
import type { PoolReply, StatsReply } from "../protocol/pool.ts";
import type { SourceReply } from "../protocol/source.ts";
import { Fault } from "../runtime/fault.ts";
import { type Asked, poolCommand, readCount } from "./arguments.ts";
import type { Ask, WithService } from "./connection.ts";
import { printError, Refused } from "./failure.ts";
import { readDocument } from "./files.ts";
import { type Column, type Order, printer, sorted, sortOption } from "./list.ts";
import { print, printJson, printReply, showRelative } from "./output.ts";

export function addPools(program: Command, withService: WithService): void {
  const pool = program.command("pool").description("open, show, change and close pools");

  poolCommand(pool, "open", "open a pool; if it is open, merge the given policy into its own")
    .option("--policy <document>", "a partial policy: JSON, a file, or - for the standard input")
    .option("--forget", "open it although its ledger has lost commits, and forget them")
    .action(async (options: Asked & { policy?: string; forget?: true }) => {
      const policy = options.policy === undefined ? undefined : await readDocument(options.policy);
      await withService(options, async (ask) => {
        const wasOpen = options.json || (await isPoolOpen(ask));
        const reply = await ask<PoolReply>("pool.open", given({ policy, forget: options.forget }));
        show(options, reply, "is open");
        // Its first opening is version 1.
        if (!wasOpen && reply.version > 1) print(whatIsBack(await ask<StatsReply>("pool.stats", {})));
      });
    });

  poolCommand(pool, "get", "show a pool and its policy").action(async (options: Asked) => {
    const reply = await withService(options, (ask) => ask<PoolReply>("pool.get", {}));
    printReply(options, reply);
  });

  poolCommand(pool, "policy", "print the policy as JSON, or merge a partial one into it")
    .argument("[document]", "a partial policy: JSON, a file, or - for the standard input")
    .option("--reset", "go back to the default policy; a given document is merged over it")
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

  poolCommand(pool, "delete", "delete a closed pool: its proxies, credentials, sources and ledger are gone")
    .option("--yes", "do not ask first")
    .option("--archive", "delete the archive of its ledger as well")
    .action(async (options: Asked & { yes?: true; archive?: true }) => {
      if (options.yes !== true)
        await confirm(`Delete the pool ${options.pool} for good? Type its name: `, options.pool);
      await withService(options, async (ask) => {
        const sources = await sourcesOf(ask);
        await ask("pool.delete", given({ archive: options.archive }));
        for (const name of sources) await ask("sources.remove", { name });
      });
      if (options.json) printJson({ deleted: true });
      else print(`${options.pool} is deleted`);
    });

  sortOption(pool.command("list").description("list the open pools"), columns)
    .option("--json", "print JSON")
    .action(async (options: { json?: true; sort?: Order }) => {
      const asked = { ...options, pool: "default" };
      const reply = await withService(asked, (ask) => ask<{ pools: PoolReply[] }>("pool.list", {}));
      const pools = options.sort === undefined ? reply.pools : sorted(reply.pools, columns, options.sort);
      if (options.json) return printJson({ ...reply, pools });
      printer(columns)(pools);
    });
}

const columns: readonly Column<PoolReply>[] = [
  { name: "POOL", cell: ({ pool }) => pool },
  { name: "POLICY VERSION", cell: ({ version }) => version },
  { name: "STRATEGY", cell: ({ policy }) => policy.strategy.kind },
  { name: "OPENED", cell: ({ openedAt }) => showRelative(openedAt), by: ({ openedAt }) => openedAt },
];

async function isPoolOpen(ask: Ask): Promise<boolean> {
  try {
    await ask("pool.get", {});
    return true;
  } catch (error) {
    if (error instanceof Refused) return error.refusal.code !== "unknown-pool";
    throw error;
  }
}

/** Of a pool that was closed. */
function whatIsBack({ proxies: { retired, ...others } }: StatsReply): string {
  const count = others.available + others["in-use"] + others.cooling + others.exhausted;
  const besides = retired > 0 ? `, and ${retired} retired` : "";
  return `It was closed before. Its policy, uses and rests are back, and its proxies: ${count}${besides}.`;
}

/** The names of the pool's sources that requests can remove. None if no sources service runs. */
async function sourcesOf(ask: Ask): Promise<string[]> {
  try {
    const { sources } = await ask<{ sources: SourceReply[] }>("sources.list", {});
    return sources.filter(({ kind }) => kind === "url" || kind === "pool").map(({ name }) => name);
  } catch (error) {
    if (error instanceof Refused) return [];
    throw error;
  }
}

/** @throws Fault unless the person at the terminal types the expected text. */
async function confirm(question: string, expected: string): Promise<void> {
  if (!process.stdin.isTTY)
    throw new Fault(
      "fix-setup",
      "The standard input is not a terminal, so the command cannot ask. Confirm with --yes.",
    );
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await lines.question(question).finally(() => lines.close());
  if (answer.trim() !== expected) throw new Fault("fix-setup", "Not confirmed. Nothing was deleted.");
}

function show(options: Asked, reply: PoolReply, what: string): void {
  if (options.json) return printJson(reply);
  print(`${reply.pool} ${what}, version ${reply.version}`);
  for (const warning of reply.warnings ?? []) printError(`warning: ${warning}`);
}
