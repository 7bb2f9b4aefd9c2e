// Checks rests. Each must have a cause, last as long as its causes require, and begin when one of them is there. A rest
// resets only its own causes. If several apply, the longest wins, and all are recorded.
import type { RestBegan, RestEnded } from "../../../events/proxy.ts";
import { exactly, expectFailuresRest } from "./causes.ts";
import { drawn } from "./chance.ts";
import { moves } from "./chart.ts";
import { type Cause, isResting, type ProxyModel } from "./entities.ts";
import type { Model } from "./model.ts";
import { endQuota, lastClosedOf, leasesOf, quotaOf } from "./past.ts";

/** The longest manual rest. */
const manualMsMax = 30 * 86_400_000;

export function checkRest(model: Model, event: RestBegan): void {
  const { findings, at, tally } = model;
  const proxy = model.proxies.get(event.proxyId);
  if (proxy === undefined) return findings.add("rest", `${event.proxyId} rests, but is not a proxy of this pool`);
  const lengthens = isResting(proxy);
  const epoch = proxy.epoch + (lengthens ? 0 : 1);
  if (event.epoch !== epoch) findings.add("epoch", `${proxy.id} rests in epoch ${event.epoch}, not ${epoch}`);
  const causes = [
    ...(model.mustRest.get(proxy) ?? []).map((cause) => drawnOf(model, cause)),
    ...usageCause(model, event, proxy),
    ...joinCause(model, event, proxy),
  ];
  model.mustRest.delete(proxy);
  // The ledger does not record how long a manual rest was to last.
  if (causes.length === 0 && event.reasons.includes("manual")) {
    // It must lengthen a running rest. If the exit rests again now, the proxy's rest may stay as it is.
    const after = lengthens && proxy.exit.restBeganAt !== at ? proxy.until : at;
    causes.push({ reason: "manual", from: Math.max(at, after) + 1, to: at + manualMsMax });
  }
  checkCauses(model, event, { proxy, causes, lengthens });
  moves(model, proxy, event, event.reasons.includes("usage") ? "exhausted" : "cooling");

  const begins: readonly string[] =
    proxy.until > at ? event.reasons.filter((reason) => !proxy.reasons.includes(reason)) : event.reasons;
  if (begins.includes("failures")) proxy.failures = [];
  if (begins.includes("streak")) {
    proxy.streak = 0;
    proxy.streakRests++;
    const retireAfter = model.policy?.streak?.retireAfter ?? Infinity;
    if (proxy.streakRests >= retireAfter) model.mustRetire.add(proxy);
  }
  proxy.epoch = event.epoch;
  proxy.until = event.until;
  proxy.reasons = event.reasons;
  model.restEnds.add(event.until, proxy);
  if (event.exitUntil !== undefined) {
    proxy.exit.restBeganAt = at;
    proxy.exit.restBeganUntil = event.exitUntil;
    endQuota(proxy.exit);
    proxy.exit.restUntil = Math.max(proxy.exit.restUntil, event.exitUntil);
  }
  for (const reason of begins) tally.count(tally.rests, reason);
}

/** The random part of a backoff is known: it comes from the commit's chance. */
function drawnOf({ chance, place }: Model, cause: Cause): Cause {
  if (cause.reason !== "backoff" || cause.from === cause.to || chance === undefined) return cause;
  return exactly(cause.reason, cause.from + drawn(chance, place, cause.to - cause.from));
}

