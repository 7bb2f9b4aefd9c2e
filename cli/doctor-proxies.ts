// Problems in a pool's proxies and figures. Nothing is requested here: it checks replies that were already received.
import type { Policy } from "../events/policy.ts";
import type { StatsReply } from "../protocol/pool.ts";
import type { ProxyReply } from "../protocol/proxy.ts";
import { readPolicy } from "../state-machines/policy/policy.ts";
import { counted, type Finding, ok, problem, warning } from "./finding.ts";
import { showDuration } from "./output.ts";

export interface PoolLook {
  pool: string;
  policy: Policy;
  stats: StatsReply;
  /** Including retired ones. */
  proxies: ProxyReply[];
  /** Whether these are all of them. */
  isWhole: boolean;
}

/** With fewer uses, figures are chance. */
const usesTelling = 20;
const sharesTelling = { ignored: 0.01, unreported: 0.5, failed: 0.5 };
const namesShown = 3;
/** If this many proxies, and at least half of all, failed in so short a time, they had a common cause. */
const togetherTelling = { proxies: 5, spanMs: 10_000 };

export function errorMessagesOf(look: PoolLook): Finding[] {
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
  const isCut = look.isWhole ? "" : ` (looked at ${look.proxies.length})`;
  const what = `led by ${stats.leader.id}, ${counted(proxies.length, "proxy", "proxies")}${isCut}, ${leasable} leasable now, ${stats.leases.open} leased`;
  return [ok(about, what + sharing(proxies)), ...findings];
}

function none(about: string, pool: string): Finding {
  return warning(about, "it has no proxies", `npx remuda proxies add proxies.txt --pool ${pool}`);
}

function resting(about: string, proxies: readonly ProxyReply[], stats: StatsReply): Finding[] {
  const atRest = proxies.filter(({ state }) => state === "cooling" || state === "exhausted");
  if (atRest.length < proxies.length) return [];
  const first = Math.min(...atRest.map(({ until }) => until ?? Number.POSITIVE_INFINITY));
  const reasons = [...new Set(atRest.flatMap((proxy) => proxy.reasons ?? []))].sort().join(", ");
  const back = Number.isFinite(first)
    ? `; the first is back in ${showDuration(Math.max(0, first - Math.max(stats.at, Date.now())))}`
    : "";
  const todo = "Add proxies, ask for less, or look at why: npx remuda watch --type RestBegan UseReported --from 1h";
  return [warning(about, `all ${proxies.length} of its proxies rest (${reasons})${back}`, todo)];
}

/**
 * If many fail at once, the cause is rarely the proxies. It is a local network failure, or a timeout that is too short.
 */
function together(about: string, proxies: readonly ProxyReply[]): Finding[] {
  const failed = proxies.filter(({ reasons = [] }) => reasons.includes("backoff") && !reasons.includes("throttle"));
  if (failed.length < togetherTelling.proxies || failed.length * 2 < proxies.length) return [];
  const usedAt = failed.map(({ lastUsedAt = 0 }) => lastUsedAt);
  const spanMs = Math.max(...usedAt) - Math.min(...usedAt);
  if (spanMs > togetherTelling.spanMs) return [];
  const what = `${failed.length} of its ${proxies.length} proxies failed within ${Math.max(1, Math.ceil(spanMs / 1000))} s of one another`;
  const todo =
    "Suspect this machine's network, its name server or the workers' timeouts before the proxies: npx remuda watch --type UseReported --from 10m";
  return [warning(about, what, todo)];
}

function failing(about: string, proxies: readonly ProxyReply[]): Finding[] {
  const tried = proxies.filter(({ totals }) => totals.succeeded + totals.failed > 0);
  const never = tried.filter(({ totals }) => totals.succeeded === 0);
  if (never.length === 0) return [];
  const { length: all } = tried;
  const uses = never.reduce((sum, { totals }) => sum + totals.failed, 0);
  if (never.length / all < sharesTelling.failed && uses < usesTelling) return [];
  const what = `${never.length} of the ${all} proxies that were tried have never succeeded (${named(never)})`;
  const todo =
    "Are their credentials right, and is this machine allowed there? If they are dead: npx remuda proxies retire <id>";
  return [warning(about, what, todo)];
}

