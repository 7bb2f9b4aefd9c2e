// `remuda lease`, `renew`, `report`, `release`, `leases`.
import { type Command, Option } from "commander";
import type { WhyIgnored } from "../events/outcome.ts";
import { reasons } from "../events/words.ts";
import { given } from "../protocol/given.ts";
import type { LeaseReply, LeasesGranted, ReleaseReply } from "../protocol/lease.ts";
import type { ReportReply } from "../protocol/outcome.ts";
import { leasesIn } from "../protocol/wire.ts";
import { Fault } from "../runtime/fault.ts";
import { showInstant } from "../runtime/text.ts";
import { type Asked, durationForm, poolCommand, readCount, readCountOrNone, readDuration } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { printError } from "./failure.ts";
import { type LeaseOptions, leaseOptions, requestFor } from "./lease-request.ts";
import { type Column, type Order, printer, sorted, sortOption } from "./list.ts";
import { print, printFields, printJson, printReply, showDuration, showRelative } from "./output.ts";
import { printPages, type Range, rangeOptions } from "./pages.ts";

export function addLeases(program: Command, withService: WithService): void {
  leaseOptions(poolCommand(program, "lease", "lease a proxy, and print its URL with the credentials"))
    .option(
      "--count <n>",
      "the number of leases (at most 100), each on another exit; you get as many as can be granted at once",
      readCount,
    )
    .action(async (options: Asked & LeaseOptions) => {
      const reply = await withService(options, (ask) => requestFor<LeaseReply | LeasesGranted>(ask, options));
      if (options.json) return printJson(reply);
      for (const [index, lease] of leasesIn(reply).entries()) {
        if (index > 0) print("");
        showLease(options, lease);
      }
    });

  poolCommand(program, "renew", "extend a lease")
    .argument("<leaseId>")
    .option("--ttl <duration>", `the new remaining time, ${durationForm} (default: that of the policy)`, readDuration)
    .action(async (leaseId: string, options: Asked & { ttl?: number }) => {
      const body = { leaseId, ...given({ ttlMs: options.ttl }) };
      showLease(options, await withService(options, (ask) => ask<LeaseReply>("renew", body)));
    });

  poolCommand(program, "report", "report the outcome of one use of a lease")
    .argument("<leaseId>")
    .option("--n <n>", "the number of the use, from 1; required if the lease has several uses", readCount)
    .option("--status <status>", "the target's HTTP status", readCount)
    .addOption(new Option("--result <result>", "the result of the use").choices(["success", "failure"]))
    .addOption(new Option("--reason <reason>", "the reason of a failure").choices(reasons))
    .option("--error <code>", "the error code of a failure, such as ECONNREFUSED")
    .option("--latency <duration>", "the time that the use took", readDuration)
    .option("--bytes <n>", "the bytes that were received", readCountOrNone)
    .option("--target <url>", "the target, a URL or host; only the host is recorded")
    .option("--retry-after <duration>", "the Retry-After time that the target sent", readDuration)
    .option("--token-rejected", "the target rejected the guest token; a success for the proxy")
    .option("--token-id <tokenId>", "the rejected token (default: the token of the lease)")
    .option("--final", "this was the last use; return the remaining uses")
    .action(async (leaseId: string, options: ReportOptions) => {
      const { n, status, result, reason, error, final, tokenRejected } = options;
      if ((status ?? result ?? reason ?? error ?? tokenRejected) === undefined) {
        const ways = "--status, --result, --reason, --error and --token-rejected";
        throw new Fault("fix-setup", `the outcome is missing. Give one of ${ways}.`);
      }
      const { latency: latencyMs, bytes, target, retryAfter: retryAfterMs, tokenId } = options;
      const seen = { n, status, result, reason, error, latencyMs, bytes, target, retryAfterMs };
      const outcome = { leaseId, ...given({ ...seen, tokenRejected, tokenId, final }) };
      const reply = await withService(options, (ask) => ask<ReportReply>("report", { outcomes: [outcome] }));
      showReport(options, reply);
    });

  poolCommand(program, "release", "end a lease, and return the uses that were not made")
    .argument("<leaseId>")
    .option("--used <n>", "the number of uses that were made (default: all)", readCountOrNone)
    .action(async (leaseId: string, options: Asked & { used?: number }) => {
      const body = { leaseId, ...given({ used: options.used }) };
      printReply(options, await withService(options, (ask) => ask<ReleaseReply>("release", body)));
    });

  sortOption(rangeOptions(poolCommand(program, "leases", "list the open leases")), columns)
    .option("--holder <name>", "only leases of this holder")
    .option("--proxy <proxyId>", "only leases of this proxy")
    .action(async (options: Asked & Range & { holder?: string; proxy?: string; sort?: Order }) => {
      const { sort } = options;
      const filter = given({ holder: options.holder, proxyId: options.proxy });
      const arrange = sort && ((all: ListedLease[]) => sorted(all, columns, sort));
      const list = { verb: "leases.list", filter, options, show: printer(columns), arrange } as const;
      await withService(options, (ask) => printPages<ListedLease>(ask, list));
    });
}

const columns: readonly Column<ListedLease>[] = [
  { name: "LEASE", cell: ({ leaseId }) => leaseId },
  { name: "PROXY", cell: ({ proxyId }) => proxyId },
  { name: "USES", cell: ({ uses }) => uses },
  { name: "ENDS", cell: ({ expiresAt }) => showRelative(expiresAt), by: ({ expiresAt }) => expiresAt },
  { name: "HOLDER", cell: ({ holder }) => holder },
];

interface ReportOptions extends Asked {
  n?: number;
  status?: number;
  result?: string;
  reason?: string;
  error?: string;
  latency?: number;
  bytes?: number;
  target?: string;
  retryAfter?: number;
  tokenRejected?: true;
  tokenId?: string;
  final?: true;
}

type ListedLease = Omit<LeaseReply, "url" | "password"> & { holder?: string };

/** The fields that a worker needs, under the protocol's names: `remuda lease | awk '/^url/ { print $2 }'`. */
function showLease(options: Asked, lease: LeaseReply): void {
  if (options.json) return printJson(lease);
  const { leaseId, url, proxyId, uses, expiresAt, leftMs, labels, token } = lease;
  const withToken = token === undefined ? {} : { token: token.value, tokenId: token.tokenId };
  printFields({ leaseId, url, proxyId, uses, expiresAt, leftMs, labels, ...withToken });
}

/** A report that was already counted is a success. Any other ignored report is a failure. */
function showReport(options: Asked, reply: ReportReply): void {
  if (options.json) printJson(reply);
  const why = reply.ignored[0]?.why;
  if (why !== undefined && why !== "duplicate") {
    printError(`${why}: the report was ignored. ${whatToDo[why]}`);
    process.exitCode = 1;
  } else if (!options.json) {
    print(why === undefined ? "accepted" : "accepted before (this use was already reported)");
    for (const { until } of reply.stop) {
      print(
        `stop: the proxy rests until ${showInstant(until)} (${showDuration(until - Date.now())}); make no more uses`,
      );
    }
  }
}

const whatToDo: Record<Exclude<WhyIgnored, "duplicate">, string> = {
  unreadable: "One of its fields is wrong.",
  "unknown-lease": "No lease has this id, or it ended more than ten minutes ago.",
  "n-missing": "The lease has several uses. Give the number of the use with --n.",
  "n-too-large": "The lease has fewer uses. --n counts them from 1.",
  "no-result": "It has no outcome. Give --result.",
};
