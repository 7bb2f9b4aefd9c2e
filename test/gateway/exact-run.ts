// The exactness of the gateway, in a long run:
//
//   npx node test/gateway/exact-run.ts --seconds 300 --kills 10 --gateway-kills 10 --seed 7 [--clients 64]
//
// The clients keep TLS tunnels (1.2 and 1.3, HTTP/1.1) open through two gateways, half of them with sessions, and ask
// for more than the limits of 12 exits allow. At random moments the service (picker, API and a gateway) or the second
// gateway is killed with kill -9 and started again. A seed fixes the moments.
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { seeded } from "../kit/seed.ts";
import { openStage } from "./exact-stage.ts";

const limit = 15;
const windowMs = 5000;
const exits = Array.from({ length: 12 }, (_, i) => `127.0.2.${i + 1}`);
/** An exit may need another window after the last kill, because the uses of a killed gateway were lost. */
const reachMsMax = 60_000;

const text = { type: "string" } as const;
const { values } = parseArgs({
  options: { seconds: text, kills: text, "gateway-kills": text, seed: text, clients: text },
});
const seconds = Number(values.seconds ?? 60);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const clients = Number(values.clients ?? 64);
const random = seeded(seed);
const kills = [
  ...Array.from({ length: Number(values.kills ?? 2) }, () => "service" as const),
  ...Array.from({ length: Number(values["gateway-kills"] ?? 2) }, () => "gateway" as const),
]
  .map((what) => ({ what, atMs: Math.round((0.08 + 0.8 * random.next()) * seconds * 1000) }))
  .sort((a, b) => a.atMs - b.atMs);

const stage = await openStage({ exits, limit, windowMs, withSecondGateway: true });
try {
  const startedAt = performance.now();
  const nowMs = (): number => performance.now() - startedAt;
  stage.ask(clients);
  for (const { what, atMs } of kills) {
    await sleep(Math.max(0, atMs - nowMs()));
    console.log(`kill -9 of the ${what} at ${Math.round(nowMs())} ms (planned at ${atMs})`);
    await (what === "service" ? stage.killService() : stage.killGateway());
  }
  await sleep(Math.max(0, seconds * 1000 - nowMs()));
  const until = nowMs() + reachMsMax;
  while (!stage.most().every((most) => most >= limit) && nowMs() < until) await sleep(250);
  const most = stage.most();
  const lastedMs = nowMs();
  const arrivals = stage.arrivals();
  await stage.end();
  const possible = limit * exits.length * Math.ceil(lastedMs / windowMs);
  console.log(
    `seed ${seed}: ${(lastedMs / 1000).toFixed(1)} s, ${clients} clients, ${kills.length} kills; ${arrivals} requests ` +
      `at the target, ${Math.round((100 * arrivals) / possible)} % of the most that the limit allows; most in any ` +
      `${windowMs / 1000} s per exit: ${Math.max(...most)}, of the least used exit ${Math.min(...most)}, limit ${limit}`,
  );
  if (most.some((each) => each !== limit)) process.exitCode = 1;
} finally {
  await stage.stop();
}
process.exit();
