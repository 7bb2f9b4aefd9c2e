// The doctor's checks of a pool's proxies and statistics, in replies that were already received.

import type { Policy } from "../events/policy.ts";
import type { StatsReply } from "../protocol/pool.ts";
import type { ProxyReply } from "../protocol/proxy.ts";
import { mayMeet } from "../protocol/target-hosts.ts";
import { counted } from "../runtime/text.ts";
import { readPolicy } from "../state-machines/policy/policy.ts";
import { type Finding, note, ok, warning } from "./finding.ts";
import { showDuration } from "./output.ts";

export interface PoolLook {
  pool: string;
  policy: Policy;
  stats: StatsReply;
  /** Including retired ones. */
  proxies: ProxyReply[];
  /** Are these all of the pool's proxies? */
  isWhole: boolean;
}

/** With fewer uses, the figures say nothing. */
const usesTelling = 20;
const sharesTelling = { ignored: 0.01, unreported: 0.5, failed: 0.5 };
const namesShown = 3;
/** If this many proxies, and half of all, failed within this time, they had a common cause. */
const togetherTelling = { proxies: 5, spanMs: 10_000 };

export function findingsIn(look: PoolLook): Finding[] {
  const about = `pool ${look.pool}`;
  const { stats } = look;
  const proxies = look.proxies.filter(({ state }) => state !== "retired");
  const findings = [
    ...(proxies.length === 0 ? [none(about, look.pool)] : resting(about, proxies, stats)),
    ...together(about, proxies),
    ...failing(about, proxies),
    ...gateways(about, proxies),
    ...reporting(about, look),
    ...crowded(about, stats),
    ...idleRules(about, look.policy),
  ];
  const { leasable } = stats.proxies;
  const isCut = look.isWhole ? "" : ` (checked ${look.proxies.length})`;
  const what = `led by ${stats.leader.id}, ${counted(proxies.length, "proxy", "proxies")}${isCut}, ${leasable} leasable now, ${stats.leases.open} leased`;
  return [ok(about, what + sharing(proxies)), ...findings];
}

function none(about: string, pool: string): Finding {
  return warning(about, "the pool has no proxies", `npx remuda proxies add proxies.txt --pool ${pool}`);
}

function resting(about: string, proxies: readonly ProxyReply[], stats: StatsReply): Finding[] {
  const atRest = proxies.filter(({ state }) => state === "cooling" || state === "exhausted");
  if (atRest.length < proxies.length) return [];
  const first = Math.min(...atRest.map(({ until }) => until ?? Number.POSITIVE_INFINITY));
  const reasons = [...new Set(atRest.flatMap((proxy) => proxy.reasons ?? []))].sort().join(", ");
  const back = Number.isFinite(first)
    ? `. The first rest ends in ${showDuration(Math.max(0, first - Math.max(stats.at, Date.now())))}`
    : "";
  const todo = "Add proxies, lease less, or see why: npx remuda watch --type RestBegan UseReported --from 1h";
  return [
    warning(
      about,
      `no proxy is available: ${counted(proxies.length, "proxy rests", "proxies rest")} (${reasons})${back}`,
      todo,
    ),
  ];
}

/** If many proxies fail at once, the cause is usually the local network, or a timeout that is too short. */
function together(about: string, proxies: readonly ProxyReply[]): Finding[] {
  const failed = proxies.filter(({ reasons = [] }) => reasons.includes("backoff") && !reasons.includes("throttle"));
  if (failed.length < togetherTelling.proxies || failed.length * 2 < proxies.length) return [];
  const usedAt = failed.map(({ lastUsedAt = 0 }) => lastUsedAt);
  const spanMs = Math.max(...usedAt) - Math.min(...usedAt);
  if (spanMs > togetherTelling.spanMs) return [];
  const what = `${failed.length} of ${proxies.length} proxies failed within ${Math.max(1, Math.ceil(spanMs / 1000))} s`;
  const todo =
    "First check this machine's network and DNS and the workers' timeouts: npx remuda watch --type UseReported --from 10m";
  return [warning(about, what, todo)];
}

function failing(about: string, proxies: readonly ProxyReply[]): Finding[] {
  const tried = proxies.filter(({ totals }) => totals.succeeded + totals.failed > 0);
  const never = tried.filter(({ totals }) => totals.succeeded === 0);
  if (never.length === 0) return [];
  const { length: all } = tried;
  const uses = never.reduce((sum, { totals }) => sum + totals.failed, 0);
  if (never.length / all < sharesTelling.failed && uses < usesTelling) return [];
  const what = `${never.length} of the ${all} proxies that were used have never succeeded (${named(never)})`;
  const todo =
    "Check their credentials, and whether they allow this machine. Retire dead ones: npx remuda proxies retire <id>";
  return [warning(about, what, todo)];
}

