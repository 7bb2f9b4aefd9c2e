// Causes that a ledger does not show: a manual rest, revival or retirement was asked for, and a usage quota that is not
// used up was too small for a request.
import type { Event } from "../../events/event.ts";
import type { RestBegan } from "../../events/proxy.ts";
import type { Account } from "./account.ts";
import { type Court, short } from "./court.ts";
import type { Ask } from "./service.ts";

export class AskedChecker {
  readonly #court: Court;
  #asks: readonly Ask[] = [];
  /** Exits whose rest began in this commit. */
  readonly #begun = new Set<Account>();

  constructor(court: Court) {
    this.#court = court;
  }

  /** @param asks requests that this commit may decide. */
  begin(asks: readonly Ask[]): void {
    this.#asks = asks;
    this.#begun.clear();
  }

  /** Called just before each event is written. */
  before(event: Event): void {
    const court = this.#court;
    switch (event.type) {
      case "RestBegan":
        return this.#rest(event);
      case "RestEnded":
        court.saw(`rest: ended, ${event.how}`);
        if (event.how === "revived" && !this.#asks.some(({ verb }) => verb === "proxies.revive"))
          court.find("rest", `${short(event.proxyId)} is revived, and no request asked for it`);
        return;
      case "ProxyRetired": {
        const retireAfter = court.book.rules.streak?.retireAfter ?? Infinity;
        const byStreak = event.reason === "streak" && court.book.proxy(event.proxyId).streakRests >= retireAfter;
        if (byStreak) court.saw("retired for its streak");
        else if (!this.#isAsked("proxies.retire", event.proxyId))
          court.find("streak", `${short(event.proxyId)} is retired (${event.reason}), and nothing called for it`);
      }
    }
  }

  #rest({ proxyId, reasons, until, exitUntil }: RestBegan): void {
    const court = this.#court;
    const { at } = court.book;
    const proxy = court.book.proxy(proxyId);
    const { account } = proxy;
    for (const reason of reasons) court.saw(`rest: ${reason}`);
    if (proxy.resting) court.saw("rest: lengthened");
    const known = proxy.resting ? proxy.reasons : [];
    if (reasons.includes("manual") && !known.includes("manual") && !this.#isAsked("proxies.rest", proxyId, until - at))
      court.find("rest", `${short(proxyId)} rests manually until ${until}, and no request asked for it`);
    if (exitUntil !== undefined) {
      this.#begun.add(account);
      const requested = Math.max(1, ...this.#asks.map(({ body }) => Number(body["minUses"] ?? 1)));
      const { usage, usesSinceRest } = account;
      if (usage !== null && usesSinceRest + requested <= usage.limit)
        court.find("usage", `${account.key} rests with ${usesSinceRest} of ${usage.limit} uses in its usage quota`);
    } else if (reasons.includes("usage") && account.restUntil > at && !this.#begun.has(account))
      court.saw("rest: joined in a later commit");
  }

  #isAsked(verb: "proxies.rest" | "proxies.retire", proxyId: string, forMs?: number): boolean {
    return this.#asks.some(
      ({ verb: asked, body }) =>
        asked === verb &&
        (body["ids"] as string[]).includes(proxyId) &&
        (forMs === undefined || Number(body["forMs"]) === forMs),
    );
  }
}
