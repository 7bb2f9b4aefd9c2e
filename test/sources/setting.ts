// The setting of the sources tests: a picker and an API on their own broker, a site that answers as a test says, and
// the sources in this process. The sources' clock is moved manually, so that a minute of doubt takes no time.

import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import type { SourceReply } from "../../protocol/source.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { poolsOver } from "../../services/sources/pool.ts";
import { Sources } from "../../services/sources/sources.ts";
import { type Call, callerOf } from "../api/http.ts";
import { sharedTestBroker } from "../kit/broker.ts";
import { HandClock } from "../kit/hand-clock.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { eventually } from "../kit/poll.ts";
import { startRemuda } from "../kit/process.ts";

export let call: Call;
export let bus: Bus;
export let siteUrl: string;
/** Requests to the site since the test began. */
export let asked: IncomingMessage[];
export let folder: string;
export let clock: HandClock;
export let sources: Sources;
/** The log, from `warn` on. */
export let said: string[];
/** A new pool for each test. */
export let pool: string;

let shared: ReturnType<typeof startPicker> | undefined;
let site: Server;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let pools = 0;

/** Call it at the head of a file. */
export function setUp(): void {
  beforeAll(async () => {
    shared ??= startPicker();
    const { natsUrl, httpUrl } = await shared;
    call = callerOf(httpUrl);
    bus = await openBus(natsUrl, "sources test");
    site = createServer((request, response) => {
      asked.push(request);
      answer(request, response);
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => site.once("listening", resolve));
    siteUrl = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
  });

  afterAll(async () => {
    await bus?.close();
    site?.closeAllConnections();
    site?.close();
  });

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "sources-test-"));
    clock = new HandClock();
    said = [];
    asked = [];
    says(list(4));
    pool = `p${++pools}`;
    await openPool(pool);
  });

  afterEach(async () => {
    await sources?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
}

/** Without the service's own sources: those of the tests answer instead. Other files use them as well. */
async function startPicker(): Promise<{ natsUrl: string; httpUrl: string }> {
  const { url: natsUrl } = await sharedTestBroker();
  const dataDir = mkdtempSync(join(tmpdir(), "sources-service-"));
  const env = { REMUDA_NATS_URL: natsUrl };
  await startRemuda({ dataDir, args: ["run", "picker"], env, isShared: true });
  const { httpUrl = "" } = await startRemuda({ dataDir, args: ["run", "api"], env, isShared: true });
  return { natsUrl, httpUrl };
}

export async function openPool(name: string, lines: string[] = []): Promise<void> {
  await call(`PUT /v1/pools/${name}`);
  if (lines.length > 0) await call(`POST /v1/pools/${name}/proxies`, lines);
}

/** `count` lines of proxies, from the `first`. */
export const list = (count: number, first = 1) =>
  Array.from({ length: count }, (_, i) => `user:secret@10.7.0.${first + i}:8080`).join("\n");

/** Sets the site's answers from now on: a body, or a function that answers. */
export function says(what: string | ((request: IncomingMessage, response: ServerResponse) => void)): void {
  answer = typeof what === "string" ? (_request, response) => response.end(what) : what;
}

export async function start(...configured: object[]): Promise<void> {
  configure(...configured);
  await startWith();
}

/** Sets the content of the sources' file. */
export function configure(...configured: object[]): void {
  const text = JSON.stringify({ sources: configured.map((each) => ({ pool, ...each })) });
  writeFileSync(join(folder, "sources.json"), text);
}

/** @param options.seen the folder for the entries that the sources have named. */
export async function startWith({ seen = join(folder, "seen"), mayBeWrong = false } = {}): Promise<void> {
  const log = pino({ level: "warn" }, { write: (line: string) => void said.push(line) });
  const ports = { front: bus, pools: poolsOver(bus), clock, log };
  sources = new Sources({ ...ports, outbound: loopbackAllowed, file: join(folder, "sources.json"), folder: seen });
  await sources.start({ mayBeWrong });
}

export async function ask<Reply = { code?: string; message?: string }>(
  verb: string,
  body: object = {},
): Promise<Reply> {
  return (
    await bus.nc.request(`remuda.sources.${verb}.${pool}`, JSON.stringify(body), { timeout: 20_000 })
  ).json<Reply>();
}

export const read = (name: string) => ask<SourceReply>("read", { name });
export const statusOf = async (name: string) =>
  (await ask<{ sources: SourceReply[] }>("list")).sources.find((each) => each.name === name);

/**
 * Resolves when the source has been read and its next look is scheduled. Moving the clock before that has no effect.
 */
export async function looked(name: string): Promise<void> {
  await eventually(async () => expect((await statusOf(name))?.nextAt).toBeDefined());
}

/** The last numbers of the hosts of all proxies that are not retired. */
export async function inPool(of = pool): Promise<number[]> {
  const { body } = await call(`GET /v1/pools/${of}/proxies?limit=1000`);
  const all = body.proxies as { host: string; state: string }[];
  return all
    .filter(({ state }) => state !== "retired")
    .map(({ host }) => Number(host.split(".")[3]))
    .toSorted((a, b) => a - b);
}

/** Retires a proxy as an operator does. */
export async function retire(number: number): Promise<void> {
  const { body } = await call(`GET /v1/pools/${pool}/proxies?limit=1000`);
  const proxy = (body.proxies as { id: string; host: string }[]).find(({ host }) => host === `10.7.0.${number}`);
  await call(`DELETE /v1/pools/${pool}/proxies/${proxy?.id}`);
}

export function file(text: string): string {
  const path = join(folder, "list.txt");
  writeFileSync(path, text);
  // Older than a file that counts as being written.
  utimesSync(path, new Date(clock.wall() - 10_000), new Date(clock.wall() - 10_000));
  return path;
}
