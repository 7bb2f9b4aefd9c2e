// Refreshes whose leader dies before an executor has taken them, in several pools of one leader and one executor. The
// next leader hands them out at once, and each pool gets its token from its own source.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestBroker } from "../kit/broker.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type GuestSite, startGuestSite } from "../kit/guest-site.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

const deadlineMs = 120_000;
const pools = ["one", "two", "three"];

let broker: Awaited<ReturnType<typeof startTestBroker>>;
let nats: RawNats;
let folder: string;
let sites: GuestSite[] = [];
let proxy: ForwardProxy;

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connectRaw(broker.url);
  folder = mkdtempSync(join(tmpdir(), "remuda-orphans-"));
  sites = await Promise.all(pools.map(() => startGuestSite()));
  proxy = await startForwardProxy({ exit: "127.0.0.51" });
}, 180_000);

afterAll(async () => {
  await nats?.close();
  await stopAllRemudas();
  await broker?.stop();
  await Promise.all([proxy, ...sites].map((each) => each?.stop()));
  rmSync(folder, { recursive: true, force: true });
});

const start = (service: string): Promise<RemudaProcess> =>
  startRemuda({ dataDir: folder, args: ["run", service], env: { REMUDA_NATS_URL: broker.url } });

async function ask<T>(subject: string, body: object = {}): Promise<T> {
  return (await nats.request(subject, JSON.stringify(body), { timeoutMs: 10_000 })).json<T>();
}

test("a refresh that no executor had when its leader was killed is taken from the next leader, before its deadline", async () => {
  const leader = await start("picker");
  for (const [i, pool] of pools.entries()) {
    const source = { url: `${sites[i]?.url}/guest`, value: { jsonPointer: "/guest_token" } };
    const token = { scope: "pool", deadlineMs, source };
    // The refresh has the only lease that is possible.
    await ask(`remuda.pool.open.${pool}`, {
      policy: { rate: null, concurrency: 1, lease: { ttlMsMax: 3_600_000 }, token },
    });
    await ask(`remuda.proxies.add.${pool}`, { proxies: [proxy.url] });
    expect(await ask(`remuda.token.get.${pool}`)).toMatchObject({ code: "token-unavailable" });
  }
  await leader.kill9();
  await Promise.all([start("picker"), start("guest-token")]);
  for (const [i, pool] of pools.entries()) {
    await eventually(
      async () => {
        const answer = await ask<{ value?: string }>(`remuda.token.get.${pool}`, { waitMs: 5000 });
        expect(answer.value).toBe(sites[i]?.minted[0]?.value);
        expect(answer.value).toBeDefined();
      },
      { timeoutMs: 30_000 },
    );
    // The same refresh that was begun: there was no other one.
    expect(sites[i]?.minted).toHaveLength(1);
    expect(await ask(`remuda.leases.list.${pool}`)).toMatchObject({ leases: [] });
  }
}, 90_000);
