// The options of a lease request on the command line. `lease` and `exec` take the same ones.

import { randomUUID } from "node:crypto";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import { schemes } from "../events/proxy.ts";
import { given } from "../protocol/given.ts";
import type { LeaseReply } from "../protocol/lease.ts";
import { durationForm, readCount, readDuration, readLabel } from "./arguments.ts";
import type { Ask } from "./connection.ts";

export interface LeaseOptions {
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
    .option("--uses <n>", "how many uses to request for", readCount)
    .option("--min-uses <n>", "no lease with fewer uses than this", readCount)
    .option("--ttl <duration>", `how long the lease lasts, ${durationForm}`, readDuration)
    .option("--wait <duration>", "how long to wait where none can be leased at once (at most 60s)", readDuration)
    .option("--label <name=value...>", "only proxies with this label", readLabel)
    .addOption(new Option("--scheme <scheme...>", "only proxies of this scheme").choices(schemes))
    .option("--exclude <proxyId...>", "none of these proxies")
    .option("--session <name>", "the proxy that requests with this name got before, while it can be had")
    .option("--holder <name>", "who holds it, as lists of leases show it")
    .option("--request-id <id>", "a UUID: asked again with the same one, the service gives the same lease")
    .option("--proxy-id <proxyId>", "this proxy or none: such a lease request does not wait")
    .option("--target <url>", "what it is for, a URL or host: the strategy bandit may choose by it")
    .option("--token", "with a guest token of the pool");
}

/** After an interrupt, the command waits no longer than this. */
const takeBackMs = 2000;

/**
 * Requests a lease. If the user interrupts while the request waits, it is cancelled, so that no lease is left unowned.
 */
export async function requestFor(ask: Ask, options: LeaseOptions): Promise<LeaseReply> {
  const { wait = 0 } = options;
  if (wait === 0) return ask<LeaseReply>("lease", requestOf(options));
  const requestId = options.requestId ?? randomUUID();
  const asked = ask<LeaseReply>("lease", { ...requestOf(options), requestId }, wait);
  const back = async (): Promise<void> => {
    const { cancelled } = await ask<{ cancelled: boolean }>("cancel", { requestId });
    // If the user chose the id, a retry with it gets the lease.
    if (cancelled || options.requestId !== undefined) return;
    const { leaseId } = await asked; // It was granted at this very moment.
    await ask("release", { leaseId, used: 0 });
  };
  let ending: Promise<void> | undefined;
  const takeBack = (signal: NodeJS.Signals): void => {
    // A second signal, such as npx sends after the terminal's own, does not end it sooner.
    ending ??= Promise.race([back(), sleep(takeBackMs)])
      .catch(() => {}) // A lease that was granted nevertheless expires by itself.
      .finally(() => process.exit(128 + constants.signals[signal]));
  };
  for (const signal of endings) process.on(signal, takeBack);
  try {
    return await asked;
  } finally {
    await ending; // The process ends here.
    for (const signal of endings) process.off(signal, takeBack);
  }
}

const endings = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The body of the request. */
export function requestOf(options: LeaseOptions): object {
  const { uses, minUses, ttl: ttlMs, wait: waitMs, label: labels, scheme, ...same } = options;
  const { exclude, session, holder, requestId, proxyId, target, token } = same;
  const which = { labels, schemes: scheme, exclude, session, proxyId };
  return given({ uses, minUses, ttlMs, waitMs, ...which, holder, requestId, target, token });
}
