// `remuda watch`: the events of a pool as they happen, read from its ledger with an auditor's rights. The hosts and
// ports of proxies come from the events, and from the service if it answers.
import { spawn } from "node:child_process";
import { fstatSync } from "node:fs";
import { type Command, InvalidArgumentError } from "commander";
import { given } from "../protocol/given.ts";
import { nearestName } from "../protocol/nearest-name.ts";
import type { ProxyReply } from "../protocol/proxy.ts";
import { Fault } from "../runtime/fault.ts";
import type { Place } from "../runtime/tail.ts";
import { showInstant } from "../runtime/text.ts";
import { readMoment } from "../services/audit/moment.ts";
import type { LedgerAddress } from "./address.ts";
import { type Asked, poolCommand } from "./arguments.ts";
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

export function addWatch(program: Command, find: () => LedgerAddress, withService: WithService): void {
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

async function watch(options: WatchOptions, find: () => LedgerAddress, withService: WithService): Promise<void> {
  const { pool, json, type, proxy, from } = options;
  if (type !== undefined) await checkTypes(type);
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
  // A pipe gets events alone.
  const onStart = (): void => void (process.stderr.isTTY && printError(whatIsWatched(options)));

  const wanted = { pool, find, ...given({ from }), signal: ending.signal, onLink, onStart };
  for await (const { commit, sequence } of feed(wanted)) {
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
  const moment = readMoment(text, Date.now());
  if (moment === undefined)
    throw new InvalidArgumentError("It must be a sequence, an instant, or a duration such as 10m.");
  if ("sequence" in moment) return { seq: Math.max(0, moment.sequence - 1), at: 0 };
  // If no message has this sequence, only the time counts.
  return { seq: Number.MAX_SAFE_INTEGER, at: moment.at - 1 };
}

/** @throws Fault if a type is not one that this version writes. */
async function checkTypes(types: readonly string[]): Promise<void> {
  const { eventSchemas } = await import("../events/event.ts"); // Late, because all schemas come with it.
  const known = Object.keys(eventSchemas);
  const unknown = types.find((type) => !known.includes(type));
  if (unknown === undefined) return;
  const nearest = nearestName(unknown, known);
  const hint = nearest === undefined ? `The types are ${known.join(", ")}.` : `Did you mean ${nearest}?`;
  throw new Fault("fix-setup", `--type: ${unknown} is not an event's type. ${hint}`);
}

/**
 * A sentence about the events that are shown: `watching the pool default from now on, only RestBegan. Ctrl-C ends it.`
 */
export function whatIsWatched({ pool, type = [], proxy = [], from }: WatchOptions): string {
  const beginning =
    from === undefined ? "now on" : from.at === 0 ? `sequence ${from.seq + 1}` : `${showInstant(from.at + 1)} on`;
  const only = [...type, ...proxy].length === 0 ? "" : `, only ${[...type, ...proxy].join(", ")}`;
  return `watching the pool ${pool} from ${beginning}${only}. Ctrl-C ends it.`;
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