function checkCauses(
  model: Model,
  event: RestBegan,
  { proxy, causes, lengthens }: { proxy: ProxyModel; causes: readonly Cause[]; lengthens: boolean },
): void {
  const { findings } = model;
  const earlier = lengthens ? proxy.reasons : [];
  const expected = new Set([...earlier, ...causes.map((cause) => cause.reason)]);
  const named = new Set<string>(event.reasons);
  const isOther = expected.size !== event.reasons.length || [...expected].some((reason) => !named.has(reason));
  if (causes.length === 0 || isOther) {
    const due = causes.length === 0 ? "nothing" : [...expected].join(", ");
    return findings.add(
      "rest",
      `${proxy.id} rests for ${event.reasons.join(", ")}, and the reasons for a rest were: ${due}`,
    );
  }
  const from = Math.max(lengthens ? proxy.until : 0, ...causes.map((cause) => cause.from));
  const to = Math.max(lengthens ? proxy.until : 0, ...causes.map((cause) => cause.to));
  if (event.until >= from && event.until <= to) return;
  const bounds = from === to ? `until ${from}` : `until ${from} to ${to}`;
  findings.add(
    "rest",
    `${proxy.id} rests until ${event.until} for ${event.reasons.join(", ")}, and must rest ${bounds}`,
  );
}

/** The whole exit rests when its usage quota is used up, or too small for a lease request, and no lease is open. */
function usageCause(model: Model, event: RestBegan, proxy: ProxyModel): Cause[] {
  const { exit } = proxy;
  const { at, findings } = model;
  if (event.exitUntil === undefined) return [];
  if (exit.members.length > 1) model.forgetRetiredOf(exit);
  const { usage } = exit.limits;
  const isBegun = exit.restUntil > at || exit.restBeganAt === at;
  // Earlier versions let each joining proxy record the quota's end too. If nothing was counted meanwhile, that changed
  // nothing.
  if (isBegun && event.exitUntil === exit.restUntil && quotaOf(exit) === 0) return [exactly("usage", exit.restUntil)];
  const [usesSinceRest, open, idleFrom] = [quotaOf(exit), leasesOf(exit), lastClosedOf(exit)];
  if (usage === undefined || open > 0 || usesSinceRest < 1) {
    findings.add(
      "usage",
      `exit ${exit.key} rests with ${usesSinceRest} uses in its usage quota and ${open} leases open`,
    );
    return [exactly("usage", event.exitUntil)];
  }
  // Too few uses are left for a lease request. The rest counts from the moment when the exit became idle. From then on
  // no target can see it.
  const isShort = event.exitUntil === idleFrom + usage.restMs;
  const until = (isShort || usesSinceRest < usage.limit ? idleFrom : at) + usage.restMs;
  if (event.exitUntil !== until)
    findings.add("rest", `exit ${exit.key} rests until ${event.exitUntil}, and must rest until ${until}`);
  return [exactly("usage", until)];
}

/** The other proxies of an exit join its rest, at once or while it lasts. */
function joinCause(model: Model, event: RestBegan, proxy: ProxyModel): Cause[] {
  const { exit } = proxy;
  if (event.exitUntil !== undefined || !event.reasons.includes("usage") || model.mustRest.has(proxy)) return [];
  // A proxy that already rests with its exit may have a longer manual rest.
  const isKnown = isResting(proxy) && proxy.reasons.includes("usage");
  if (isKnown && event.reasons.includes("manual")) return [];
  if (exit.restBeganAt === model.at) return [{ reason: "usage", from: exit.restBeganUntil, to: exit.restUntil }];
  return exit.restUntil > model.at ? [exactly("usage", exit.restUntil)] : [];
}

export function checkRestEnd(model: Model, event: RestEnded): void {
  const { findings, at } = model;
  const proxy = model.proxies.get(event.proxyId);
  if (proxy === undefined)
    return findings.add("rest", `the rest of ${event.proxyId} ends, but is not a proxy of this pool`);
  if (event.how === "over" && proxy.until > at) {
    findings.add("rest", `the rest of ${proxy.id} ends at ${at}, and must last until ${proxy.until}`);
  }
  moves(model, proxy, event, proxy.openLeases > 0 ? "in-use" : "available");
  if (event.how === "revived" && proxy.reasons.includes("usage")) proxy.exit.restUntil = 0;
  const { until } = proxy;
  proxy.until = 0;
  proxy.reasons = [];
  // Failures that came in during the rest are counted when it ends by itself, as of its end.
  if (event.how === "over") expectFailuresRest(model, proxy, until);
}
