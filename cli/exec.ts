// `remuda exec -- <command>`: runs a command through a leased proxy. It leases, and passes the proxy to the command in
// the variables that programs read. It passes signals on, renews while the command runs, reports by its exit code, and
// releases the lease.
//
// No request leaves after the lease: if the lease cannot be renewed, the command is ended. If this process is killed
// outright, nothing renews the lease or ends the command when it expires. Use a supervisor if that matters.
import { basename } from "node:path";
import { type Command, Option } from "commander";
import { type Reason, reasons } from "../events/outcome.ts";
import type { LeaseReply, ReleaseReply } from "../protocol/lease.ts";
import type { Outcome, ReportReply } from "../protocol/outcome.ts";
import { systemClock } from "../runtime/clock.ts";
import { Fault } from "../runtime/fault.ts";
import { type Asked, poolCommand } from "./arguments.ts";
import { type Ended, exitCodeOf, startChild } from "./child.ts";
import type { WithService } from "./connection.ts";
import { complain, Refused } from "./failure.ts";
import { type LeaseOptions, leaseOptions, requestFor } from "./lease-request.ts";
import { showDuration } from "./output.ts";
import { proxyVariables } from "./proxy-variables.ts";
import { keepLease } from "./tenure.ts";

interface ExecOptions extends Asked, LeaseOptions {
  failure: Reason;
  direct?: string;
}

export function addExec(program: Command, withService: WithService): void {
  leaseOptions(poolCommand(program, "exec", "run a command through a leased proxy; its exit code says how it went"))
    .argument("<command...>", "after --; it may make as many requests as the lease has uses, and all count as made")
    .addOption(
      new Option("--failure <reason>", "what to report where it fails").choices(reasons).default("proxy-error"),
    )
    .option(
      "--direct <hosts>",
      "hosts it reaches without the proxy (its NO_PROXY; that of this shell is not passed on)",
    )
    .passThroughOptions()
    .addHelpText(
      "after",
      `
The command gets HTTP_PROXY, HTTPS_PROXY and ALL_PROXY in both cases, REMUDA_LEASE_ID, REMUDA_PROXY_ID, REMUDA_PROXY_URL,
REMUDA_POOL and REMUDA_USES, with --token REMUDA_TOKEN and REMUDA_TOKEN_ID. Exit code: the command's own, 128 and the number
of the signal that killed it, 126 or 127 where it cannot be run; before it runs 1 (refused), 2, 3 as everywhere. --json prints
what became of the lease on stderr at the end.`,
    )
    .action(async (command: string[], options: ExecOptions) => {
      process.exitCode = await exec(withService, command, options);
    });
}

async function exec(withService: WithService, command: string[], options: ExecOptions): Promise<number> {
  const askedAt = systemClock.monotonic();
  const lease = await withService(options, (ask) => requestFor(ask, options));
  const name = basename(command[0] ?? "");
  const child = startChild(command, { ...process.env, ...proxyVariables(lease, options.direct) });
  let cutOff = false;
  const stopKeeping = keepLease(
    { leftMs: lease.leftMs, askedAt },
    {
      clock: systemClock,
      renew: () => withService(quiet(options), (ask) => ask<LeaseReply>("renew", renewalOf(lease, options))),
      isFinal: (error) => error instanceof Refused,
      onEnding: (why) => {
        cutOff = true;
        complain(`the lease ${lease.leaseId} ends and cannot be renewed (${reasonIn(why)}): ending ${name}`);
        child.end("SIGTERM");
      },
      onEnded: () => child.end("SIGKILL"),
    },
  );
  const ended = await child.ended;
  stopKeeping();
  if (cutOff) child.end("SIGKILL"); // It has ended, but perhaps not all of its children.
  if ("whyNot" in ended) complain(ended.whyNot);
  await giveBack(withService, { lease, ended, cutOff, options });
  child.forget();
  // The NATS library leaves the socket of a timed-out attempt open, which would keep the process alive.
  setTimeout(() => process.exit(), 100).unref();
  return exitCodeOf(ended);
}

function renewalOf(lease: LeaseReply, { ttl }: ExecOptions): object {
  return { leaseId: lease.leaseId, ...(ttl === undefined ? {} : { ttlMs: ttl }) };
}

/** The standard output belongs to the command. */
function quiet({ pool }: Asked): Asked {
  return { pool };
}

function reasonIn(why: unknown): string {
  if (why === undefined) return "the service has not answered in time";
  return (why instanceof Error ? why.message : String(why)).replace(/\.$/, "");
}

/** A failure here does not undo the command's work. It is reported, and the lease expires by itself. */
async function giveBack(
  withService: WithService,
  done: { lease: LeaseReply; ended: Ended; cutOff: boolean; options: ExecOptions },
): Promise<void> {
  const { lease, ended, cutOff, options } = done;
  const { leaseId, proxyId, uses } = lease;
  const hasRun = !("whyNot" in ended);
  const outcome = hasRun ? outcomeOf(lease, { ended, cutOff, failure: options.failure }) : undefined;
  const used = hasRun ? uses : 0;
  let released: ReleaseReply | undefined;
  try {
    released = await withService(quiet(options), async (ask) => {
      if (outcome !== undefined) await ask<ReportReply>("report", { outcomes: [outcome] });
      return ask<ReleaseReply>("release", { leaseId, used });
    });
  } catch (error) {
    if (error instanceof Refused) complain(`${error.refusal.code}: ${error.message}`);
    else if (error instanceof Fault) {
      const left = showDuration(Math.max(0, lease.expiresAt - Date.now()));
      complain(
        `what became of the lease ${leaseId} could not be told (${error.message}) It runs out in ${left} at most.`,
      );
    } else throw error;
  }
  if (options.json !== true) return;
  const { result, reason } = outcome ?? {};
  const told = { leaseId, proxyId, uses, used: released?.used ?? used, result, reason, exitCode: exitCodeOf(ended) };
  process.stderr.write(`${JSON.stringify(told)}\n`);
}

/**
 * One outcome for the whole run, as its last use. A command that reports its own uses has its own numbers for the
 * others. An end that the proxy did not cause (a signal, a command that was not found) is neutral.
 */
function outcomeOf(
  { leaseId, uses }: LeaseReply,
  { ended, cutOff, failure }: { ended: Ended; cutOff: boolean; failure: Reason },
): Outcome {
  const code = exitCodeOf(ended);
  const use = { leaseId, n: uses };
  if (cutOff || code === 126 || code === 127 || code > 128)
    return { ...use, result: "failure", reason: "client-abort" };
  return code === 0 ? { ...use, result: "success" } : { ...use, result: "failure", reason: failure };
}
