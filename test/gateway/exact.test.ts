// The promise through the gateway: 24 clients keep TLS tunnels open and ask for more than the limits allow, while the
// service, gateway included, is killed with kill -9. exact-run.ts is the command for longer runs.
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { openStage, type Stage } from "./exact-stage.ts";

const limit = 6;
const exits = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];
const clients = 24;

let stage: Stage;

beforeAll(async () => {
  stage = await openStage({ exits, limit, windowMs: 2000 });
}, 150_000);
afterAll(() => stage?.stop());

test("no window is over the limit at the target, and each exit reaches it, though the service is killed", async () => {
  stage.ask(clients);
  const reached = (): void => expect(stage.most()).toEqual(exits.map(() => limit));
  await eventually(reached, { timeoutMs: 60_000, everyMs: 100 });
  await stage.killService();
  const before = stage.arrivals();
  await eventually(() => expect(stage.arrivals()).toBeGreaterThan(before + limit * exits.length), {
    timeoutMs: 60_000,
    everyMs: 100,
  });
  reached();
  await stage.end();
}, 180_000);