/** One host name may have one exit or thousands. The limits need to know which. */
function gateways(about: string, proxies: readonly ProxyReply[]): Finding[] {
  const byHost = Map.groupBy(
    proxies.filter(({ exit, id }) => exit === id),
    ({ host }) => host,
  );
  return [...byHost]
    .filter(([, group]) => group.length > 1)
    .map(([host, group]) => {
      const what = `${group.length} proxies have the host ${host}, and their exits are unknown, so each has its own limits`;
      const todo = "If some share an exit, add them again with the label exit (exit_ip in a list).";
      return warning(about, what, todo);
    });
}

function reporting(about: string, { pool, stats, proxies }: PoolLook): Finding[] {
  const findings: Finding[] = [];
  const { ignored, succeeded, failed, neutral } = stats.outcomes;
  const all = succeeded + failed + neutral + ignored;
  if (ignored > 0 && ignored >= all * sharesTelling.ignored) {
    const what = `${ignored} of ${all} outcomes were ignored`;
    findings.push(warning(about, what, `See why: npx remuda watch --pool ${pool} --type OutcomesIgnored --from 1`));
  }
  const [granted, unreported] = (["granted", "unreported"] as const).map((total) =>
    proxies.reduce((sum, { totals }) => sum + totals[total], 0),
  ) as [number, number];
  if (granted >= usesTelling && unreported > granted * sharesTelling.unreported) {
    const what = `${unreported} of ${granted} uses were never reported, so bad proxies cannot be recognised`;
    const todo = "Let workers report every use (remuda.outcome.<pool>, HTTP, or npx remuda report).";
    findings.push(warning(about, what, todo));
  }
  return findings;
}

/** If the limits allow less than the workers request, fewer workers would achieve the same. */
function crowded(about: string, { waiting, leases, refused }: StatsReply): Finding[] {
  const exhausted = refused["pool-exhausted"] ?? 0;
  const isRefused = exhausted >= usesTelling && exhausted > leases.granted;
  if (waiting <= leases.open && !isRefused) return [];
  const open = counted(leases.open, "lease is", "leases are");
  const what =
    waiting > leases.open
      ? `${counted(waiting, "request waits", "requests wait")} for a proxy while ${open} open`
      : `${exhausted} of ${exhausted + leases.granted} requests were refused as pool-exhausted`;
  const todo = "Add proxies, run fewer workers, or see which limits hold them back: npx remuda lease (limitedBy)";
  return [warning(about, `${what}: the workers request more than the limits allow`, todo)];
}

function idleRules(about: string, policy: Policy): Finding[] {
  const read = readPolicy({}, policy);
  if ("refusal" in read) return [];
  const todo = "Change the rule, or turn it off (null): npx remuda pool policy '{…}'";
  return read.warnings.map((sentence) => warning(about, `its policy: ${sentence}`, todo));
}

function sharing(proxies: readonly ProxyReply[]): string {
  const byExit = Map.groupBy(proxies, ({ exit }) => exit);
  const sharers = [...byExit.values()].filter((group) => group.length > 1).reduce((sum, { length }) => sum + length, 0);
  return sharers === 0 ? "" : `. ${sharers} of them share exits, and so their limits`;
}

/**
 * Each pool keeps its own limits. If two pools use an exit for one site, the site sees the sum. Pools for different
 * sites may share exits.
 */
export function sharedExits(looks: readonly PoolLook[]): Finding[] {
  const looksByExit = new Map<string, Set<PoolLook>>();
  for (const look of looks) {
    for (const { exit, state } of look.proxies) {
      if (state !== "retired") looksByExit.set(exit, (looksByExit.get(exit) ?? new Set()).add(look));
    }
  }
  const exits: string[] = [];
  const pools = new Set<string>();
  for (const [exit, sharing] of looksByExit) {
    const meeting = [...sharing].filter((look) =>
      [...sharing].some((other) => other !== look && mayMeet(look.policy.hosts, other.policy.hosts)),
    );
    if (meeting.length > 0) exits.push(exit);
    for (const { pool } of meeting) pools.add(pool);
  }
  if (exits.length === 0) return [];
  const what =
    `${counted(exits.length, "exit is", "exits are")} in several pools (${listed([...pools].sort())}): ${listed(exits)}. ` +
    "If these pools fetch from the same site, the site sees the sum of their limits";
  const todo = "If they are for different sites, set hosts in their policies. That silences this note.";
  return [note("exits", what, todo)];
}

function listed(names: readonly string[]): string {
  const more = names.length > namesShown ? ", …" : "";
  return `${names.slice(0, namesShown).join(", ")}${more}`;
}

function named(proxies: readonly ProxyReply[]): string {
  return listed(proxies.map(({ id }) => id));
}
