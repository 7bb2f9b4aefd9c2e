// Which pools are led: a picker that stands by, and a leader whose connections break one by one. The connections are
// real, and run through relays.
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { Liveness } from "../../services/picker/liveness.ts";
import { Reach } from "../../services/picker/reach.ts";
import { HandClock } from "../kit/hand-clock.ts";
import { eventually } from "../kit/poll.ts";
import { type Relay, startRelay } from "../kit/relay.ts";
import { startStreams, type TestStreams } from "../kit/streams.ts";

type Name = "ledger" | "front" | "follower" | "peers";
const names: Name[] = ["ledger", "front", "follower", "peers"];

let streams: TestStreams;
beforeAll(async () => {
  streams = await startStreams();
});
afterAll(() => streams?.stop());

/** A picker's liveness, with a relay on each of its connections, on a clock that the test moves. */
async function picker(id: string) {
  const relays = {} as Record<Name, Relay>; // Filled below.
  const buses = {} as Record<Name, Bus>;
  for (const name of names) {
    relays[name] = await startRelay(streams.broker);
    buses[name] = await openBus(relays[name].urlOf(streams.broker.url), `${id} ${name}`);
  }
  const clock = new HandClock();
  const reach = new Reach(buses, clock, 1000);
  const liveness = new Liveness(id, { buses, key: { fingerprint: "key" } as never, clock }, reach);
  onTestFinished(async () => {
    reach.stop();
    liveness.stop();
    await Promise.all(Object.values(buses).map((bus) => bus.close()));
    await Promise.all(Object.values(relays).map((relay) => relay.close()));
  });
  /** The connection stays, and nothing comes through. */
  const freeze = (name: Name): void => {
    relays[name].newOnes("unread");
    relays[name].stopReading();
  };
  const cut = (name: Name): void => {
    relays[name].newOnes("ended");
    relays[name].cut();
  };
  return { clock, buses, liveness, freeze, cut };
}

/** A picker that leads the pool "shop", and one that stands by. */
async function two() {
  const [leading, standing] = [await picker("leading"), await picker("standing")];
  const leader = { silentMs: 0, isSure: true, leads: true, state: { term: 7 }, now: () => 1000, submit() {} };
  const remove = leading.liveness.add("shop", leader as never);
  await leading.buses.peers.nc.flush();
  /** Both clocks move, the leader's alone as long as it reaches the ledger. */
  const pass = async (ms: number): Promise<void> => {
    leading.clock.move(ms);
    standing.clock.move(ms);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { leading, standing, leader, remove, pass, isLed: () => standing.liveness.isLed("shop") };
}

test("learns from the leader that the pool is led, and the pool's time; without an answer the pool may be claimed", async () => {
  const { standing, remove, isLed } = await two();
  expect(await isLed()).toBe(true);
  expect(standing.liveness.seen("shop")).toMatchObject({ term: 7, at: 1000 });
  expect(await standing.liveness.isLed("other")).toBe(false);
  remove();
  expect(await isLed()).toBe(false);
});

test("does not depose a leader whose connection for requests was cut by a flood", async () => {
  const { leading, isLed } = await two();
  leading.cut("front");
  await eventually(() => expect(leading.buses.front.up).toBe(false));
  expect(await isLed()).toBe(true);
});

test("deposes a leader that does not reach its ledger any more, while the others do", async () => {
  const { leading, isLed, pass } = await two();
  expect(await isLed()).toBe(true);
  leading.freeze("ledger");
  await pass(2000);
  expect(await isLed()).toBe(true);
  await pass(2000);
  expect(await isLed()).toBe(true);
  await pass(2000);
  expect(await isLed()).toBe(false);
});

test("deposes a leader whose commit has no answer, and not one that gets it", async () => {
  const { leader, isLed, pass } = await two();
  leader.silentMs = 4000;
  expect(await isLed()).toBe(true);
  await pass(2000);
  leader.silentMs = 0;
  expect(await isLed()).toBe(true);
  leader.silentMs = 4000;
  await pass(2000);
  expect(await isLed()).toBe(true);
  await pass(3000);
  expect(await isLed()).toBe(false);
});

test("deposes no silent leader while it does not reach the ledger itself, as in an election", async () => {
  const { leader, standing, isLed, pass } = await two();
  leader.silentMs = 20_000;
  standing.freeze("ledger");
  for (let look = 0; look < 2; look++) {
    expect(await isLed()).toBe(true);
    await pass(3000);
  }
});

test("does not mistake its own dead connection for a dead leader", async () => {
  const looks = names.map(async (name) => {
    const { standing, remove, isLed } = await two();
    standing.freeze(name);
    remove();
    return isLed();
  });
  expect(await Promise.all(looks)).toEqual(names.map(() => true));
});
