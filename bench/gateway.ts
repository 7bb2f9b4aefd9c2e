// The gateway beside proxy-chain with parents, and squid where it is installed: `npm run bench -- gateway`. All have the
// same proxies and the same target, one after the other in one run. The gateway leases from a real service, which is in
// the same process as it is with `remuda up`. Besides the requests per second, which depend on everything else that the
// machine does, it prints the CPU time of the contender's process per request.
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { kept, perRequest, plain, run, throughput, tunnel, type Worker } from "./gateway-load.ts";
import { type Contender, spentBy, startChain, startGateway, startSite, startSquid } from "./gateway-peers.ts";

const kinds: Record<string, (port: number) => Worker> = { plain, connect: perRequest, kept };
const titles: Record<string, string> = {
  plain: "plain HTTP",
  connect: "CONNECT per request",
  kept: "kept tunnels",
};
const warmUp = { ms: 3000, requests: 1000 };
/** A tunnel falls quiet, and its lease is given back. */
const quietMs = 3000;

export async function benchGateway(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: {
      ms: { type: "string", default: "3000" },
      only: { type: "string" },
      of: { type: "string" },
      apart: { type: "boolean", default: false },
      connections: { type: "string", default: "1,64,512" },
      idle: { type: "string", default: "1000" },
      requests: { type: "string" },
      profile: { type: "string" },
    },
  });
  const { ms, only, of, apart: isApart, connections, idle, requests, profile } = values;
  const folder = mkdtempSync(join(tmpdir(), "remuda-bench-"));
  const contenders: Contender[] = [];
  const site = await startSite();
  const isWanted = (what: string): boolean => only === undefined || only.split(",").includes(what);
  const isIn = (name: string): boolean => of === undefined || of.split(",").includes(name);
  try {
    const env = profile === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profile}` };
    if (isIn("gateway")) contenders.push(await startGateway(join(folder, "data"), site.ports, { env, isApart }));
    if (isIn("proxy-chain")) contenders.push(await startChain(site.ports));
    const squid = isIn("squid") ? await startSquid(folder, site.ports) : undefined;
    if (squid !== undefined) contenders.push(squid);
    else if (isIn("squid")) console.log("squid is not installed: it is left out (apt install squid)");
    console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}, fsync per commit`);
    if (requests !== undefined) {
      for (const each of contenders) await many(each, Number(requests));
      return;
    }
    for (const each of contenders)
      for (const worker of Object.values(kinds)) await run(workersOf(worker, each, 8), warmUp);
    for (const [kind, worker] of Object.entries(kinds))
      for (const count of connections.split(",").map(Number))
        for (const each of contenders)
          if (isWanted(kind))
            await report(each, `${titles[kind]}, ${count}`, workersOf(worker, each, count), Number(ms));
    if (isWanted("throughput")) for (const each of contenders) await big(each);
    if (isWanted("idle")) for (const each of contenders) await quiet(each, Number(idle));
  } finally {
    for (const each of contenders) await each.stop();
    site.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function workersOf(worker: (port: number) => Worker, { port }: Contender, count: number): Worker[] {
  return Array.from({ length: count }, () => worker(port));
}

async function report(contender: Contender, what: string, workers: Worker[], ms: number): Promise<void> {
  const before = spentBy(contender);
  const { count, failed, p50Ms, seconds } = await run(workers, { ms });
  const after = spentBy(contender);
  const micros = (used: number): string => `${Math.round((1e6 * used) / Math.max(1, count))} µs`;
  const others = Object.entries(after.others).map(
    ([name, cpu]) => `, ${name} ${micros(cpu - (before.others[name] ?? 0))}`,
  );
  say(
    contender,
    what,
    `${Math.round(count / seconds)}/s   p50 ${p50Ms.toFixed(2)} ms   CPU ${micros(after.cpu - before.cpu)}${others.join("")}`,
    failed > 0 ? `   ${failed} failed` : "",
  );
}

async function big(contender: Contender): Promise<void> {
  const before = spentBy(contender).cpu;
  const speed = await throughput(contender.port);
  const cpu = spentBy(contender).cpu - before;
  say(contender, "1 GiB through one tunnel", `${Math.round(speed)} MiB/s   CPU ${cpu.toFixed(2)} s`);
}

/** Tunnels that have carried one request each, and then stay open. */
async function quiet(contender: Contender, count: number): Promise<void> {
  const before = spentBy(contender).mb;
  const workers = workersOf(kept, contender, count);
  for (let at = 0; at < count; at += 50) await Promise.all(workers.slice(at, at + 50).map((each) => each.ask()));
  await new Promise((resolve) => setTimeout(resolve, quietMs));
  const after = spentBy(contender).mb;
  say(
    contender,
    `${count} idle tunnels`,
    `${(((after - before) * 1000) / count).toFixed(1)} MB per 1000, ${Math.round(after)} MB in all`,
  );
  for (const each of workers) each.end();
}

/** Many requests, plain and in tunnels by turns, with a look at the memory after each tenth. */
async function many(contender: Contender, count: number): Promise<void> {
  for (let tenth = 1; tenth <= 10; tenth++) {
    const workers = [...workersOf(plain, contender, 48), ...workersOf(perRequest, contender, 16)];
    const { failed, seconds } = await run(workers, { ms: Infinity, requests: count / 10 });
    const { mb } = spentBy(contender);
    say(
      contender,
      `${(count / 10) * tenth} requests`,
      `${Math.round(mb)} MB   ${Math.round(count / 10 / seconds)}/s`,
      failed > 0 ? `   ${failed} failed` : "",
    );
  }
  await (await tunnel(contender.port)).socket.destroy();
}

function say({ name }: Contender, what: string, ...figures: string[]): void {
  console.log(`${name.padEnd(12)} ${what.padEnd(28)} ${figures.join("")}`);
}
