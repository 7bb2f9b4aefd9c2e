// `remuda exec -- <command>`: runs a command through a leased proxy. It passes the proxy to the command in the usual
// variables, renews the lease while the command runs, reports an outcome by the exit code, and releases the lease.
//
// No request leaves after the end of the lease: if the lease cannot be renewed, the command is ended. If this process
// is killed by SIGKILL, the command goes on. Use a supervisor if that matters.
import { basename } from "node:path";
import { type Command, Option } from "commander";
import type { Reason } from "../events/outcome.ts";
import { reasons } from "../events/words.ts";
import { given } from "../protocol/given.ts";
import type { LeaseReply, ReleaseReply } from "../protocol/lease.ts";
import type { Outcome, ReportReply } from "../protocol/outcome.ts";
import { systemClock } from "../runtime/clock.ts";
import { Fault, messageOf } from "../runtime/fault.ts";
import { type Asked, poolCommand } from "./arguments.ts";
import { type Ended, exitCodeOf, startChild } from "./child.ts";
import type { WithService } from "./connection.ts";
import { printError, Refused } from "./failure.ts";
import { type LeaseOptions, leaseOptions, requestFor } from "./lease-request.ts";
import { showDuration } from "./output.ts";
import { proxyVariables } from "./proxy-variables.ts";
import { keepLease } from "./tenure.ts";

interface ExecOptions extends Asked, LeaseOptions {
  failure: Reason;
  direct?: string;
}

export function addExec(program: Command, withService: WithService): void {
  leaseOptions(
    poolCommand(program, "exec", "run a command through a leased proxy, and report its exit code as the outcome"),
  )
    .argument("<command...>", "the command, after --; it may make as many requests as the lease has uses")
    .addOption(
      new Option("--failure <reason>", "the reason to report if the command fails")
        .choices(reasons)
        .default("proxy-error"),
    )
    .option(
      "--direct <hosts>",
      "hosts that the command reaches without the proxy (its NO_PROXY; the shell's is not passed on)",
    )
    .passThroughOptions()
    .addHelpText(
      "after",
      `
Environment: HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, also in lower case,
REMUDA_LEASE_ID, REMUDA_PROXY_ID, REMUDA_PROXY_URL, REMUDA_POOL and REMUDA_USES.
With --token also REMUDA_TOKEN and REMUDA_TOKEN_ID. All uses of the lease count
as made.
Exit code: that of the command; 128 plus the signal's number if a signal ends
it; 126 or 127 if it cannot be run. If no lease is granted: 1 (refused), 2
(wrong usage) or 3 (no service). --json prints how the lease ended on stderr.`,
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
      renew: () =>
        withService(quiet(options), (ask) =>
          ask<LeaseReply>("renew", { leaseId: lease.leaseId, ...given({ ttlMs: options.ttl }) }),
        ),
      isFinal: (error) => error instanceof Refused,
      onEnding: (why) => {
        cutOff = true;
        printError(`the lease ${lease.leaseId} ends and cannot be renewed (${reasonIn(why)}). Ending ${name}.`);
        child.end("SIGTERM");
      },
      onEnded: () => child.end("SIGKILL"),
    },
  );
  const ended = await child.ended;
  stopKeeping();
  if (cutOff) child.end("SIGKILL"); // Some of its children may still run.
  if ("whyNot" in ended) printError(ended.whyNot);
  await giveBack(withService, { lease, ended, cutOff, options });
  child.forget();
  // The NATS library leaves the socket of a timed-out attempt open, which would keep the process alive.
  setTimeout(() => process.exit(), 100).unref();
  return exitCodeOf(ended);
}

/** The standard output belongs to the command. */
function quiet({ pool }: Asked): Asked {
  return { pool };
}

function reasonIn(why: unknown): string {
  if (why === undefined) return "the service did not answer in time";
  return messageOf(why).replace(/\.$/, "");
}

/** A failure here is reported and does not change the exit code, because the command has done its work. */
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
    if (error instanceof Refused) printError(`${error.refusal.code}: ${error.message}`);
    else if (error instanceof Fault) {
      const left = showDuration(Math.max(0, lease.expiresAt - Date.now()));
      printError(`the lease ${leaseId} could not be released: ${error.message} It ends by itself in at most ${left}.`);
    } else throw error;
  }
  if (options.json !== true) return;
  const { result, reason } = outcome ?? {};
  const told = { leaseId, proxyId, uses, used: released?.used ?? used, result, reason, exitCode: exitCodeOf(ended) };
  process.stderr.write(`${JSON.stringify(told)}\n`);
}

/**
 * One outcome for the whole run, as the last use. The command may report the other uses itself. An end that the proxy
 * did not cause (a signal, a command that was not found) is neutral.
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
