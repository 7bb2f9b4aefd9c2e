// The doctor's checks of pools: their leaders, and problems with their proxies, policies and outcomes.
import { NoRespondersError, RequestError } from "@nats-io/transport-node";
import { decodeCommit } from "../events/commit.ts";
import type { PoolReply, StatsReply } from "../protocol/pool.ts";
import type { ProxyReply } from "../protocol/proxy.ts";
import { outcomeSubject, outcomeSubjects, outcomesStream } from "../protocol/subjects.ts";
import type { Bus } from "../runtime/bus.ts";
import { ifStream, streamInfo } from "../runtime/jetstream-api.ts";
import { ledgersOn } from "../services/api/ledger.ts";
import type { Address } from "./address.ts";
import { type Ask, serviceAt } from "./connection.ts";
import { type Links, withLink } from "./doctor-links.ts";
import { errorMessagesOf, type PoolLook, sharedExits } from "./doctor-proxies.ts";
import { counted, type Finding, findingsOf, ok, problem, warning } from "./finding.ts";

const pickersMs = 3000;
const poolsMs = 5500;
/** How many proxies of one pool, and how many pools, are checked. Enough to find problems, not a full scan. */
const proxiesMax = 20_000;
const poolsMax = 50;

export async function lookAtPools(links: Links): Promise<Finding[]> {
  const { requests, ledger, outcomes } = links;
  const [pickers, pools] = await Promise.all([
    findingsOf("pickers", () => withLink(requests, lookAtPickers), pickersMs),
    findingsOf(
      "pools",
      () => withLink(ledger, (bus) => withLink(outcomes, (stray) => lookAtEach({ bus, stray }, requests))),
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
    return [
      problem(
        "pickers",
        "none runs: nobody leases anything",
        'Start one with "npx remuda up" or "npx remuda run picker".',
      ),
    ];
  }
  const kinds = [...new Set(versions)].sort();
  if (kinds.length === 1) return [ok("pickers", `${counted(versions.length, "picker")}, version ${first}`)];
  return [warning("pickers", `they are of several versions: ${kinds.join(", ")}`, "Let all be of one before long.")];
}

async function lookAtEach(links: { bus: Bus; stray: Bus }, requests: Address): Promise<Finding[]> {
  const { bus } = links;
  const ledgers = ledgersOn(bus, () => {});
  const known = await ledgers.names();
  const open = new Set<string>();
  for (const pool of known.slice(0, poolsMax)) if (await ledgers.isOpen(pool)) open.add(pool);
  const [looks, stray, ahead] = await Promise.all([
    lookWith(requests, [...open]),
    strayOutcomes(links.stray, { open, isWhole: known.length <= poolsMax }),
    Promise.all([...open].map((pool) => leaderClock(pool, ledgers.last(pool)))),
  ]);
  const none = open.size === 0 ? [warning("pools", "none is open", "npx remuda pool open --pool default")] : [];
  return [
    ...none,
    ...looks.flatMap((look) => ("proxies" in look ? errorMessagesOf(look) : [look])),
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
        const why = error instanceof Error ? error.message : String(error);
        return problem(`pool ${pool}`, `nobody leads it: ${why}`, 'Start a picker with "npx remuda run picker".');
      }
    }),
  );
}

async function proxiesWith(ask: Ask): Promise<{ proxies: ProxyReply[]; isWhole: boolean }> {
  const proxies: ProxyReply[] = [];
  for (let after: string | undefined; proxies.length < proxiesMax; ) {
    const body = { limit: 1000, ...(after === undefined ? {} : { after }) };
    const page = await ask<{ proxies: ProxyReply[]; next?: string }>("proxies.list", body);
    proxies.push(...page.proxies);
    after = page.next;
    if (after === undefined) return { proxies, isWhole: true };
  }
  return { proxies, isWhole: false };
}

/** Workers that name a pool that was never opened report to no one. */
async function strayOutcomes(bus: Bus, known: { open: ReadonlySet<string>; isWhole: boolean }): Promise<Finding[]> {
  if (!known.isWhole) return [];
  const info = await ifStream(streamInfo(bus, outcomesStream, { subjects_filter: outcomeSubjects }));
  const prefix = outcomeSubject("");
  return Object.entries(info?.state.subjects ?? {})
    .map(([subject, count]) => ({ pool: subject.slice(prefix.length), count }))
    .filter(({ pool }) => !known.open.has(pool))
    .map(({ pool, count }) => {
      const what = `${counted(count, "outcome was", "outcomes were")} published for the pool ${pool}, which is not open: nobody takes them up`;
      return warning("outcomes", what, `Mend the pool's name in the worker, or npx remuda pool open --pool ${pool}`);
    });
}

/** The time in a leader's commit must not be later than the time at which the broker stores it. */
async function leaderClock(
  pool: string,
  asked: Promise<{ storedAt: number; bytes: Uint8Array } | undefined>,
): Promise<Finding[]> {
  const last = await asked;
  if (last === undefined) return [];
  const aheadMs = decodeCommit(Buffer.from(last.bytes).toString()).at - last.storedAt;
  if (aheadMs <= 50) return [];
  const what = `the leader of the pool ${pool} is ${aheadMs} ms ahead of the broker's clock`;
  return [
    warning("clock", what, "Set both machines' clocks by NTP. A pool's time never goes back, and waits at a restart."),
  ];
}
