// The sealed bucket, used by two processes at once. Each learns of the other's entries when it looks, and both agree on
// the owner of an id that both claim.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { callJs, streamInfo } from "../../runtime/jetstream-api.ts";
import { addSeal, makeKey, readKey } from "../../runtime/key-file.ts";
import { keyOf, openBucket, openSecrets, type Secrets } from "../../runtime/secrets.ts";
import { installationKey, sealAnew } from "../../services/picker/installation.ts";
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
  return openSecrets(await openBucket(bus, "remuda-secrets"), { under, key });
}

test("learns of entries that another process stored since by looking, and only then", async () => {
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

test("does not learn of deleted entries", async () => {
  const [one, two] = [await open("c"), await open("c")];
  await one.putAs("t_1", "hush");
  await one.prune(() => false);
  await two.look(["t_1"]);
  expect(two.get("t_1")).toBeUndefined();
  expect(one.get("t_1")).toBeUndefined();
  expect((await open("c")).get("t_1")).toBeUndefined();
  // No marker of it either: there would be one for every token there ever was, and all are read at a start.
  const [bus] = buses;
  const info = await streamInfo(bus!, "KV_remuda-secrets", { subjects_filter: "$KV.remuda-secrets.c.>" }); // It is open.
  expect(info.state.subjects ?? {}).toEqual({});
});

test("gives an id claimed by many at once to one, and reports the same owner to all", async () => {
  const all = await Promise.all(Array.from({ length: 4 }, () => open("d")));
  for (let round = 0; round < 5; round++) {
    const told = await Promise.all(
      all.flatMap((secrets, i) => [secrets.claim(`x_${round}`, `${i}`), secrets.claim(`x_${round}`, `${i}+`)]),
    );
    expect(new Set(told).size).toBe(1);
    // Also to a later claim.
    expect(await (await open("d")).claim(`x_${round}`, "late")).toBe(told[0]);
  }
  expect(await all[0]?.claim("x_other", "first")).toBe("first");
  expect(await all[0]?.claim("x_other", "second")).toBe("first");
});

test("allows a new claim after the first was deleted", async () => {
  const [one, two] = [await open("e"), await open("e")];
  await one.claim("x_1", "one");
  await one.prune(() => false);
  expect(await two.claim("x_1", "two")).toBe("two");
});

test("a rotated key opens what both keys sealed, then only its own; ids and fingerprint stay", async () => {
  const folder = mkdtempSync(join(tmpdir(), "key-"));
  try {
    const old = makeKey(folder);
    const bus = await openBus(broker.url, "test");
    buses.push(bus);
    const bucket = await openBucket(bus, "remuda-secrets");
    await callJs(bus, "STREAM.PURGE.KV_remuda-secrets"); // Other tests' entries are under another key.
    await (await openSecrets(bucket, { under: "rotated", key: old })).putAs("p_1", "hush");
    // As if the first rotation was killed before it had sealed anything: the next one goes on with its key.
    const interrupted = addSeal(folder);
    expect(interrupted.key.unseal(old.seal("old"))).toBe("old");
    const { key: next, finish } = addSeal(folder);
    expect(next.unseal(interrupted.key.seal("new"))).toBe("new");
    expect(await sealAnew(bus, next)).toBe(1);
    finish();
    const rotated = readKey(folder);
    if (rotated === undefined) throw new Error("the key is gone");
    expect([rotated.hmac("x"), rotated.fingerprint]).toEqual([old.hmac("x"), old.fingerprint]);
    expect((await openSecrets(bucket, { under: "rotated", key: rotated })).get("p_1")).toBe("hush");
    await expect(openSecrets(bucket, { under: "rotated", key: old })).rejects.toThrow(/sealed under a different key/);
    expect(() => rotated.unseal(old.seal("old"))).toThrow(/sealed under a different key/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("makes no new key where the NATS server has an installation's secrets", async () => {
  const folder = mkdtempSync(join(tmpdir(), "key-"));
  try {
    const bus = await openBus(broker.url, "test");
    buses.push(bus);
    await (await openSecrets(await openBucket(bus, "remuda-secrets"), { under: "kept", key })).putAs("p_1", "hush");
    await expect(installationKey(folder, bus)).rejects.toThrow(
      /There is no .*key, and the NATS server has .*another installation's key\. Restore the file/,
    );
    expect(readKey(folder)).toBeUndefined();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
