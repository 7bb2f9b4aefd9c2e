// The options of a lease request, for `lease` and `exec`.
import { randomUUID } from "node:crypto";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import { schemes } from "../events/words.ts";
import { given } from "../protocol/given.ts";
import type { LeaseReply, LeasesGranted } from "../protocol/lease.ts";
import { leasesIn } from "../protocol/wire.ts";
import { durationForm, readCount, readDuration, readLabel } from "./arguments.ts";
import type { Ask } from "./connection.ts";

export interface LeaseOptions {
  count?: number;
  uses?: number;
  minUses?: number;
  ttl?: number;
  wait?: number;
  label?: Record<string, string>;
  scheme?: string[];
  exclude?: string[];
  session?: string;
  holder?: string;
  requestId?: string;
  proxyId?: string;
  target?: string;
  token?: true;
}

export function leaseOptions(command: Command): Command {
  return command
    .option("--uses <n>", "the number of uses to request (default: 1)", readCount)
    .option("--min-uses <n>", "refuse a lease with fewer uses than this", readCount)
    .option("--ttl <duration>", `the length of the lease, ${durationForm}`, readDuration)
    .option("--wait <duration>", "how long to wait if no proxy can be leased now (at most 60s)", readDuration)
    .option("--label <name=value...>", "only proxies with this label", readLabel)
    .addOption(new Option("--scheme <scheme...>", "only proxies of this scheme").choices(schemes))
    .option("--exclude <proxyId...>", "none of these proxies")
    .option("--session <name>", "requests with the same session name get the same proxy, if possible")
    .option("--holder <name>", "the name of the lease's owner, for lists and for limits per holder")
    .option("--request-id <id>", "a UUID; a retry with the same one gets the same lease")
    .option("--proxy-id <proxyId>", "this proxy only; such a request does not wait")
    .option("--target <url>", "the target, a URL or host; the strategy bandit may choose by it")
    .option("--token", "also get a guest token of the pool");
}

/** After an interrupt, the command waits at most this long. */
const cancelMs = 2000;

/** Requests a lease. If the user interrupts a waiting request, it is cancelled, so that no lease is left unowned. */
export async function requestFor<Reply extends LeaseReply | LeasesGranted = LeaseReply>(
  ask: Ask,
  options: LeaseOptions,
): Promise<Reply> {
  const { wait = 0 } = options;
  if (wait === 0) return ask<Reply>("lease", requestOf(options));
  const requestId = options.requestId ?? randomUUID();
  const asked = ask<Reply>("lease", { ...requestOf(options), requestId }, wait);
  const undo = async (): Promise<void> => {
    const { cancelled } = await ask<{ cancelled: boolean }>("cancel", { requestId });
    // A retry with an id that the user chose gets the lease.
    if (cancelled || options.requestId !== undefined) return;
    // Granted just before the cancellation.
    for (const { leaseId } of leasesIn(await asked)) await ask("release", { leaseId, used: 0 });
  };
  let ending: Promise<void> | undefined;
  const cancel = (signal: NodeJS.Signals): void => {
    // npx sends a second signal after the terminal's own. It changes nothing.
    ending ??= Promise.race([undo(), sleep(cancelMs)])
      .catch(() => {}) // The lease expires by itself.
      .finally(() => process.exit(128 + constants.signals[signal]));
  };
  for (const signal of endings) process.on(signal, cancel);
  try {
    return await asked;
  } finally {
    await ending; // The process ends here.
    for (const signal of endings) process.off(signal, cancel);
  }
}

const endings = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The body of the request. */
function requestOf(options: LeaseOptions): object {
  const { count, uses, minUses, ttl: ttlMs, wait: waitMs, label: labels, scheme, ...same } = options;
  const { exclude, session, holder, requestId, proxyId, target, token } = same;
  const which = { labels, schemes: scheme, exclude, session, proxyId };
  return given({ count, uses, minUses, ttlMs, waitMs, ...which, holder, requestId, target, token });
}
