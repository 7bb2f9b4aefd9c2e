// Each answer is in the ledger by then, as it was answered, and contains no secret.
import { type Court, short } from "./court.ts";
import { type Ask, leasesIn } from "./service.ts";
import { secretMark } from "./setting.ts";

/** The requests whose answers may contain secrets. */
const secretive = new Set<string>(["token.get", "token.take"]);

export function checkAnswer(court: Court, ask: Ask): void {
  const answer = ask.answer ?? {};
  const code = answer["code"];
  if (typeof code === "string") {
    court.saw(`refusal: ${code}`);
    const { session, holder } = (answer["limitedBy"] ?? {}) as Record<string, number>;
    if ((session ?? 0) > 0) court.saw("refusal: for the session's proxy");
    if (holder !== undefined) court.saw("refusal: for the holder's cap");
    if (JSON.stringify(answer).includes(secretMark))
      court.find("secret", `a refusal of ${ask.verb} has a password in it`);
    return;
  }
  if (ask.verb === "lease") checkLeases(court, ask, answer);
  else if (ask.verb === "renew") checkLease(court, ask, answer);
  else if (!secretive.has(ask.verb) && JSON.stringify(answer).includes(secretMark))
    court.find("secret", `the answer to ${ask.verb} has a password in it`);
  if (ask.verb === "release") checkRelease(court, ask, answer);
  if (ask.verb === "report") checkReport(court, ask, answer);
  // A read may be answered by a leader that was succeeded within the last second.
  if (court.book.leader !== ask.life.name) return;
  if (ask.verb === "proxies.get") checkProxy(court, answer);
  if (ask.verb === "pool.stats") checkStats(court, answer);
}

function checkLeases(court: Court, ask: Ask, answer: Record<string, unknown>): void {
  const count = ask.body["count"] as number | undefined;
  const leases = leasesIn(answer);
  if ((answer["leases"] === undefined) !== (count === undefined) || leases.length === 0 || leases.length > (count ?? 1))
    court.find("answer", `a request with count ${count} is answered with ${leases.length} leases`);
  for (const lease of leases) checkLease(court, ask, { ...lease });
  const exits = new Set(leases.map(({ leaseId }) => court.book.leases.get(leaseId)?.exit));
  if (exits.size < leases.length)
    court.find("answer", `${leases.length} leases of one request have ${exits.size} different exits`);
}

function checkLease(court: Court, ask: Ask, answer: Record<string, unknown>): void {
  const id = String(answer["leaseId"]);
  const lease = court.book.leases.get(id);
  if (lease === undefined) return court.find("answer", `lease ${short(id)} is answered and is not in the ledger`);
  const said = [answer["uses"], answer["proxyId"], answer["epoch"], answer["grantedAt"]].join(" ");
  const written = [lease.uses, lease.proxy.id, lease.epoch, lease.grantedAt].join(" ");
  if (said !== written)
    court.find("answer", `lease ${short(id)} is answered as ${said}, and is ${written} in the ledger`);
  const [expiresAt, leftMs] = [Number(answer["expiresAt"]), Number(answer["leftMs"])];
  if (expiresAt > lease.expiresAt)
    court.find(
      "answer",
      `lease ${short(id)} is answered with the end ${expiresAt}, and the ledger has ${lease.expiresAt}`,
    );
  if (leftMs > Math.max(0, expiresAt - ask.arrivedAt))
    court.find("answer", `lease ${short(id)} is said to have ${leftMs} ms left, of ${expiresAt - ask.arrivedAt}`);
  if (ask.verb === "lease" && lease.request.requestId !== ask.body["requestId"])
    court.find(
      "request-id",
      `the request ${String(ask.body["requestId"])} is answered with the lease of ${lease.request.requestId}`,
    );
  if (ask.verb === "lease" && !ask.leaseIds.includes(id)) court.saw("lease: the same request again");
  if (answer["username"] !== undefined && !String(answer["url"]).includes(`:${secretMark}`))
    court.find("answer", `lease ${short(id)} lacks its password`);
}

