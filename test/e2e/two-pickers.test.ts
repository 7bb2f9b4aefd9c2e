// Two picker processes on one NATS server. One leads each pool, and the other takes over. The first one, resumed, stays
// silent.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startTestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

let broker: Awaited<ReturnType<typeof startTestBroker>>;
let nats: RawNats;
let folder: string;

beforeEach(async () => {
  broker = await startTestBroker();
  nats = await connectRaw(broker.url);
  folder = mkdtempSync(join(tmpdir(), "remuda-pickers-"));
});

afterEach(async () => {
  nats?.close();
  await stopAllRemudas();
  await broker?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Pickers share the key of one installation, here by sharing its data directory. */
const startPicker = (dataDir = folder): Promise<RemudaProcess> =>
  startRemuda({ dataDir, args: ["run", "picker"], env: { REMUDA_NATS_URL: broker.url, REMUDA_LOG_LEVEL: "info" } });

/** A request that any picker may answer can reach a hung one, which never answers. So it is sent again soon. */
async function ask(subject: string, body: object = {}, timeoutMs = 5000): Promise<Record<string, unknown>> {
  const reply = await nats.request(subject, JSON.stringify(body), { timeoutMs });
  return reply.status === 503 ? { code: "no-responders" } : reply.json<Record<string, unknown>>();
}

const leaderOf = async (pool: string): Promise<{ id: string; term: number }> => {
  const { leader } = (await ask(`remuda.pool.stats.${pool}`, {}, 500)) as { leader?: { id: string; term: number } };
  if (leader === undefined) throw new Error(`${pool} has no leader`);
  return leader;
};

test("takes over a pool that was opened after both pickers started, with all its state and its passwords", async () => {
  const first = await startPicker();
  const second = await startPicker();
  await ask("remuda.pool.open.late", { policy: { rate: { limit: 2, windowMs: 600_000 } } });
  await ask("remuda.proxies.add.late", { proxies: ["127.0.0.2:8080:user:secret"] });
  const lease = await ask("remuda.lease.late");
  const before = await leaderOf("late");
  // Which picker leads is random, and the leader logs it. The leading one is killed.
  const leader = await eventually(() => {
    const leading = [first, second].filter((each) => /"pool":"late".*leading the pool/.test(each.output()));
    expect(leading).toHaveLength(1);
    return leading[0]!; // There is exactly one.
  });
  await leader.kill9();
  const after = await eventually(() => leaderOf("late"));
  expect(after.term).toBe(before.term + 1);
  expect(after.id).not.toBe(before.id);
  expect(await ask("remuda.lease.late")).toMatchObject({ password: "secret", proxyId: lease["proxyId"] });
  expect(await ask("remuda.lease.late")).toMatchObject({ code: "pool-exhausted", limitedBy: { rate: 1 } });
});

test("replaces a leader that hangs, and the old leader stays silent when it resumes", async () => {
  const first = await startPicker();
  await ask("remuda.pool.open.hung");
  await ask("remuda.proxies.add.hung", { proxies: ["127.0.0.2:8080"] });
  const before = await leaderOf("hung");
  await startPicker();
  const heard: string[] = [];
  const answers = new Map<string, number>();
  nats.subscribe("remuda.notice.hung", ({ body }) => heard.push(body));
  nats.subscribe("_INBOX.hung.*", ({ subject }) => {
    heard.push(subject);
    answers.set(subject, (answers.get(subject) ?? 0) + 1);
  });
  first.child.kill("SIGSTOP");
  let asked = 0;
  const askHung = (): void => {
    for (const verb of ["lease", "leases.list", "renew"])
      nats.publish(`remuda.${verb}.hung`, '{"leaseId":"l_0000000000000000000000"}', {
        reply: `_INBOX.hung.${asked++}`,
      });
  };
  askHung();
  const after = await eventually(
    async () => {
      const leader = await leaderOf("hung");
      expect(leader.id).not.toBe(before.id);
      return leader;
    },
    { timeoutMs: 40_000 },
  );
  expect(after.term).toBe(before.term + 1);
  // The new leader says that it leads before it says anything else.
  expect(heard).toEqual([JSON.stringify({ leader: after.id, term: after.term })]);
  askHung();
  first.child.kill("SIGCONT");
  await eventually(async () => expect(await ask("remuda.lease.hung")).toHaveProperty("leaseId"));
  expect((await eventually(() => leaderOf("hung"))).term).toBe(after.term);
  // Each request that the new leader got has one answer. The old leader has answered none.
  await eventually(() => expect([...answers.values()]).toEqual([1, 1, 1]));
  expect([...answers.keys()].sort()).toEqual([3, 4, 5].map((n) => `_INBOX.hung.${n}`));
});

test("a picker with another installation's key refuses to start beside pools of this one", async () => {
  await startPicker();
  await ask("remuda.pool.open.mine");
  const strange = join(folder, "strange");
  await expect(startPicker(strange)).rejects.toThrow(/another installation's key/);
});
