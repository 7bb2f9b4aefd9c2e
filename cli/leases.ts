// Leases: taking one, renewing, reporting, releasing, listing.

import { type Command, Option } from "commander";
import { reasons, type WhyIgnored } from "../events/outcome.ts";
import { given } from "../protocol/given.ts";
import type { LeaseReply, ReleaseReply } from "../protocol/lease.ts";
import { outcomeSchema, type ReportReply } from "../protocol/outcome.ts";
import { readAs } from "../protocol/request.ts";
import { Fault } from "../runtime/fault.ts";
import { type Asked, durationForm, poolCommand, readCount, readCountOrNone, readDuration } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { complain } from "./failure.ts";
import { type LeaseOptions, leaseOptions, requestFor } from "./lease-request.ts";
import { print, printFields, printJson, printReply, showDuration, showInstant, Table } from "./output.ts";
import { printPages, type Range, rangeOptions } from "./pages.ts";

export function addLeases(program: Command, withService: WithService): void {
  leaseOptions(poolCommand(program, "lease", "lease a proxy; its url has the credentials")).action(
    async (options: Asked & LeaseOptions) => {
      const lease = await withService(options, (ask) => requestFor(ask, options));
      showLease(options, lease);
    },
  );

  poolCommand(program, "renew", "let a lease last longer")
    .argument("<leaseId>")
    .option("--ttl <duration>", `from now on, ${durationForm}`, readDuration)
    .action(async (leaseId: string, options: Asked & { ttl?: number }) => {
      const body = { leaseId, ...given({ ttlMs: options.ttl }) };
      showLease(options, await withService(options, (ask) => ask<LeaseReply>("renew", body)));
    });

  poolCommand(program, "report", "report what became of a use of a lease")
    .argument("<leaseId>")
    .option("--n <n>", "which use, from 1; needed where the lease has more than one", readCount)
    .option("--status <status>", "the target's HTTP status", readCount)
    .addOption(new Option("--result <result>", "what it was").choices(["success", "failure"]))
    .addOption(new Option("--reason <reason>", "why it failed").choices(reasons))
    .option("--error <code>", "the error's code, such as ECONNREFUSED")
    .option("--latency <duration>", "how long it took", readDuration)
    .option("--bytes <n>", "how much came", readCountOrNone)
    .option("--target <url>", "where it went, a URL or host: only the host is kept")
    .option("--retry-after <duration>", "what the target asked for", readDuration)
    .option("--token-rejected", "the target did not take the guest token: no fault of the proxy's")
    .option("--token-id <tokenId>", "which token (default: the one that came with the lease)")
    .option("--final", "no further use will be made: the rest are given back")
    .action(async (leaseId: string, options: ReportOptions) => {
      const { n, status, result, reason, error, final, tokenRejected } = options;
      if ((status ?? result ?? reason ?? error ?? tokenRejected) === undefined) {
        const ways = "--status, --result, --reason, --error and --token-rejected";
        throw new Fault("fix-setup", `what became of it? Give one of ${ways}.`);
      }
      const { latency: latencyMs, bytes, target, retryAfter: retryAfterMs, tokenId } = options;
      const seen = { n, status, result, reason, error, latencyMs, bytes, target, retryAfterMs };
      const outcome = { leaseId, ...given({ ...seen, tokenRejected, tokenId, final }) };
      const reply = await withService(options, (ask) => ask<ReportReply>("report", { outcomes: [outcome] }));
      showReport(options, outcome, reply);
    });

  poolCommand(program, "release", "give a lease back")
    .argument("<leaseId>")
    .option("--used <n>", "how many uses were made; the rest are given back (default: all were)", readCountOrNone)
    .action(async (leaseId: string, options: Asked & { used?: number }) => {
      const body = { leaseId, ...given({ used: options.used }) };
      printReply(options, await withService(options, (ask) => ask<ReleaseReply>("release", body)));
    });

  rangeOptions(poolCommand(program, "leases", "list the open leases"))
    .option("--holder <name>", "only those of this holder")
    .option("--proxy <proxyId>", "only those of this proxy")
    .action(async (options: Asked & Range & { holder?: string; proxy?: string }) => {
      const filter = given({ holder: options.holder, proxyId: options.proxy });
      const table = new Table(["LEASE", "PROXY", "USES", "ENDS", "HOLDER"]);
      const show = (page: ListedLease[]): void =>
        table.print(
          page.map((each) => [each.leaseId, each.proxyId, each.uses, showInstant(each.expiresAt), each.holder]),
        );
      await withService(options, (ask) => printPages<ListedLease>(ask, { verb: "leases.list", filter, options, show }));
    });
}

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

/** A report that was ignored because it was already counted is a success. Any other ignored report is a failure. */
function showReport(options: Asked, outcome: object, reply: ReportReply): void {
  if (options.json) printJson(reply);
  const why = reply.ignored[0]?.why;
  if (why !== undefined && why !== "duplicate") {
    complain(`${why}: the report was ignored; ${why === "unreadable" ? whyUnreadable(outcome) : whatToDo[why]}.`);
    process.exitCode = 1;
  } else if (!options.json) {
    print(why === undefined ? "accepted" : "accepted before (this use had been reported already)");
    for (const { until } of reply.stop) {
      print(
        `stop: the proxy rests until ${showInstant(until)} (${showDuration(until - Date.now())}); make no further use`,
      );
    }
  }
}

const whatToDo: Record<Exclude<WhyIgnored, "duplicate" | "unreadable">, string> = {
  "unknown-lease": "no lease has this id, or it ended more than ten minutes ago",
  "n-missing": "the lease has several uses: say which with --n",
  "n-too-large": "the lease has not so many uses: --n counts them from 1",
  "no-result": "it does not say what became of the use: give --result",
};

/** The service says only that it cannot be read. The schema says which value is wrong. */
function whyUnreadable(outcome: object): string {
  const read = readAs(outcomeSchema, outcome);
  return "refusal" in read ? read.refusal.message.replace(/\.$/, "") : "the service is of another version";
}