function checkRelease(court: Court, ask: Ask, answer: Record<string, unknown>): void {
  const lease = court.book.leases.get(String(ask.body["leaseId"]));
  const used = lease?.closed?.used;
  if (used === undefined || used !== answer["used"])
    court.find("answer", `a release is answered with ${answer["used"]} uses, the ledger has ${used}`);
  if (lease !== undefined && answer["returned"] !== lease.uses - Number(answer["used"]))
    court.find("answer", `a release of ${answer["used"]} of ${lease.uses} uses returns ${answer["returned"]}`);
  if (Number(answer["returned"]) > 0) court.saw("release: uses returned");
}

function checkReport(court: Court, ask: Ask, answer: Record<string, unknown>): void {
  const outcomes = ask.body["outcomes"] as ({ leaseId?: string; n?: number } | null)[];
  const ignored = answer["ignored"] as { leaseId: string; n: number; why: string }[];
  if (Number(answer["accepted"]) + ignored.length !== outcomes.length)
    court.find(
      "answer",
      `of ${outcomes.length} outcomes ${answer["accepted"]} are accepted and ${ignored.length} ignored`,
    );
  for (const { why } of ignored) court.saw(`ignored: ${why}`);
  for (const outcome of outcomes) {
    const { leaseId = "", n = 1 } = outcome ?? {};
    if (outcome === null || ignored.some((each) => each.leaseId === leaseId)) continue;
    if (court.book.leases.get(leaseId)?.reported.has(n) !== true)
      court.find("answer", `the outcome ${n} of ${short(leaseId)} is accepted and is not in the ledger`);
  }
}

function checkProxy(court: Court, answer: Record<string, unknown>): void {
  const proxy = court.book.proxy(String(answer["id"]));
  const { granted, succeeded, failed, neutral } = answer["totals"] as Record<string, number>;
  const said = [granted, succeeded, failed, neutral].join(" ");
  const { totals } = proxy;
  const written = [totals.granted, totals.succeeded, totals.failed, totals.neutral].join(" ");
  if (said !== written) court.find("totals", `${short(proxy.id)} has the totals ${said}, by the ledger ${written}`);
  if (answer["score"] !== proxy.score)
    court.find("score", `${short(proxy.id)} has the score ${answer["score"]}, by the ledger ${proxy.score}`);
  if (answer["streak"] !== proxy.streak)
    court.find("streak", `${short(proxy.id)} has the streak ${answer["streak"]}, by the ledger ${proxy.streak}`);
  if (answer["epoch"] !== proxy.epoch)
    court.find("epoch", `${short(proxy.id)} is told in epoch ${answer["epoch"]}, by the ledger in ${proxy.epoch}`);
  if (answer["openLeases"] !== proxy.open)
    court.find(
      "concurrency",
      `${short(proxy.id)} has ${answer["openLeases"]} open leases, by the ledger ${proxy.open}`,
    );
  if (answer["usesSinceRest"] !== proxy.account.usesSinceRest)
    court.find(
      "usage",
      `${short(proxy.id)} has ${answer["usesSinceRest"]} uses in its usage quota, by the ledger ${proxy.account.usesSinceRest}`,
    );
}

function checkStats(court: Court, answer: Record<string, unknown>): void {
  const { counts, open } = court.book;
  const [leases, outcomes] = [answer["leases"], answer["outcomes"]] as Record<string, number>[];
  const said = [
    leases?.["open"],
    leases?.["granted"],
    leases?.["expired"],
    outcomes?.["succeeded"],
    outcomes?.["failed"],
  ];
  const written = [open.size, counts.granted, counts.expired, counts.succeeded, counts.failed];
  if (said.join(" ") !== written.join(" "))
    court.find(
      "totals",
      `the stats say ${said.join(" ")} (open, granted, expired, succeeded, failed), the ledger ${written.join(" ")}`,
    );
}
