// The leader signs the ledger's head once an hour, whichever process leads, and only after a new commit.

import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { type HeadSigned, headEveryMs, headStatement } from "../../events/head.ts";
import type { Clock } from "../../runtime/clock.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { hashOf } from "../../runtime/loop.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { loadSigningKey, readPublicKey } from "../../runtime/signing-key.ts";
import { verify } from "../../services/audit/verify.ts";
import { Requests } from "../../services/picker/requests.ts";
import { foldedLeader } from "../kit/leader.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { World } from "../sim/world.ts";
import { sourceOf } from "./ledgers.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");

async function lead(ledger: MemoryLedger, clock: Clock, signer: ReturnType<typeof loadSigningKey>) {
  const feed = { follow: () => {}, last: async () => undefined, stop: () => {} };
  const leader = await foldedLeader({
    pool: "test",
    id: "leader",
    ledger,
    feed,
    clock,
    key,
    secrets: noSecrets,
    signer,
    tell: () => {},
  });
  const requests = new Requests({
    outbound: loopbackAllowed,
    leader,
    secrets: noSecrets,
    key,
    newLeaseId: () => `l_${Math.random()}`,
  });
  const ask = (verb: "proxies.add", body: object): Promise<object> =>
    new Promise((resolve) => requests.handle(verb, body, resolve));
  if (!leader.state.opened) requests.open({}, () => {});
  await leader.lead();
  return { leader, ask };
}

test("signs a head an hour after the opening, then hourly if there are commits, even after a change of leader", async () => {
  const folder = mkdtempSync(join(tmpdir(), "audit-test-"));
  const signer = loadSigningKey(folder);
  expect(statSync(join(folder, "signing-key.pem")).mode & 0o777).toBe(0o600);
  const world = new World();
  const clock: Clock = {
    wall: () => world.now,
    monotonic: () => world.now,
    after: (ms, run) => world.after(ms, run),
    soon: (run) => void world.after(0, run),
  };
  const ledger = new MemoryLedger({ wall: () => world.now });
  const heads = (): (HeadSigned & { at: number; in: number })[] =>
    ledger.commits.flatMap(({ bytes }) => {
      const { n, at, events } = decodeCommit(Buffer.from(bytes).toString());
      return (events as Event[]).flatMap((event) => (event.type === "HeadSigned" ? [{ ...event, at, in: n }] : []));
    });
  const counts: number[] = [];
  let over = false;
  void (async () => {
    await world.sleep(1);
    const startedAt = world.now;
    const first = await lead(ledger, clock, signer);
    await world.sleep(headEveryMs - 1000);
    counts.push(heads().length);
    await world.sleep(2000);
    counts.push(heads().length);
    // Nothing happens for hours, so nothing is signed.
    await world.sleep(5 * headEveryMs);
    counts.push(heads().length);
    // A new commit is signed at once, because the last signature is hours old. Another one within the hour waits.
    await first.ask("proxies.add", { proxies: ["192.0.2.1:80"] });
    await world.sleep(2000);
    counts.push(heads().length);
    await first.ask("proxies.add", { proxies: ["192.0.2.2:80"] });
    first.leader.stop();
    const second = await lead(ledger, clock, signer);
    await world.sleep(headEveryMs - 10_000);
    counts.push(heads().length);
    await world.sleep(20_000);
    counts.push(heads().length);
    second.leader.stop();
    expect(heads()[0]!.at).toBeGreaterThanOrEqual(startedAt + headEveryMs);
    over = true;
  })();
  await world.run(() => over);
  expect(counts).toEqual([0, 1, 1, 2, 2, 3]);
  const publicKey = readPublicKey(signer.publicKey, "key");
  for (const head of heads()) {
    expect(head).toMatchObject({ inert: true, n: head.in - 1, keyId: publicKey.id });
    expect(head.hash).toBe(hashOf(ledger.commits[head.n - 1]!.bytes));
    expect(publicKey.verifies(headStatement({ pool: "test", ...head }), head.signature)).toBe(true);
    expect(publicKey.verifies(headStatement({ pool: "other", ...head }), head.signature)).toBe(false);
  }
  const commits = ledger.commits.map(({ bytes }) => Buffer.from(bytes));
  const head = { pool: "test", ...heads()[2]! };
  const report = await verify(sourceOf(commits), { head, publicKey });
  expect(report).toMatchObject({ isWell: true, headsSigned: 3, headKept: { isThere: true, isSigned: "by this key" } });
  const forged = await verify(sourceOf(commits), { head: { ...head, n: head.n - 1 }, publicKey });
  expect(forged.findings.map(({ rule }) => rule)).toEqual(["head", "head"]);
  rmSync(folder, { recursive: true, force: true });
});
