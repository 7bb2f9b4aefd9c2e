// Checks a ledger's events about proxies: added, changed, retired. Every step must follow the chart, and lead to the
// right state.
import type { ProxyAdded, ProxyChanged, ProxyRetired } from "../../../events/proxy.ts";
import { canonicalHost, isLiteralAddress } from "../../../protocol/host.ts";
import { expectFailuresRest, isSpentAwake } from "./causes.ts";
import { moves } from "./chart.ts";
import { isResting, type ProxyModel } from "./entities.ts";
import { keyOf, moveTo } from "./exits.ts";
import type { Model } from "./model.ts";

export function checkAdded(model: Model, event: ProxyAdded): void {
  const { findings, at, tally } = model;
  let known = model.proxies.get(event.proxyId);
  if (known !== undefined && known.state === "retired" && model.tracesEnd(known) <= at) {
    model.dropProxy(known); // No trace of it is left, so it counts as new.
    known = undefined;
  }
  checkExitName(model, event, event.host);
  if (known !== undefined && (known.host !== event.host || known.scheme !== event.scheme)) {
    const [now, before] = [event, known].map(({ scheme, host }) => `${scheme}://${host}`);
    findings.add("proxy", `${event.proxyId} is ${now}, and was ${before}: one id cannot be both`);
  }
  const exit = model.exitFor(keyOf(model, event.proxyId, event.exit));
  const until = Math.max(known?.until ?? 0, exit.restUntil);
  const rests = until > at;
  const reasons = new Set<string>([
    ...((known?.until ?? 0) > at ? known!.reasons : []),
    ...(exit.restUntil > at ? ["usage"] : []),
  ]);
  const due = rests
    ? reasons.has("usage")
      ? "exhausted"
      : "cooling"
    : (known?.openLeases ?? 0) > 0
      ? "in-use"
      : "available";
  const epoch = (known?.epoch ?? 0) + (rests && until > (known?.until ?? 0) ? 1 : 0);
  if (event.epoch !== epoch) findings.add("epoch", `${event.proxyId} is added in epoch ${event.epoch}, not ${epoch}`);
  const named = event.reasons ?? [];
  const isOther = named.length !== reasons.size || named.some((reason) => !reasons.has(reason));
  if ((event.until ?? 0) !== (rests ? until : 0) || isOther) {
    const must = rests ? `until ${until} for ${[...reasons].join(", ")}` : "at none";
    findings.add(
      "rest",
      `${event.proxyId} is added at rest until ${event.until ?? 0} for ${named.join(", ") || "nothing"}, which must be ${must}`,
    );
  }
  const proxy: ProxyModel = known ?? {
    id: event.proxyId,
    scheme: event.scheme,
    host: event.host,
    exit,
    exitName: event.exit,
    labels: event.labels,
    own: undefined,
    state: "retired",
    until: 0,
    reasons: [],
    epoch: 0,
    score: 0,
    streak: 0,
    streakRests: 0,
    failures: [],
    openLeases: 0,
    granted: 0,
    retiredAt: 0,
    lastUsedAt: 0,
    lastClosedAt: 0,
    addedOrder: 0,
    stackOrder: 0,
    usedOrder: 0,
    turnOrder: 0,
  };
  if (known === undefined) {
    model.proxies.set(proxy.id, proxy);
    exit.members.push(proxy);
  } else if (proxy.exit !== exit) moveTo(model, proxy, exit);
  moves(model, proxy, event, due);
  Object.assign(proxy, { exitName: event.exit, labels: event.labels, own: event.limits, epoch: event.epoch });
  Object.assign(proxy, { until: event.until ?? 0, reasons: named, score: 0, streak: 0, streakRests: 0, retiredAt: 0 });
  proxy.addedOrder = proxy.stackOrder = model.nextOrder++;
  model.limitAnew(exit);
  if (!tally.silent) tally.added++;
  if (isResting(proxy)) return model.restEnds.add(proxy.until, proxy);
  if (isSpentAwake(exit)) model.mayBeSpent.add(exit);
  else expectFailuresRest(model, proxy);
}

export function checkChanged(model: Model, event: ProxyChanged): void {
  const proxy = model.proxies.get(event.proxyId);
  if (proxy === undefined || proxy.state === "retired") {
    return model.findings.add("proxy", `${event.proxyId} is changed, but is not a proxy of this pool`);
  }
  checkExitName(model, event, proxy.host);
  proxy.labels = event.labels;
  proxy.own = event.limits;
  proxy.exitName = event.exit;
  const exit = model.exitFor(keyOf(model, proxy.id, event.exit));
  if (exit !== proxy.exit) moveTo(model, proxy, exit);
  model.limitAnew(exit);
}

export function checkRetired(model: Model, event: ProxyRetired): void {
  const { findings, at, tally } = model;
  const proxy = model.proxies.get(event.proxyId);
  if (proxy === undefined) return findings.add("proxy", `${event.proxyId} is retired, but is not a proxy of this pool`);
  moves(model, proxy, event, "retired");
  proxy.retiredAt = at;
  model.mustRetire.delete(proxy);
  if (!tally.silent) tally.retired++;
}

function checkExitName(model: Model, event: ProxyAdded | ProxyChanged, host: string): void {
  const { proxyId } = event;
  const label = event.labels["exit"]?.trim() ?? "";
  const address = label === "" ? undefined : canonicalHost(label);
  const named = address !== undefined && isLiteralAddress(address) ? address : label;
  const due = named !== "" ? named : isLiteralAddress(host) ? host : proxyId;
  if (event.exit !== due) model.findings.add("proxy", `the exit of ${proxyId} is ${event.exit}, not ${due}`);
}
