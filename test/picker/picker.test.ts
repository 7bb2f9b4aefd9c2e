// Several pickers on one broker: one of the remaining pickers leads a pool, even one that was closed in between.

import { expect, onTestFinished, test } from "vitest";
import { decodeCommit, encodeCommit } from "../../events/commit.ts";
import type { PoolsReply } from "../../protocol/pool.ts";
import { ledgerStream, ledgerSubject, requestSubject } from "../../protocol/subjects.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { callJs, storedMessage, streamInfo } from "../../runtime/jetstream-api.ts";
import { hashOf } from "../../runtime/loop.ts";
import { openBucket, openSecrets } from "../../runtime/secrets.ts";
import { Picker } from "../../services/picker/picker.ts";
import { startTestBroker } from "../kit/broker.ts";
import { key, pickerOptions } from "../kit/picker.ts";
import { eventually } from "../kit/poll.ts";

/** Pickers on their own broker, and a client that sends them requests for the pool "shop". */
async function pickers() {
  const broker = await startTestBroker();
  onTestFinished(() => broker.stop());
  const start = async (open: string[], onLedger: (bus: Bus) => void = () => {}): Promise<Picker> => {
    const [ledger, front, follower, peers] = await Promise.all(
      ["a", "b", "c", "d"].map((name) => openBus(broker.url, name)),
    );
    const buses = { ledger: ledger!, front: front!, follower: follower!, peers: peers! };
    onLedger(buses.ledger);
    const picker = new Picker(pickerOptions(buses));
    onTestFinished(async () => {
      picker.stop();
      await Promise.all(Object.values(buses).map((bus) => bus.close()));
    });
    await picker.start({ open });
    return picker;
  };
  const asking = await openBus(broker.url, "asking");
  onTestFinished(() => asking.close());
  const ask = async (verb: "pool.close" | "pool.stats" | "proxies.list") =>
    (await asking.nc.request(requestSubject(verb, "shop"), "{}")).json<{ code?: string; leader: { id: string } }>();

  return { bus: asking as Bus, start, ask };
}

test("takes over a pool that was closed and opened by another picker when that picker ends", async () => {
  const { start, ask } = await pickers();
  const first = await start(["shop"]);
  await ask("pool.close");
  const standing = await start([]); // It has seen the pool closed.
  expect((await ask("pool.stats")).code).toBe("unknown-pool");
  first.stop();
  const second = await start(["shop"]);
  expect((await ask("pool.stats")).leader.id).toBe(second.id);
  second.stop();
  await eventually(async () => expect((await ask("pool.stats")).leader?.id).toBe(standing.id));
}, 30_000);

test("serves the other pools beside one that a newer version wrote, and one whose witness cannot be read", async () => {
  const { bus, start, ask } = await pickers();
  const first = await start(["default", "shop"]);
  await first.stop();
  const last = await storedMessage(bus, ledgerStream, { last_by_subj: ledgerSubject("default") });
  const head = decodeCommit(Buffer.from(last!.bytes).toString());
  const claim = { type: "LeaderClaimed", leader: "newer", term: head.term + 1, version: "9.8.7" };
  const events = [claim, { type: "ProxyBlessed" }].map((event) => JSON.stringify(event));
  const newer = { ...head, n: head.n + 1, prev: hashOf(last!.bytes), term: head.term + 1 };
  await bus.nc.request(ledgerSubject("default"), encodeCommit(newer, events));
  await bus.nc.request("$KV.remuda-secrets._witness.odd", "garbage");
  await start(["default", "shop"]);
  expect((await ask("pool.stats")).code).toBeUndefined();
  const { pools, unusable } = (await bus.nc.request("remuda.pool.list.all", "{}")).json<PoolsReply>();
  expect(pools.map(({ pool }) => pool)).toEqual(["shop"]);
  expect(unusable?.toSorted((a, b) => (a.pool < b.pool ? -1 : 1))).toEqual([
    { pool: "default", message: expect.stringMatching(/^Version 9\.8\.7 of Remuda wrote the ledger of pool default/) },
    { pool: "odd", message: expect.stringContaining("sealed under a different key") },
  ]);
}, 30_000);

test("leads a pool even if its secrets cannot be pruned", async () => {
  const { bus, start, ask } = await pickers();
  const stream = "KV_remuda-secrets";
  const secrets = await openSecrets(await openBucket(bus, "remuda-secrets"), { under: "shop", key });
  await secrets.put(new Map([["p_of_nobody", "hush"]]));
  const { config } = await streamInfo(bus, stream);
  await callJs(bus, `STREAM.UPDATE.${stream}`, { ...config, deny_purge: true, allow_rollup_hdrs: false });
  await start(["shop"]);
  expect(await ask("proxies.list")).toEqual({ proxies: [] });
});

test("answers nothing after a leader loses the pool while it prunes secrets", async () => {
  const { bus, start, ask } = await pickers();
  const first = await start(["shop"]);
  first.stop();
  const secrets = await openSecrets(await openBucket(bus, "remuda-secrets"), { under: "shop", key });
  await secrets.put(new Map([["p_of_nobody", "hush"]]));
  let tidyUp: (() => void) | undefined;
  const starting = start([], ({ nc }) => {
    const request = nc.request.bind(nc);
    nc.request = async (subject, ...rest) => {
      if (subject.includes("STREAM.PURGE")) await new Promise<void>((resolve) => (tidyUp = resolve));
      return request(subject, ...rest);
    };
  });
  await eventually(() => expect(tidyUp).toBeDefined());
  // Another process's commit, and then one of its own.
  await bus.nc.request("remuda.ledger.shop", "{}");
  const change = { verb: "pool.policy", body: { policy: { concurrency: 3 } } };
  bus.nc.publish("remuda.leader.shop", JSON.stringify(change), { reply: "_INBOX.unused" });
  await eventually(() => expect(bus.nc.request("remuda.leader.shop", "")).rejects.toThrow("no responders"));
  tidyUp?.();
  await starting;
  await expect(ask("proxies.list")).rejects.toThrow("no responders");
});

test("leads although an auditor of an older installation has made a thousand consumers", async () => {
  const { bus, start, ask } = await pickers();
  const first = await start(["shop"]);
  first.stop();
  for (let made = 0; made < 1000; made += 50) {
    const making = Array.from({ length: 50 }, (_, i) => {
      const config = { durable_name: `c${made + i}`, name: `c${made + i}`, ack_policy: "explicit", mem_storage: true };
      const request = { stream_name: "REMUDA_LEDGER", config };
      return callJs(bus, `CONSUMER.CREATE.REMUDA_LEDGER.${config.name}`, request);
    });
    await Promise.all(making);
  }
  const consumers = (stream: string) =>
    callJs<{ state: { consumer_count: number } }>(bus, `STREAM.INFO.${stream}`).then(
      ({ state }) => state.consumer_count,
    );
  const second = await start([]);
  expect((await ask("pool.stats")).leader.id).toBe(second.id);
  expect(await consumers("REMUDA_LEDGER")).toBe(1000);
  for (const stream of ["KV_remuda-secrets", "REMUDA_OUTCOMES"]) expect(await consumers(stream)).toBe(0);
}, 60_000);
