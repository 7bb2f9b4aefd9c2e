// How many servers of a cluster keep the streams, without a broker.
import { expect, test } from "vitest";
import type { Bus } from "../../runtime/bus.ts";
import { readConfig } from "../../runtime/config.ts";
import { changesTo } from "../../runtime/streams.ts";
import { neededStreams } from "../../services/picker/stream-settings.ts";

const busOn = (cluster: string | undefined): Bus => ({ nc: { info: { cluster } } }) as Bus; // Nothing else is read.

function needed(cluster: string | undefined, replicas?: number) {
  const bus = busOn(cluster);
  return neededStreams({ ledger: bus, follower: bus }, { ledgerBytesMax: 1, replicas }).map(({ settings }) => settings);
}

test("three servers of a cluster keep each stream, one alone keeps it itself, and REMUDA_REPLICAS says otherwise", () => {
  const copies = (...given: Parameters<typeof needed>): unknown[] =>
    needed(...given).map(({ initial }) => initial["num_replicas"]);
  expect(copies(undefined)).toEqual([1, 1, 1]);
  expect(copies("c")).toEqual([3, 3, 3]);
  expect(copies("c", 1)).toEqual([1, 1, 1]);
  expect(copies("c", 5)).toEqual([5, 5, 5]);
  expect(() => copies(undefined, 3)).toThrow("REMUDA_REPLICAS is 3, and the NATS server is not in a cluster");
  expect(readConfig({ REMUDA_REPLICAS: "3" }).replicas).toBe(3);
  expect(() => readConfig({ REMUDA_REPLICAS: "6" })).toThrow("REMUDA_REPLICAS");
});

test("a stream gets more copies if REMUDA_REPLICAS says so, and never fewer", () => {
  const changed = (now: number, replicas?: number): unknown[] =>
    needed("c", replicas).map((settings) => {
      const config = { name: settings.name, ...settings.adjusted, num_replicas: now };
      return changesTo(config, settings)?.["num_replicas"];
    });
  expect(changed(1, 3)).toEqual([3, 3, 3]);
  expect(changed(3, 1)).toEqual([undefined, undefined, undefined]);
  expect(changed(1)).toEqual([undefined, undefined, undefined]);
});
