// Deleting a closed pool, where it fails half-way or another picker opens the pool meanwhile. A whole picker makes the
// pool, and the test deletes it with the parts of another one.
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { overNats } from "../../protocol/over-nats.ts";
import { ledgerStream, ledgerSubject, noticeSubject, secretsBucket } from "../../protocol/subjects.ts";
import { Archive } from "../../runtime/archive/archive.ts";
import { atMost } from "../../runtime/at-most.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Defects } from "../../runtime/defects.ts";
import { callJs } from "../../runtime/jetstream-api.ts";
import { Pulse } from "../../runtime/pulse.ts";
import { Responder } from "../../runtime/responder.ts";
import { StreamRoom } from "../../runtime/room.ts";
import { openBucket } from "../../runtime/secrets.ts";
import { StreamNews } from "../../runtime/stream-news.ts";
import { streamSourceOn } from "../../services/audit/stream-source.ts";
import { verify } from "../../services/audit/verify.ts";
import { deletePool } from "../../services/picker/deletion.ts";
import { noDemand } from "../../services/picker/growth.ts";
import { Leader } from "../../services/picker/leader.ts";
import { Leadership } from "../../services/picker/leadership.ts";
import { Picker } from "../../services/picker/picker.ts";
import type { Station } from "../../services/picker/serving.ts";
import { Snapshots } from "../../services/picker/snapshots.ts";
import { lastSequence, outcomesNews } from "../../services/picker/streams.ts";
import { anybody } from "../../services/picker/who.ts";
import { Witnesses } from "../../services/picker/witness.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { Quotas } from "../../state-machines/queue/quotas.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { key, log, pickerOptions } from "../kit/picker.ts";
import { eventually } from "../kit/poll.ts";

let broker: TestBroker;
let bus: Bus;
let picker: Picker;
let station: Station;

beforeAll(async () => {
  broker = await startTestBroker();
  bus = await openBus(broker.url, "test");
  const options = { ...pickerOptions({ ledger: bus, front: bus, follower: bus, peers: bus }), poolsMax: 1 };
  picker = new Picker(options);
  await picker.start({ open: [] });
  station = {
    ...{ id: "other", options, defects: new Defects(log), quotas: new Quotas() },
    ...{ pulse: new Pulse(systemClock), folds: atMost(1) },
    ...{
      outcomes: outcomesNews(bus),
      ledgers: new StreamNews(bus, ledgerStream),
      room: new StreamRoom(bus, ledgerStream),
      demand: noDemand(),
      bucket: () => openBucket(bus, secretsBucket),
    },
    witnesses: new Witnesses({ bus, key, log, folder: undefined }),
    snapshots: new Snapshots(bus),
    // Only a pool that is led needs them.
    ...({} as Pick<Station, "responder" | "stalls">),
  };
});
afterAll(async () => {
  station?.pulse.stop();
  await picker?.stop();
  await bus?.close();
  await broker?.stop();
});

const ask = async (verb: string, pool: string, body: object = {}): Promise<Record<string, unknown>> =>
  (await bus.nc.request(`remuda.${verb}.${pool}`, JSON.stringify(body), { timeout: 10_000 })).json();

async function closedPool(pool: string): Promise<void> {
  await eventually(async () => expect(await ask("pool.open", pool)).toMatchObject({ pool }));
  expect(await ask("proxies.add", pool, { proxies: ["ann:hush@10.0.0.1:80"] })).toMatchObject({ added: 1 });
  await ask("pool.close", pool);
}

const deleted = (pool: string, given: Partial<Station> = {}, archive = false) =>
  deletePool(pool, { picker: { ...station, ...given }, archive, isLed: async () => false });

/** The bucket of secrets takes messages up to this size only; -1: of any size. */
async function boundBucket(max_msg_size: number): Promise<void> {
  const stream = `KV_${secretsBucket}`;
  const { config } = await callJs<{ config: object }>(bus, `STREAM.INFO.${stream}`);
  await callJs(bus, `STREAM.UPDATE.${stream}`, { ...config, max_msg_size });
}

test("leaves the pool as it is if the witness cannot be stored, and deletes it the next time", async () => {
  await closedPool("half");
  await boundBucket(1);
  await expect(deleted("half")).rejects.toThrow("witness");
  await boundBucket(-1);
  await ask("pool.open", "half");
  const [proxy] = (await ask("proxies.list", "half"))["proxies"] as object[];
  expect(proxy).toMatchObject({ host: "10.0.0.1" });
  expect(await ask("lease", "half")).toMatchObject({ url: "http://ann:hush@10.0.0.1:80" });
  const termOf = async (): Promise<number> => ((await ask("pool.stats", "half"))["leader"] as { term: number }).term;
  const term = await termOf();
  await ask("pool.close", "half");
  expect(await deleted("half")).toEqual({ deleted: true });
  expect(await deleted("half")).toMatchObject({ code: "unknown-pool" });
  // Clients ignore the notice of a term that they know, so the next ledger goes on with the terms.
  await eventually(async () => expect(await ask("pool.open", "half")).toMatchObject({ pool: "half" }));
  expect(await termOf()).toBeGreaterThan(term);
  const { findings } = await verify(await streamSourceOn(bus, "half"), {});
  expect(findings).toEqual([]);
  await ask("pool.close", "half");
  expect(await deleted("half")).toEqual({ deleted: true });
});

