// The doctor's checks of pools: their leaders, and problems with their proxies, policies and outcomes.

import { NoRespondersError, RequestError } from "@nats-io/transport-node";
import { decodeCommit } from "../events/commit.ts";
import type { PoolReply, PoolsReply, StatsReply } from "../protocol/pool.ts";
import type { ProxyReply } from "../protocol/proxy.ts";
import { outcomeSubject, outcomeSubjects, outcomesStream } from "../protocol/subjects.ts";
import type { Bus } from "../runtime/bus.ts";
import { messageOf } from "../runtime/fault.ts";
import { ifStream, streamInfo } from "../runtime/jetstream-api.ts";
import { counted } from "../runtime/text.ts";
import { ledgersOn } from "../services/api/ledger.ts";
import type { Address } from "./address.ts";
import { type Ask, serviceAt, withBus } from "./connection.ts";
import type { Links } from "./doctor-broker.ts";
import { findingsIn, type PoolLook, sharedExits } from "./doctor-proxies.ts";
import { Refused } from "./failure.ts";
import { type Finding, findingsOf, ok, problem, warning } from "./finding.ts";
import { pagesOf } from "./pages.ts";

const name = "remuda doctor";
const pickersMs = 3000;
const poolsMs = 5500;
/** At most this many proxies of a pool, and this many pools, are checked. */
const proxiesMax = 20_000;
const poolsMax = 50;

export async function lookAtPools(links: Links): Promise<Finding[]> {
  const { requests, ledger, outcomes } = links;
  const [pickers, pools] = await Promise.all([
    findingsOf("pickers", () => withBus(requests, name, lookAtPickers), pickersMs),
    findingsOf(
      "pools",
      () => withBus(ledger, name, (bus) => withBus(outcomes, name, (worker) => lookAtEach({ bus, worker }, requests))),
      poolsMs,
    ),
  ]);
  return [...pickers, ...pools];
}

const heardMs = 700;

async function lookAtPickers({ nc }: Bus): Promise<Finding[]> {
  const versions: string[] = [];
  try {
    for await (const answer of await nc.requestMany("$SRV.PING.remuda", "", { strategy: "timer", maxWait: heardMs })) {
      if (answer.data.length > 0) versions.push(answer.json<{ version: string }>().version);
    }
  } catch (error) {
    const isNobody = error instanceof NoRespondersError || (error instanceof RequestError && error.isNoResponders());
    if (!isNobody) throw error;
  }
  const [first] = versions;
  if (first === undefined) {
    const todo = 'Start one with "npx remuda up" or "npx remuda run picker".';
    return [problem("pickers", "no picker runs, so nothing can be leased", todo)];
  }
  const kinds = [...new Set(versions)].sort();
  if (kinds.length === 1) return [ok("pickers", `${counted(versions.length, "picker")}, version ${first}`)];
  return [
    warning("pickers", `the pickers have several versions: ${kinds.join(", ")}`, "Update all to one version soon."),
  ];
}

async function lookAtEach(links: { bus: Bus; worker: Bus }, requests: Address): Promise<Finding[]> {
  const { bus } = links;
  const ledgers = ledgersOn({ control: bus, events: bus });
  const known = await ledgers.names();
  const open = new Set<string>();
  for (const pool of known.slice(0, poolsMax)) if (await ledgers.isOpen(pool)) open.add(pool);
  const [looks, unusable, stray, ahead] = await Promise.all([
    lookWith(requests, [...open]),
    unusableTo(requests),
    strayOutcomes(links.worker, { open, isWhole: known.length <= poolsMax }),
    Promise.all([...open].map((pool) => leaderClock(pool, ledgers.last(pool)))),
  ]);
  const none = open.size === 0 ? [warning("pools", "no pool is open", "npx remuda pool open --pool default")] : [];
  return [
    ...none,
    ...unusable,
    ...looks
      .filter((look) => !unusable.some(({ about }) => "about" in look && look.about === about))
      .flatMap((look) => ("proxies" in look ? findingsIn(look) : [look])),
    ...sharedExits(looks.filter((look) => "proxies" in look)),
    ...ahead.flat(),
    ...stray,
  ];
}

