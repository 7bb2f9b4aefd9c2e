// Checks refusals: no request may be refused while a proxy could be leased. A commit records the last request that was
// refused since the commit before, up to a second ago. It is checked against the proxies that could have been leased
// all that time and that the commit does not touch. So the exact time of the refusal does not matter.
import type { CommitEnvelope } from "../../../events/commit.ts";
import type { RecordedRequest, RequestsRefused } from "../../../events/lease.ts";
import type { Brake } from "./brakes.ts";
import { isResting, type ProxyModel } from "./entities.ts";
import { recordedWithinMs } from "./limits.ts";
import type { Model } from "./model.ts";
import { countingExits, leasesOf, quotaOf } from "./past.ts";
import { answers } from "./requests.ts";

/** In a large pool this many are looked at for each refusal, and the next ones for the next refusal. */
const lookedAtMax = 1000;

export function checkRefused(
  model: Model,
  event: RequestsRefused,
  commit: CommitEnvelope,
  brakes: readonly Brake[],
): void {
  const { request, code } = event;
  const isChecked = code === "no-match" || code === "pool-exhausted";
  if (
    request === undefined ||
    !isChecked ||
    model.isOther ||
    request.token === true ||
    !model.isOpen ||
    model.isDraining
  )
    return;
  if (request.holder !== undefined && mayBeFull(model, request.holder, commit)) return;
  // A session waits for its own proxy, and a lease request may be for one proxy only. Then it does not matter which
  // others are free.
  if (request.session !== undefined || commit.events.length > lookedAtMax) return;
  const touched = exitsIn(model, commit);
  if (touched === undefined) return;
  const since = Math.max(model.before, model.at - recordedWithinMs);
  for (const proxy of model.someProxies(lookedAtMax)) {
    if (touched.has(proxy.exit) || !mayServe(model, proxy, request)) continue;
    if (code === "pool-exhausted" && !isFree(model, proxy, { uses: request.minUses ?? 1, since })) continue;
    if (code === "pool-exhausted" && brakes.some((brake) => brake.isHeld(proxy.exit, since))) continue;
    const what = code === "no-match" ? "answers to it" : "could have been leased";
    return model.findings.add("refusal", `a lease request is refused as ${code}, and ${proxy.id} ${what}`);
  }
}

/** Does the holder have its maximum of leases, or did it before one of them ended in this commit? */
function mayBeFull({ policy, holders }: Model, holder: string, { events }: CommitEnvelope): boolean {
  const leasesMax = policy?.holder.leasesMax ?? Infinity;
  const ended = (events as ({ type?: string } | null)[]).filter((event) => event?.type === "LeaseClosed").length;
  return (holders.get(holder) ?? 0) + ended >= leasesMax;
}

/** These may change the limits of exits that they do not name. */
const moving = new Set(["PolicyChanged", "PoolOpened", "ProxyAdded", "ProxyChanged"]);

/** Undefined: possibly all exits. */
function exitsIn(model: Model, { events }: CommitEnvelope): Set<unknown> | undefined {
  const touched = new Set<unknown>();
  for (const event of events as ({ type?: string; proxyId?: string; leaseId?: string } | null)[]) {
    if (event?.type !== undefined && moving.has(event.type)) return undefined;
    if (event?.proxyId !== undefined) touched.add(model.proxies.get(event.proxyId)?.exit);
    const through = event?.leaseId === undefined ? undefined : model.lease(event.leaseId)?.exit;
    if (through !== undefined) for (const exit of countingExits(through)) touched.add(exit);
  }
  return touched;
}

function mayServe(model: Model, proxy: ProxyModel, request: RecordedRequest): boolean {
  if (proxy.state === "retired" || (request.proxyId !== undefined && request.proxyId !== proxy.id)) return false;
  return answers(request, proxy) && model.policy !== undefined;
}

/** By its limits. If no event has changed it since, it still is: the passing of time only frees slots. */
export function isFree(model: Model, proxy: ProxyModel, { uses, since }: { uses: number; since: number }): boolean {
  const { exit } = proxy;
  const { rates, concurrency, usage } = exit.limits;
  if (isResting(proxy) || exit.restUntil > since || leasesOf(exit) >= concurrency) return false;
  if (usage !== undefined && quotaOf(exit) + uses > usage.limit) return false;
  return rates.every(
    ({ windowMs, limit }) =>
      model.knowsAll(exit, windowMs, since) && model.occupied(exit, windowMs, since) + uses <= limit,
  );
}