test("removes the snapshots when the ledger is gone, which might not be folded without them", async () => {
  await closedPool("kept");
  const left: (number | undefined)[] = [];
  const remove = async (): Promise<void> => void left.push(await lastSequence(bus, "kept"));
  const snapshots = { of: async () => [], remove } as unknown as Snapshots; // A deletion uses no more of them.
  expect(await deleted("kept", { snapshots })).toEqual({ deleted: true });
  expect(left).toEqual([undefined]);
});

test("deletes the snapshots as well, and the archive if asked to", async () => {
  const folder = mkdtempSync(join(tmpdir(), "deletion-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const { snapshots } = station;
  for (const archive of [false, true]) {
    await closedPool("past");
    mkdirSync(join(folder, "past"), { recursive: true });
    await snapshots.save("past", { n: 1, seq: 1, hash: "h".repeat(43) }, new PoolState("past"));
    expect(await snapshots.of("past")).toHaveLength(1);
    expect(await deleted("past", { archive: new Archive(folder) }, archive)).toEqual({ deleted: true });
    expect(await snapshots.of("past")).toEqual([]);
    expect(existsSync(join(folder, "past"))).toBe(!archive);
  }
});

test("no longer counts a pool towards the maximum once another picker has deleted it", async () => {
  await closedPool("next");
  expect(await ask("pool.open", "one-more")).toMatchObject({ code: "overloaded" });
  expect(await deleted("next")).toEqual({ deleted: true });
});

test("answers a list of pools although a leader is lost to another picker before it answers", async () => {
  await eventually(async () => expect(await ask("pool.open", "lost")).toMatchObject({ pool: "lost" }));
  const submit = vi.spyOn(Leader.prototype, "submit").mockImplementationOnce(() => {
    bus.nc.publish(noticeSubject("lost"), JSON.stringify({ leader: "another", term: 1000 }));
  });
  expect(await ask("pool.list", "all")).toEqual({ pools: [] });
  submit.mockRestore();
  await eventually(async () => expect(await ask("pool.close", "lost")).toMatchObject({ pool: "lost" }));
  expect(await deleted("lost")).toEqual({ deleted: true });
});

test("starts a pool again whose actor ended because of a bug, and leads it", async () => {
  const defects = new Defects(log);
  const options = { ...station.options, defects };
  const leadership = new Leadership("third", options, new Responder(bus.nc, overNats, log));
  onTestFinished(() => leadership.stop());
  let looks = 0;
  const answer = await new Promise<object>((respond) => {
    leadership.open("evil", {
      ...{ respond, who: anybody },
      get body() {
        if (++looks > 1) throw new TypeError("planted");
        return {};
      },
    });
  });
  expect(answer).toMatchObject({ code: "unavailable" });
  expect(defects.counts).toEqual({ pool: 1 });
  const open = { body: {}, who: anybody };
  expect(await new Promise<object>((respond) => leadership.open("evil", { ...open, respond }))).toMatchObject({
    pool: "evil",
  });
  // The life of the pool ends while a question waits for its answer.
  const submit = vi.spyOn(Leader.prototype, "submit").mockImplementationOnce(() => {
    const body = {
      get body(): unknown {
        throw new TypeError("planted");
      },
    };
    setImmediate(() => leadership.open("evil", Object.assign(body, { respond() {}, who: anybody })));
  });
  const stats = await leadership.ask("evil", { verb: "pool.stats", body: {}, who: anybody });
  expect(stats).toMatchObject({ code: "unavailable" });
  submit.mockRestore();
  expect(defects.counts).toEqual({ pool: 2 });
  await eventually(async () => {
    const closed = await leadership.ask("evil", { verb: "pool.close", body: {}, who: anybody });
    expect(closed).toMatchObject({ pool: "evil" });
  });
  expect(await deleted("evil")).toEqual({ deleted: true });
});

test("does not delete the ledger of a picker that opens the pool after the deletion's claim", async () => {
  await closedPool("raced");
  const { witnesses } = station;
  const opens = async (): Promise<boolean> => {
    await bus.nc.request(ledgerSubject("raced"), "the commit that opens it");
    return true;
  };
  const stalled = { of: (pool: string) => witnesses.of(pool), keep: opens } as unknown as Witnesses; // A deletion uses no more of them.
  const before = (await lastSequence(bus, "raced"))!; // It has a ledger.
  expect(await deleted("raced", { witnesses: stalled })).toMatchObject({ code: "unavailable" });
  expect(await lastSequence(bus, "raced")).toBeGreaterThan(before + 1);
});
