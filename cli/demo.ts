// `remuda up --demo`: ten real forward proxies on loopback, each with its own exit, and a site to fetch through them.
// They have a pool of their own. They end with this process, and are retired then. If this process is killed, the next
// start retires them: a file lists them.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { startProxies } from "../demo/proxies.ts";
import { startDemoTarget } from "../demo/target.ts";
import { Fault, resultOr } from "../runtime/fault.ts";
import { replaceFile } from "../runtime/files.ts";
import type { PoolPort } from "../services/sources/pool.ts";

/** It is open before the demo starts. At the end it is closed, unless it has other proxies as well. */
export const demoPool = "demo";
const count = 10;
/** The addresses are 127.0.20.11 to 127.0.20.20. The longer demo starts at 127.0.30.11. */
const block = 20;
/** The site's limit equals the default policy's limit. */
const limit = { limit: 30, windowMs: 60_000 };
const labels = { demo: "true" };

export interface Demo {
  /** The site's, `http://127.0.0.1:port/`. */
  url: string;
  /** Lines that describe it to the user. */
  lines: readonly string[];
  stop(): Promise<void>;
}

/** @throws Fault "fix-setup" if the platform cannot run a demo. */
export function checkDemo(platform: string = process.platform): void {
  if (platform === "linux") return;
  throw new Fault("fix-setup", "--demo needs Linux: on other systems no proxy can leave from 127.0.0.2.");
}

/** @param dataDir lists the proxies to retire at the end. */
export async function startDemo(pools: PoolPort, dataDir: string): Promise<Demo> {
  const target = await startDemoTarget(limit);
  const proxies = await startProxies({ count, block, seed: 1 }).catch((cause: Error) => {
    target.stop();
    throw new Fault("fix-setup", `the demo's proxies cannot listen on 127.0.${block}.*: ${cause.message}`, { cause });
  });
  const stop = async (): Promise<void> => {
    proxies.stop();
    target.stop();
    await endLastDemo(() => pools, dataDir);
  };
  try {
    const urls = proxies.proxies.map(({ url }) => url);
    replaceFile(fileIn(dataDir), `${JSON.stringify({ urls })}\n`); // Before they are added, because we may be killed in between.
    await pools.add(
      demoPool,
      urls.map((url) => ({ url, labels })),
    );
  } catch (error) {
    await stop().catch(() => {}); // Report the first error. Remaining entries are retired at the next start.
    throw error;
  }
  return {
    url: target.url,
    lines: [
      `The demo: the pool ${demoPool} has ${count} proxies, which leave from 127.0.${block}.11 to ${10 + count}.`,
      `Some are slow, and one fails at times. The site ${target.url} bans an`,
      `address at its ${limit.limit + 1}st request within any ${limit.windowMs / 1000} s. All of it ends with this process.`,
      ...["lease", "proxies list", "pool stats", "watch"].map(
        (command) => `  npx remuda ${command} --pool ${demoPool}`,
      ),
    ],
    stop,
  };
}

/**
 * Retires the proxies of an earlier demo, if there was one, and closes its pool. Nothing listens at their addresses any
 * more.
 */
export async function endLastDemo(pools: () => PoolPort | Promise<PoolPort>, dataDir: string): Promise<void> {
  const urls = urlsIn(dataDir);
  if (urls === undefined) return;
  const opened = await pools();
  const all: { id: string; url: string }[] = [];
  for await (const page of opened.proxies(demoPool, undefined)) all.push(...page);
  const ids = all.filter(({ url }) => urls.includes(url)).map(({ id }) => id);
  if (ids.length > 0) await opened.retire(demoPool, ids, "the demo has ended");
  rmSync(fileIn(dataDir), { force: true }); // Only now: until then the next start must find it.
  if (ids.length === all.length) await opened.close(demoPool);
}

function fileIn(dataDir: string): string {
  return join(dataDir, "demo.json");
}

/** Undefined if there was no demo. */
function urlsIn(dataDir: string): string[] | undefined {
  const text = resultOr(() => readFileSync(fileIn(dataDir), "utf8"), "");
  const urls = resultOr(() => (JSON.parse(text) as { urls?: unknown }).urls ?? [], undefined);
  return Array.isArray(urls) ? urls.filter((url) => typeof url === "string") : undefined;
}
