// Every grant is within every limit, fits its request, and is the proxy that the strategy selects.
import type { LeaseGranted } from "../../events/lease.ts";
import { checkStrategy } from "./check-strategy.ts";
import { type Court, short } from "./court.ts";

/** Asked just before the grant is written. @param given.refresh it is for a refresh of a token. */
export function checkGrant(court: Court, event: LeaseGranted, given: { refresh: boolean }): void {
  const { book } = court;
  const { at, rules } = book;
  const proxy = book.proxy(event.proxyId);
  const { account } = proxy;
  const who = `lease ${short(event.leaseId)} of ${proxy.exit} (${short(proxy.id)})`;
  const { uses = 1, minUses = 1, ttlMs = rules.lease.ttlMs, requestId, holder } = event.request;
  if (!book.opened || book.draining) court.find("lease", `${who} is granted while the pool is closed or closing`);
  if (proxy.retired) court.find("lease", `${who} is granted, and the proxy is retired`);
  if (proxy.resting || proxy.until > at)
    court.find("rest", `${who} is granted at ${at} while it rests until ${proxy.until} (${proxy.reasons.join(", ")})`);
  if (account.restUntil > at)
    court.find("rest", `${who} is granted at ${at}; its exit rests until ${account.restUntil}`);
  if (event.epoch !== proxy.epoch)
    court.find("epoch", `${who} carries epoch ${event.epoch}, the proxy is in ${proxy.epoch}`);
  if (account.open.size >= account.concurrency)
    court.find(
      "concurrency",
      `${who} is open lease ${account.open.size + 1} of its exit (limit ${account.concurrency})`,
    );
  if (account.usage !== null && account.usesSinceRest + event.uses > account.usage.limit) {
    court.find(
      "usage",
      `${who} makes ${account.usesSinceRest + event.uses} uses in one usage quota (limit ${account.usage.limit})`,
    );
  }
  for (const { rule, sentence } of account.brakes(at)) court.find(rule, `${who} is granted, and ${sentence}`);
  if (event.uses < minUses || event.uses > uses)
    court.find("lease", `${who} has ${event.uses} uses; requested for were ${minUses} to ${uses}`);
  if (event.expiresAt !== at + ttlMs)
    court.find("lease", `${who} ends ${event.expiresAt - at} ms after its grant, not ${ttlMs}`);
  if (!court.matches(proxy, { ...event.request, minUses }))
    court.find("lease", `${who} does not match its request ${JSON.stringify(event.request)}`);
  for (const { limit, windowMs, from } of account.rates) {
    if (at < from) continue;
    const occupied = account.occupied(windowMs, at, book.knownMarginMs);
    if (occupied + event.uses > limit)
      court.find("rate", `${who} makes ${occupied + event.uses} slots within ${windowMs} ms (limit ${limit})`);
  }
  const same = [...book.open].find((lease) => lease.request.requestId === requestId && lease.expiresAt > at);
  if (requestId !== undefined && same !== undefined)
    court.find("request-id", `${who} is granted under the requestId of ${short(same.id)}, which is open`);
  const { leasesMax } = rules.holder;
  if (holder !== undefined && leasesMax !== null) {
    const held = [...book.open].filter((lease) => lease.request.holder === holder && lease.expiresAt > at).length;
    if (held >= leasesMax) court.find("lease", `${who} is lease ${held + 1} of holder ${holder} (limit ${leasesMax})`);
  }
  // A refresh of a proxy's own token goes through that one, whatever comes first.
  if (!given.refresh || rules.token?.scope === "pool") checkStrategy(court, event);
}
