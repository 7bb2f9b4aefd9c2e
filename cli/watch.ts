// `remuda watch`: the events of a pool as they happen, read from its ledger with an auditor's rights. The hosts and ports
// of proxies come from the events, and from the service if it answers.
import { spawn } from "node:child_process";
import { fstatSync } from "node:fs";
import { type Command, InvalidArgumentError } from "commander";
import { given } from "../protocol/given.ts";
import type { ProxyReply } from "../protocol/proxy.ts";
import { resultOr } from "../runtime/fault.ts";
import type { Place } from "../runtime/tail.ts";
import type { Address } from "./address.ts";
import { type Asked, poolCommand, readDuration } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { type AnyEvent, eventLine } from "./event-line.ts";
import { printError } from "./failure.ts";
import { type FeedCommit, feed } from "./feed.ts";
import { print, printJson } from "./output.ts";
import { pagesOf } from "./pages.ts";

interface WatchOptions extends Asked {
  type?: string[];
  proxy?: string[];
  from?: Place;
}

/** Beyond this number, proxies are shown by their ids. */
const namesMax = 100_000;
const leasesMax = 100_000;

export function addWatch(program: Command, find: () => Address, withService: WithService): void {
  poolCommand(program, "watch", "show events as they happen, until Ctrl-C")
    .option("--type <type...>", "only events of this type, such as RestBegan")
    .option("--proxy <proxyId...>", "only events of this proxy")
    .option(
      "--from <place>",
      "begin earlier: at a sequence (1 is the beginning), an instant (2026-01-31T12:00Z), or a time ago (10m)",
      readPlace,
    )
    .addHelpText("after", "\nWith --json, each event is one line: {n, at, sequence, type, event}.")
    .action((options: WatchOptions) => watch(options, find, withService));
}

async function watch(options: WatchOptions, find: () => Address, withService: WithService): Promise<void> {
  const { pool, json, type, proxy, from } = options;
  const ending = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => ending.abort());
  const stopLooking = onReaderGone(() => process.exit(0));
  const names = new Map<string, string>();
  if (json !== true) await learnNames(names, withService, pool);
  const proxyOfLease = new Map<string, string>();
  const onLink = (isUp: boolean): void =>
    printError(
      isUp ? "connected again." : "the connection is lost; watching continues when it is back, and misses nothing.",
    );

  for await (const { commit, sequence } of feed({ pool, find, ...given({ from }), signal: ending.signal, onLink })) {
    for (const event of eventsIn(commit)) {
      learn(event, names, proxyOfLease);
      const proxyId = event.proxyId ?? (event.leaseId === undefined ? undefined : proxyOfLease.get(event.leaseId));
      if (event.type === "LeaseClosed" && event.leaseId !== undefined) proxyOfLease.delete(event.leaseId);
      if (type !== undefined && !type.includes(event.type)) continue;
      if (proxy !== undefined && (proxyId === undefined || !proxy.includes(proxyId))) continue;
      if (json === true) printJson({ n: commit.n, at: commit.at, sequence, type: event.type, event });
      else {
        print(eventLine(commit, { ...event, ...given({ proxyId }) }, (id) => names.get(id) ?? id));
      }
    }
  }
  stopLooking();
}

function eventsIn(commit: FeedCommit["commit"]): AnyEvent[] {
  return commit.events as AnyEvent[]; // A leader wrote them: each has a type.
}

function learn(event: AnyEvent, names: Map<string, string>, proxyOfLease: Map<string, string>): void {
  if (event.type === "ProxyAdded" && event.proxyId !== undefined && names.size < namesMax) {
    names.set(event.proxyId, nameOf(event as AnyEvent & Named)); // The fields of a ProxyAdded.
  }
  if (event.type === "LeaseGranted" && event.leaseId !== undefined && event.proxyId !== undefined) {
    const [oldest] = proxyOfLease.keys();
    if (proxyOfLease.size >= leasesMax && oldest !== undefined) proxyOfLease.delete(oldest);
    proxyOfLease.set(event.leaseId, event.proxyId);
  }
}

type Named = Pick<ProxyReply, "host" | "port" | "username">;

function nameOf({ host, port, username }: Named): string {
  const at = username === undefined ? "" : `${username}@`;
  return `${at}${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Asks the service. If it does not answer, events are shown with the ids of their proxies. */
async function learnNames(names: Map<string, string>, withService: WithService, pool: string): Promise<void> {
  try {
    await withService({ pool }, async (ask) => {
      for await (const { proxies } of pagesOf<{ proxies: ProxyReply[]; next?: string }>(ask, "proxies.list", {})) {
        for (const proxy of proxies) names.set(proxy.id, nameOf(proxy));
        if (names.size >= namesMax) return;
      }
    });
  } catch {
    // See above.
  }
}

export function readPlace(text: string): Place {
  if (/^\d{1,12}$/.test(text)) return { seq: Math.max(0, Number(text) - 1), at: 0 };
  const ago = (): number => Date.now() - readDuration(text);
  const at = /^\d{13}$/.test(text) ? Number(text) : /^\d{4}-/.test(text) ? Date.parse(text) : resultOr(ago, Number.NaN);
  if (Number.isNaN(at)) throw new InvalidArgumentError("It must be a sequence, an instant, or a duration such as 10m.");
  // If no message has this sequence, only the time counts.
  return { seq: Number.MAX_SAFE_INTEGER, at: at - 1 };
}

/**
 * A reader behind a pipe may exit (`| head -3`) while there is nothing to write. Only a write reveals that to Node. GNU
 * tail notices it at once, and exits. With another tail, or none, the next event reveals it.
 */
function onReaderGone(callback: () => void): () => void {
  if (!fstatSync(1).isFIFO()) return () => {};
  const args = ["-f", `--pid=${process.pid}`, "/dev/null"];
  const lookout = spawn("tail", args, { stdio: ["ignore", "inherit", "ignore"] });
  lookout.once("error", () => {});
  lookout.once("exit", (_code, signal) => signal === "SIGPIPE" && callback());
  lookout.unref();
  return () => void lookout.kill();
}