async function lookWith(requests: Address, pools: readonly string[]): Promise<(PoolLook | Finding)[]> {
  const withService = serviceAt(() => requests);
  return Promise.all(
    pools.map(async (pool): Promise<PoolLook | Finding> => {
      try {
        return await withService({ pool }, async (ask) => {
          const [{ policy }, stats] = await Promise.all([
            ask<PoolReply>("pool.get", {}),
            ask<StatsReply>("pool.stats", {}),
          ]);
          return { pool, policy, stats, ...(await proxiesWith(ask)) };
        });
      } catch (error) {
        const todo = 'Start a picker with "npx remuda run picker".';
        return problem(`pool ${pool}`, `it has no leader: ${messageOf(error)}`, todo);
      }
    }),
  );
}

/** Pools that are not served because their ledger is damaged, or has lost commits. */
/** The findings of the pickers about pools and streams that they cannot use. */
async function unusableTo(requests: Address): Promise<Finding[]> {
  try {
    const withService = serviceAt(() => requests);
    const asked = await withService({ pool: "default" }, (ask) => ask<PoolsReply>("pool.list", {}));
    const { unusable = [], streams = [] } = asked;
    return [
      ...streams.map(({ stream, message }) => problem(`stream ${stream}`, message)),
      ...unusable.map(({ pool, message }) => problem(`pool ${pool}`, message)),
    ];
  } catch (error) {
    return error instanceof Refused ? [problem("pools", error.message)] : []; // If no picker answers, that is another finding.
  }
}

async function proxiesWith(ask: Ask): Promise<{ proxies: ProxyReply[]; isWhole: boolean }> {
  const proxies: ProxyReply[] = [];
  for await (const page of pagesOf<{ proxies: ProxyReply[]; next?: string }>(ask, "proxies.list", {})) {
    proxies.push(...page.proxies);
    if (proxies.length >= proxiesMax) return { proxies, isWhole: page.next === undefined };
  }
  return { proxies, isWhole: true };
}

/** Outcomes published for a pool that is not open are never counted. */
async function strayOutcomes(bus: Bus, known: { open: ReadonlySet<string>; isWhole: boolean }): Promise<Finding[]> {
  if (!known.isWhole) return [];
  const info = await ifStream(streamInfo(bus, outcomesStream, { subjects_filter: outcomeSubjects }));
  const prefix = outcomeSubject("");
  return Object.entries(info?.state.subjects ?? {})
    .map(([subject, count]) => ({ pool: subject.slice(prefix.length), count }))
    .filter(({ pool }) => !known.open.has(pool))
    .map(({ pool, count }) => {
      const what = `${counted(count, "outcome was", "outcomes were")} published for the pool ${pool}, which is not open, so ${count === 1 ? "it does" : "they do"} not count`;
      return warning(
        "outcomes",
        what,
        `Correct the pool's name in the worker, or: npx remuda pool open --pool ${pool}`,
      );
    });
}

/** A commit is made before the broker stores it, so its time must be the earlier one. */
async function leaderClock(
  pool: string,
  asked: Promise<{ storedAt: number; bytes: Uint8Array } | undefined>,
): Promise<Finding[]> {
  const last = await asked;
  if (last === undefined) return [];
  const aheadMs = decodeCommit(Buffer.from(last.bytes).toString()).at - last.storedAt;
  if (aheadMs <= 50) return [];
  const what = `the leader of the pool ${pool} is ${aheadMs} ms ahead of the broker's clock`;
  const todo = "Synchronize both clocks by NTP. A pool's time never goes back, so a new leader would have to wait.";
  return [warning("clock", what, todo)];
}
