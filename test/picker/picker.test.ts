// Several pickers on one broker: a pool is led by whichever is left, also one that had been closed in between.
import pino from "pino";
import { expect, onTestFinished, test } from "vitest";
import { requestSubject } from "../../events/subjects.ts";
import { openBus } from "../../runtime/bus.ts";
import { keyOf } from "../../runtime/secrets.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";
import { Picker } from "../../services/picker/picker.ts";
import { startTestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");
const signer = { id: "test", sign: () => "" } as unknown as SigningKey; // No head is signed within the hour.

test("a pool that was closed, and opened again by another picker, is taken over when that one goes", async () => {
  const broker = await startTestBroker();
  onTestFinished(() => broker.stop());
  const start = async (open: string[]): Promise<Picker> => {
    const [ledger, front, follower] = await Promise.all(["a", "b", "c"].map((name) => openBus(broker.url, name)));
    const buses = { ledger: ledger!, front: front!, follower: follower! };
    const log = pino({ level: "silent" });
    const picker = new Picker({ buses, key, signer, log, version: "test", ledgerBytesMax: 64 * 1024 ** 2 });
    onTestFinished(async () => {
      picker.stop();
      await Promise.all(Object.values(buses).map((bus) => bus.close()));
    });
    await picker.start({ open });
    return picker;
  };
  const asking = await openBus(broker.url, "asking");
  onTestFinished(() => asking.close());
  const ask = async (verb: "pool.close" | "pool.stats") =>
    (await asking.nc.request(requestSubject(verb, "shop"), "{}")).json<{ code?: string; leader: { id: string } }>();

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
