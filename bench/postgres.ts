// PostgreSQL as a picker, for comparison: one statement leases with `SKIP LOCKED`, `pgbench` is the client. Commits
// reach the disk. Rules: rotation, a fixed rate window, a usage quota, open leases per proxy, rests. It has no exits,
// labels, sessions, holders or waiting requests, and outcomes are not taken.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { accessSync, chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../demo/free-port.ts";
import { resultOr } from "../runtime/fault.ts";
import { cpuOf } from "./processes.ts";
import type { Run } from "./report.ts";

const readyMsMax = 20_000;
const schema = `
create table proxies (id text primary key, last_used timestamptz not null default now(), rests_until timestamptz,
  window_at timestamptz not null default now(), in_window int not null default 0, uses int not null default 0,
  open int not null default 0);
create index on proxies (last_used);
create table leases (id bigserial primary key, proxy text not null, expires_at timestamptz not null);`;
const lease = `
with picked as (select id from proxies where coalesce(rests_until, now()) <= now() and open < 1000000
    and uses < 1000000 and (in_window < 20000 or window_at < now() - interval '1 s')
    order by last_used limit 1 for update skip locked),
  taken as (update proxies p set last_used = clock_timestamp(), uses = p.uses + 1, open = p.open + 1,
    in_window = case when window_at < now() - interval '1 s' then 1 else in_window + 1 end,
    window_at = case when window_at < now() - interval '1 s' then now() else window_at end
    from picked where p.id = picked.id returning p.id)
insert into leases (proxy, expires_at) select id, now() + interval '60 s' from taken returning id, proxy;`;

interface Postgres {
  version: string;
  run(depth: number, ms: number): Promise<Run>;
  stop(): Promise<void>;
}

export async function startPostgres(
  folder: string,
  proxies: readonly string[],
): Promise<Postgres | { missing: string }> {
  const found = spawnSync("sh", ["-c", 'readlink -f "$(command -v postgres)"'], { encoding: "utf8" }).stdout.trim();
  const bin = dirname(found);
  const tools = ["postgres", "initdb", "psql", "pgbench"];
  const isThere =
    found !== "" && resultOr(() => tools.every((tool) => accessSync(join(bin, tool)) === undefined), false);
  if (!isThere) return { missing: "postgres with its initdb, psql and pgbench is not installed" };
  // It refuses to run as root.
  const isRoot = process.getuid?.() === 0;
  const as = isRoot ? ["--reuid=postgres", "--regid=postgres", "--clear-groups"] : [];
  const port = String(await freePort());
  mkdirSync(folder);
  if (isRoot) {
    chmodSync(dirname(folder), 0o755);
    execFileSync("chown", ["postgres", folder]);
  }
  const data = join(folder, "data");
  const run = (tool: string, args: string[]): string =>
    execFileSync("setpriv", [...as, join(bin, tool), ...args], { encoding: "utf8", cwd: folder, stdio: "pipe" });
  run("initdb", ["-D", data, "-U", "bench", "-A", "trust", "-N"]);
  const options = ["-D", data, "-p", port, "-k", folder, "-c", "listen_addresses=127.0.0.1"];
  const child = spawn("setpriv", ["--pdeathsig", "TERM", ...as, found, ...options], { cwd: folder, stdio: "ignore" });
  const stop = async (): Promise<void> => {
    child.kill("SIGINT"); // Ends its connections as well.
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  };
  const client = ["-h", "127.0.0.1", "-p", port, "-U", "bench"];
  const sql = (text: string): string => run("psql", [...client, "-q", "-d", "postgres", "-c", text]);
  try {
    for (const deadline = performance.now() + readyMsMax; resultOr(() => sql("select 1"), "") === ""; await sleep(50))
      if (performance.now() > deadline) throw new Error("PostgreSQL did not start");
    sql(schema);
    sql(`insert into proxies (id) values ${proxies.map((proxy) => `('${proxy}')`).join(", ")}`);
  } catch (error) {
    await stop();
    throw error;
  }
  const script = join(folder, "lease.sql");
  writeFileSync(script, lease.replaceAll("\n", " "));
  const bench = async (depth: number, ms: number): Promise<Run> => {
    sql("truncate leases; update proxies set open = 0, uses = 0");
    const seconds = String(Math.max(2, Math.round(ms / 1000)));
    const args = ["-n", "-M", "prepared", "-c", String(depth), "-j", "1", "-T", seconds, "-f", script, "postgres"];
    const before = cpuOf(child.pid);
    const said = run("pgbench", [...client, ...args]);
    const figure = (pattern: RegExp): number => Number(pattern.exec(said)?.[1]);
    const count = figure(/actually processed: (\d+)/);
    if (!(count > 0)) throw new Error(`pgbench finished no transaction:\n${said}`);
    const cpu = { postgres: ((cpuOf(child.pid) - before) * 1e6) / count };
    return { count, perSecond: figure(/tps = ([\d.]+)/), mean: figure(/latency average = ([\d.]+)/), cpu };
  };
  return { version: run("postgres", ["--version"]).trim(), run: bench, stop };
}
