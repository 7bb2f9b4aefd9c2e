// The sealed bucket, seen by two processes at once: what one stores the other learns of when it looks, and of what both
// claim one has it.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { streamInfo } from "../../runtime/jetstream-api.ts";
import { keyOf, openSecrets, type Secrets } from "../../runtime/secrets.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";

const key = keyOf(Buffer.alloc(32, 3).toString("base64url"), "test");
let broker: TestBroker;
const buses: Bus[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
}, 180_000);

afterAll(async () => {
  await Promise.all(buses.map((bus) => bus.close()));
  await broker?.stop();
});

async function open(under: string): Promise<Secrets> {
  const bus = await openBus(broker.url, "test");
  buses.push(bus);
  return openSecrets(bus, { bucket: "remuda-secrets", under, key });
}

test("what another one has stored since is learned by looking, and only then", async () => {
  const [one, two] = [await open("a"), await open("a")];
  await one.putAs("t_1", "hush");
  expect(two.get("t_1")).toBeUndefined();
  await two.look(["t_1", "t_none"]);
  expect(two.get("t_1")).toBe("hush");
  expect(two.get("t_none")).toBeUndefined();
  const other = await open("b");
  await other.look(["t_1"]);
  expect(other.get("t_1")).toBeUndefined();
});

test("what has been taken out is not learned of", async () => {
  const [one, two] = [await open("c"), await open("c")];
  await one.putAs("t_1", "hush");
  await one.prune(() => false);
  await two.look(["t_1"]);
  expect(two.get("t_1")).toBeUndefined();
  expect(one.get("t_1")).toBeUndefined();
  expect((await open("c")).get("t_1")).toBeUndefined();
  // No mark of it either: they would be as many as there ever were tokens, and are all read at a start.
  const [bus] = buses;
  const info = await streamInfo(bus!, "KV_remuda-secrets", { subjects_filter: "$KV.remuda-secrets.c.>" }); // It is open.
  expect(info.state.subjects ?? {}).toEqual({});
});

test("of those that claim the same at the same moment one has it, and all are told the same", async () => {
  const all = await Promise.all(Array.from({ length: 4 }, () => open("d")));
  for (let round = 0; round < 5; round++) {
    const told = await Promise.all(
      all.flatMap((secrets, i) => [secrets.claim(`x_${round}`, `${i}`), secrets.claim(`x_${round}`, `${i}+`)]),
    );
    expect(new Set(told).size).toBe(1);
    // Also by one that comes later.
    expect(await (await open("d")).claim(`x_${round}`, "late")).toBe(told[0]);
  }
  expect(await all[0]?.claim("x_other", "first")).toBe("first");
  expect(await all[0]?.claim("x_other", "second")).toBe("first");
});

test("a claim that was taken out may be made again", async () => {
  const [one, two] = [await open("e"), await open("e")];
  await one.claim("x_1", "one");
  await one.prune(() => false);
  expect(await two.claim("x_1", "two")).toBe("two");
});