/** Behind one host name there may be one exit or thousands, and a limit cannot know that. */
function gateways(about: string, proxies: readonly ProxyReply[]): Finding[] {
  const byHost = grouped(
    proxies.filter(({ exit, id }) => exit === id),
    ({ host }) => host,
  );
  return [...byHost]
    .filter(([, group]) => group.length > 1)
    .map(([host, group]) => {
      const what = `${group.length} proxies are on ${host}, and by which address each leaves is not known: each is limited by itself`;
      const todo = "If some share an address, say so: add them again with the label exit (exit_ip in a list).";
      return warning(about, what, todo);
    });
}

function reporting(about: string, { pool, stats, proxies }: PoolLook): Finding[] {
  const findings: Finding[] = [];
  const { ignored, succeeded, failed, neutral } = stats.outcomes;
  const taken = succeeded + failed + neutral;
  if (ignored > 0 && ignored >= (taken + ignored) * sharesTelling.ignored) {
    const what = `${ignored} of ${taken + ignored} outcomes were ignored`;
    findings.push(warning(about, what, `Why: npx remuda watch --pool ${pool} --type OutcomesIgnored --from 1`));
  }
  const [granted, unreported] = (["granted", "unreported"] as const).map((total) =>
    proxies.reduce((sum, { totals }) => sum + totals[total], 0),
  ) as [number, number];
  if (granted >= usesTelling && unreported > granted * sharesTelling.unreported) {
    const what = `${unreported} of ${granted} uses were never reported: bad proxies cannot be told from good ones`;
    findings.push(
      warning(about, what, "Let workers report every use (remuda.outcome.<pool>, HTTP, or npx remuda report)."),
    );
  }
  return findings;
}

/** With more workers than the limits allow, the surplus only waits or is refused. Fewer workers would do as much. */
function crowded(about: string, { waiting, leases, refused }: StatsReply): Finding[] {
  const exhausted = refused["pool-exhausted"] ?? 0;
  const isRefused = exhausted >= usesTelling && exhausted > leases.granted;
  if (waiting <= leases.open && !isRefused) return [];
  const open = counted(leases.open, "lease is", "leases are");
  const what =
    waiting > leases.open
      ? `${counted(waiting, "request waits", "requests wait")} for a proxy while ${open} open`
      : `${exhausted} of ${exhausted + leases.granted} requests were refused as pool-exhausted`;
  const todo = "Add proxies, let fewer workers ask, or see what holds them back: npx remuda lease (limitedBy)";
  return [warning(about, `${what}: more is asked for than the limits allow`, todo)];
}

function idleRules(about: string, policy: Policy): Finding[] {
  const read = readPolicy({}, policy);
  if ("refusal" in read) return [];
  const todo = "Change it, or switch the rule off (null): npx remuda pool policy '{…}'";
  return read.warnings.map((sentence) => warning(about, `its policy: ${sentence}`, todo));
}

function sharing(proxies: readonly ProxyReply[]): string {
  const byExit = grouped(proxies, ({ exit }) => exit);
  const sharers = [...byExit.values()].filter((group) => group.length > 1).reduce((sum, { length }) => sum + length, 0);
  return sharers === 0 ? "" : `; ${sharers} share an exit with another, and its limits`;
}

/** Pools share nothing. If an exit is in two pools with one target, that target sees twice the limits. */
export function sharedExits(looks: readonly PoolLook[]): Finding[] {
  const poolsByExit = new Map<string, Set<string>>();
  for (const { pool, proxies } of looks) {
    for (const { exit, state } of proxies) {
      if (state === "retired") continue;
      poolsByExit.set(exit, (poolsByExit.get(exit) ?? new Set()).add(pool));
    }
  }
  const byPools = grouped(
    [...poolsByExit].filter(([, pools]) => pools.size > 1),
    ([, pools]) => [...pools].sort().join(" and "),
  );
  return [...byPools].map(([pools, exits]) => {
    const shown = exits.slice(0, namesShown).map(([exit]) => exit);
    const more = exits.length > namesShown ? ", …" : "";
    const what = `the pools ${pools} share ${counted(exits.length, "exit")} (${shown.join(", ")}${more}): each pool keeps its limits, and together they exceed them`;
    return problem(
      "exits",
      what,
      "Put all proxies that go to one site into one pool, or give each pool proxies of its own.",
    );
  });
}

function named(proxies: readonly ProxyReply[]): string {
  const shown = proxies.slice(0, namesShown).map(({ id }) => id);
  return proxies.length > namesShown ? `${shown.join(", ")}, …` : shown.join(", ");
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}
