// `npm run demo`: four ways of picking a proxy, under the same load, against sites that ban permanently. Ends with 1 if
// Remuda had a ban.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Contender, type Load, startContender } from "./contender.ts";
import type { PickingKind } from "./picking.ts";
import { startRedis } from "./redis.ts";
import { ServiceProcess } from "./service.ts";
import { names, percent, tableOf } from "./table.ts";

const usage = `npm run demo -- [--window 60s] [--windows n] [--proxies 10] [--workers 4] [--seed 1]

Ten forward proxies run on loopback. Each has an exit address of its own. Each way of picking gets a target of its own,
which bans an address for good at its 31st request within the window. --window 5s scales all times, so that the demo
takes less than a minute.`;
const limit = 30;
const interrupted = 130;
const signalMsMax = 200;
/** The share of the limits. More jobs than can be done, so that there is demand for every slot. */
const demand = 1.15;
const servedShareMin = 0.9;

interface Settings {
  windowMs: number;
  windows: number;
  proxies: number;
  workers: number;
  seed: number;
}

const settings = readSettings(process.argv.slice(2));
if (typeof settings === "string") {
  console.error(settings);
  process.exitCode = settings === usage ? 0 : 2;
} else if (process.platform !== "linux") {
  console.error("The demo needs Linux: other systems have no 127.0.0.2 for a proxy to leave from.");
  process.exitCode = 2;
} else {
  try {
    process.exitCode = await demo(settings);
  } catch (error) {
    console.error(`The demo failed: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}

async function demo({ windowMs, windows, proxies, workers, seed }: Settings): Promise<number> {
  const forMs = windowMs * windows;
  const possible = limit * proxies * windows;
  const pace = (demand * limit * proxies * 1000) / windowMs;
  const load: Load = { limit, windowMs, proxies, workers, pace, forMs, seed };
  const folder = mkdtempSync(join(tmpdir(), "remuda-demo-"));
  const ending: (() => void | Promise<void>)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const end = async () => {
    for (const one of ending.splice(0).reverse()) await one();
  };
  let stopping: Promise<void> | undefined;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    // npm passes on the signal that the terminal has sent to all. The second one changes nothing.
    process.on(signal, () => {
      const exit = () => process.exit(interrupted);
      stopping ??= end();
      void stopping.then(exit, exit);
    });
  }
  try {
    console.log(
      `${proxies} proxies, at most ${limit} requests each within any ${windowMs / 1000} s, for ${forMs / 1000} s: ${possible} requests ` +
        `are possible. ${workers} worker processes ask for ${Math.round(demand * 100)} % of that.`,
    );
    const redis = await startRedis(folder);
    if (redis === undefined) console.log("(redis-server is not installed: that comparison is left out)");
    else ending.push(redis.stop);
    const service = await ServiceProcess.at(join(folder, "data"));
    ending.push(() => service.stop());
    await service.start();

    const kinds: PickingKind[] = ["round-robin", "counters", ...(redis ? (["redis"] as const) : []), "remuda"];
    const contenders: Contender[] = [];
    for (const [place, kind] of kinds.entries()) {
      const contender = await startContender(kind, { ...load, block: 30 + place }, async (urls) => {
        if (kind === "redis" && redis !== undefined) return { redisPort: redis.port };
        if (kind !== "remuda") return {};
        await setUp(service, { urls, windowMs });
        return { natsUrl: service.natsUrl };
      });
      contenders.push(contender);
      ending.push(contender.stop);
    }

    const startedAt = performance.now();
    const progress = showProgress(contenders, () => Math.min(1, (performance.now() - startedAt) / forMs));
    const runs = Promise.all(contenders.map((contender) => contender.run()));
    runs.catch(() => {}); // It is awaited below.
    await sleep(forMs / 2);
    const awayMs = await service.restart("SIGKILL");
    await runs;
    progress.end();

    const results = contenders.map((contender) => contender.result());
    console.log(`\n${tableOf(results, possible)}\n`);
    console.log(`Remuda was killed after ${forMs / 2000} s and was back after ${(awayMs / 1000).toFixed(1)} s.`);
    const remuda = results.find(({ kind }) => kind === "remuda");
    if (remuda === undefined) throw new Error("Remuda did not take part");
    if (remuda.bans > 0) console.log(`Not as promised: ${remuda.bans} bans.`);
    else if (remuda.served < servedShareMin * possible)
      console.log(
        `Only ${percent(remuda.served, possible)} of the possible requests were served. The time of a restart is not scaled, ` +
          "and a busy machine is slow. Try a longer --window.",
      );
    return remuda.bans === 0 ? 0 : 1;
  } catch (error) {
    // Ctrl-C ends the children too. Their end may be noticed before the signal.
    if (stopping === undefined) await sleep(signalMsMax);
    if (stopping === undefined) throw error;
    await stopping; // The error follows from the stop.
    return interrupted;
  } finally {
    await end();
  }
}

/** The pool's policy has its times scaled with the window. The limits are the defaults, except for the long rests. */
async function setUp(service: ServiceProcess, { urls, windowMs }: { urls: string[]; windowMs: number }): Promise<void> {
  const scale = windowMs / 60_000;
  const scaled = (ms: number) => Math.max(1, Math.round(ms * scale));
  const policy = {
    rate: { limit, windowMs },
    // The length of a restart does not scale, and a lease granted before it must be usable after it.
    marginMs: scaled(100),
    lease: { ttlMs: Math.max(15_000, scaled(90_000)), graceMs: Math.max(100, scaled(2000)) },
    backoff: { kind: "exponential", baseMs: scaled(1000), jitterMs: scaled(1000) },
    usage: null, // A demo of the rate: a usage quota of 500 would end in the middle of a long one.
  };
  await ask(`${service.httpUrl}/v1/pools/default`, { method: "PATCH", body: JSON.stringify({ policy }) });
  await ask(`${service.httpUrl}/v1/pools/default/proxies`, { method: "POST", body: urls.join("\n") });
}

async function ask(url: string, init: RequestInit): Promise<void> {
  const reply = await fetch(url, init);
  if (!reply.ok) throw new Error(`${init.method} ${new URL(url).pathname}: ${await reply.text()}`);
}

/** On a terminal, one line per contender, redrawn. In a pipe nothing. */
function showProgress(contenders: readonly Contender[], done: () => number): { end(): void } {
  if (!process.stdout.isTTY) return { end: () => {} };
  const width = Math.max(...Object.values(names).map((name) => name.length));
  let lines = 0;
  const draw = () => {
    const text = contenders.map((contender) => {
      const { served, bans, waiting } = contender.result();
      return `${names[contender.kind].padEnd(width)}  ${String(served).padStart(6)} served  ${String(bans).padStart(3)} banned  ${waiting} waiting`;
    });
    text.push(`${"█".repeat(Math.round(40 * done())).padEnd(40, "·")} ${Math.round(100 * done())} %`);
    process.stdout.write(`${lines > 0 ? `\x1b[${lines}A` : ""}${text.map((line) => `\x1b[2K${line}\n`).join("")}`);
    lines = text.length;
  };
  draw();
  const timer = setInterval(draw, 250);
  return {
    end() {
      clearInterval(timer);
      draw();
    },
  };
}

/** An error sentence, or the usage, if they cannot be read. */
function readSettings(args: string[]): Settings | string {
  const options = {
    window: { type: "string", default: "60s" },
    windows: { type: "string" },
    proxies: { type: "string", default: "10" },
    workers: { type: "string", default: "4" },
    seed: { type: "string", default: "1" },
    help: { type: "boolean", default: false },
  } as const;
  try {
    const { values } = parseArgs({ args, options });
    if (values.help) return usage;
    const seconds = /^(\d+(?:\.\d+)?)s?$/.exec(values.window)?.[1];
    const windowMs = Math.round(Number(seconds ?? Number.NaN) * 1000);
    if (!(windowMs >= 1000 && windowMs <= 600_000)) return "--window: seconds from 1 to 600, such as 5s";
    const windows = values.windows ?? String(Math.max(3, Math.min(9, Math.floor(45_000 / windowMs))));
    const numbers = { windows, proxies: values.proxies, workers: values.workers, seed: values.seed };
    const bounds = { windows: 100, proxies: 200, workers: 64, seed: 2 ** 31 };
    for (const [name, text] of Object.entries(numbers)) {
      const max = bounds[name as keyof typeof bounds]; // The same names, just above.
      if (!/^\d+$/.test(text) || Number(text) < 1 || Number(text) > max)
        return `--${name}: a whole number from 1 to ${max}`;
    }
    const { proxies, workers, seed } = numbers;
    return {
      windowMs,
      windows: Number(windows),
      proxies: Number(proxies),
      workers: Number(workers),
      seed: Number(seed),
    };
  } catch (error) {
    return `${error instanceof Error ? error.message : error}\n\n${usage}`;
  }
}
