// The granted proxy is the first one by the strategy. For strategies that draw at random, only one thing can be
// checked: that the drawn proxy could be leased. That is checked for every grant.
import type { LeaseGranted } from "../../events/lease.ts";
import type { BookProxy } from "./account.ts";
import type { Book } from "./book.ts";
import { type Court, short } from "./court.ts";

type Order = (book: Book, proxy: BookProxy) => number[] | undefined;

/** Orders that anybody can check, by docs/rules.md: the lowest first. Undefined: the words do not say. */
const orders: Record<string, Order> = {
  best: (_book, proxy) => [isUsed(proxy), -proxy.score, lastUsed(proxy)],
  lifo: (_book, proxy) => [-proxy.stacked],
  "round-robin": (_book, proxy) => [isUsed(proxy), lastUsed(proxy)],
  "least-used": (book, proxy) => {
    const { account } = proxy;
    const [first] = account.rates;
    // Of several windows that several proxies name for themselves none is the first; of a new one not all is known.
    if ([...account.members].some((member) => member.limits !== undefined)) return undefined;
    if (first !== undefined && first.from > book.at) return undefined;
    const uses = first === undefined ? 0 : account.occupied(first.windowMs, book.at, book.rules.marginMs);
    return [uses, isUsed(proxy), lastUsed(proxy)];
  },
  "least-connections": (_book, proxy) => [proxy.account.open.size, proxy.open, isUsed(proxy), lastUsed(proxy)],
  drain: (book, proxy) => {
    const isSpent = book.isSpent(proxy.account);
    return isSpent === undefined ? undefined : [isSpent ? 1 : 0, proxy.added];
  },
  "time-based": (book, proxy) => [
    book.hasTurn(proxy) ? 0 : 1,
    isUsed(proxy),
    isUsed(proxy) === 1 ? proxy.turn : proxy.added,
  ],
};

/** Asked just before the grant is written. */
export function checkStrategy(court: Court, event: LeaseGranted): void {
  const { book } = court;
  const chosen = book.proxy(event.proxyId);
  if (event.strategy !== book.rules.strategy.kind)
    court.find("strategy", `lease ${short(event.leaseId)} is granted by ${event.strategy}, not the policy's strategy`);
  const order = orders[event.strategy];
  const request = { ...event.request, minUses: event.request.minUses ?? 1 };
  const bound = court.boundProxy(request, book.at);
  if (bound !== undefined) {
    court.saw("lease: of a bound session");
    if (bound !== chosen)
      court.find(
        "strategy",
        `lease ${short(event.leaseId)} of ${request.session} is of ${short(chosen.id)}; the session is bound to ${short(bound.id)}`,
      );
    return;
  }
  const mine = order?.(book, chosen);
  if (order === undefined || mine === undefined) return;
  for (const proxy of book.proxies.values()) {
    const others = order(book, proxy);
    if (proxy === chosen || others === undefined || !isBefore(others, mine)) continue;
    if (!court.isEligible(proxy, request, book.at)) continue;
    const better = `${short(proxy.id)} (${others}) is eligible and comes before ${short(chosen.id)} (${mine})`;
    court.find("strategy", `lease ${short(event.leaseId)}: by ${event.strategy}, ${better}`);
    return;
  }
}

function isUsed(proxy: BookProxy): 0 | 1 {
  return proxy.totals.granted > 0 ? 1 : 0;
}

function lastUsed(proxy: BookProxy): number {
  return isUsed(proxy) === 1 ? proxy.used : proxy.added;
}

function isBefore(a: number[], b: number[]): boolean {
  for (const [i, value] of a.entries()) if (value !== b[i]) return value < b[i]!;
  return false;
}
