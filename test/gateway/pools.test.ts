// When the gateway looks at the pools again, and how it hears of new leaders. The service is a stand-in.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Broken } from "../../client/port.ts";
import { defaultPolicy } from "../../events/policy.ts";
import { Pools } from "../../services/gateway/pools.ts";
import { portsOver } from "../../services/gateway/port.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Each listing takes 2 ms, and has the pool `of-<n>` for the host. */
function listed() {
  const state = { listings: 0 };
  const pools = new Pools(async () => {
    const nth = ++state.listings;
    await new Promise((resolve) => setTimeout(resolve, 2));
    return [{ pool: `of-${nth}`, policy: { ...defaultPolicy, hosts: ["example.com"] } }];
  });
  const poolNow = async (): Promise<string | undefined> => {
    let found: string | undefined;
    void pools.poolFor("example.com", undefined).then(({ pool }) => {
      found = pool;
    });
    await vi.advanceTimersByTimeAsync(0);
    return found;
  };
  return { state, pools, poolNow };
}

test("a busy gateway reads the next list before the present one is too old, so that no request waits", async () => {
  const { state, poolNow } = listed();
  expect(await poolNow()).toBeUndefined();
  await vi.advanceTimersByTimeAsync(2);
  for (let ms = 0; ms < 300; ms += 1) {
    expect(await poolNow()).toMatch(/^of-/);
    await vi.advanceTimersByTimeAsync(1);
  }
  expect(state.listings).toBeGreaterThan(10);
  expect(state.listings).toBeLessThan(30);
});

test("a list older than 25 ms, or from before a new leader, is not used", async () => {
  const { pools, poolNow } = listed();
  await poolNow();
  await vi.advanceTimersByTimeAsync(2);
  expect(await poolNow()).toBe("of-1");
  await vi.advanceTimersByTimeAsync(26);
  expect(await poolNow()).toBeUndefined();
  await vi.advanceTimersByTimeAsync(2);
  expect(await poolNow()).toBe("of-2");
  pools.forget();
  expect(await poolNow()).toBeUndefined();
});

test("a notice of a new leader ends the pool's unanswered requests, and is passed on", async () => {
  let notice = (_subject: string, _text: string): void => {};
  const nc = {
    subscribe(_subject: string, { callback }: { callback: (error: null, message: object) => void }) {
      notice = (subject, text) => callback(null, { subject, string: () => text });
    },
    request: () => new Promise(() => {}),
  };
  const whenDown = () => ({ promise: new Promise<never>(() => {}), cancel: () => {} });
  const ports = portsOver({ nc, up: true, whenDown } as unknown as Parameters<typeof portsOver>[0]);
  const port = ports.for("ann");
  const [told, changed] = [vi.fn(), vi.fn()];
  ports.onLeader(changed);
  const off = port.onNewLeader?.("web", told);
  const asked = port.attempt({ verb: "lease", pool: "web", body: {}, timeoutMs: 1000 });
  const other = vi.fn();
  port.attempt({ verb: "lease", pool: "other", body: {}, timeoutMs: 1000 }).then(other, other);
  notice("remuda.notice.web", '{"leader":"second","term":2}');
  const error = await asked.catch((cause: unknown) => cause);
  expect([error instanceof Broken, error]).toEqual([true, expect.objectContaining({ why: "new-leader" })]);
  off?.();
  for (const text of ['{"leader":"second","term":2}', '{"leader":"third","term":3}']) notice("remuda.notice.web", text);
  expect([told.mock.calls.length, changed.mock.calls.length, other.mock.calls.length]).toEqual([1, 2, 0]);
});
