// A source's follower without a pool on NATS.
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { sourceSchema } from "../../protocol/source.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Follower } from "../../services/sources/follower.ts";
import type { PoolPort } from "../../services/sources/pool.ts";
import { Seen } from "../../services/sources/seen.ts";
import { loopbackAllowed } from "../kit/outbound.ts";

test("reads the whole list for a caller that wants it, though another caller looks at the same moment", async () => {
  const folder = mkdtempSync(join(tmpdir(), "follower-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "list.txt");
  writeFileSync(path, "10.0.0.1:80\n");
  utimesSync(path, 1, 1); // Not being written.
  let readings = 0;
  const pools = {
    openedAt: async () => ++readings && 1, // Asked for each list that is read, and not for an unchanged one.
    add: async () => ({ added: 1, already: 0, updated: 0, rejected: [], rejectedCount: 0, ids: ["p_1"] }),
  } as unknown as PoolPort;
  const pause = async () => {};
  const follower = new Follower(sourceSchema.parse({ name: "list", from: { kind: "file", path } }), {
    ...{ pools, pause, clock: systemClock, outbound: loopbackAllowed },
    seen: await Seen.open(folder, "list", pause),
    namedElsewhere: () => false,
    onTrouble: () => {},
  });
  onTestFinished(() => follower.stop());
  await follower.lookNow();
  expect(readings).toBe(1);
  await Promise.all([follower.lookNow(), follower.lookNow({ whole: true })]);
  expect(readings).toBe(2);
});
