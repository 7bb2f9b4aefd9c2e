// The life of a pool as an actor, without a broker. The test performs its steps and decides when each of them ends.
import { expect, onTestFinished, test, vi } from "vitest";
import { createActor, fromPromise } from "xstate";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { Defects } from "../../runtime/defects.ts";
import { Fault } from "../../runtime/fault.ts";
import { openLog } from "../../runtime/log.ts";
import { phaseOf } from "../../services/picker/phase.ts";
import { Phases } from "../../services/picker/phases.ts";
import { poolMachine } from "../../services/picker/pool-life.ts";
import type { Served } from "../../services/picker/serving.ts";

type Answer = { opened?: string; refused?: Refusal; passedOn?: string; code?: string; message?: string };

/** A pool whose ledger holds `commits`, and a life of it whose steps end when the test says so. */
function live({
  commits = 0,
  isOpen = commits > 0,
  follows = false,
}: {
  commits?: number;
  isOpen?: boolean;
  follows?: boolean;
} = {}) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const said: string[] = [];
  const steps: Record<string, { end: (output?: unknown) => void; fail: (why: unknown) => void; isCut: () => boolean }> =
    {};
  /** A step that ends when the test says so, with the given output. */
  const step = (name: string) =>
    fromPromise(({ signal }) => {
      said.push(name);
      return new Promise((end, fail) => {
        steps[name] = { end, fail, isCut: () => signal.aborted };
      });
    }) as never;
  const served = {
    leader: {
      state: { opened: isOpen, term: 4, cursor: { seq: 0 } },
      last: { seq: commits, n: commits, hash: "" },
      stop: () => said.push("stop"),
    },
    requests: {
      refusalToOpen: (body: unknown) => (body === "bad" ? refuse("invalid-request", "bad") : undefined),
      open: (body: string, respond: (answer: object) => void) => respond({ opened: body }),
    },
    ledger: { close: () => {} },
    gate: { end: () => {} },
    keeper: { start: () => {}, end: async () => {} },
    subscriptions: [],
  } as unknown as Served;
  const peers = {
    ask: async (_pool: string, { body }: { body: string }) => ({ passedOn: body }),
    answer: () => ({ unsubscribe: () => said.push("silent") }),
    follows: () => follows,
  };
  const logged: object[] = [];
  const write = (line: string): void => void logged.push(JSON.parse(line));
  const log = openLog({ level: "error", version: "0", isTerminal: false, write, monotonic: Date.now })("picker");
  const defects = new Defects(log);
  const picker = { peers, defects, options: { log, buses: { ledger: { up: true } } } } as never;
  const actors = {
    isLed: step("isLed"),
    fold: step("fold"),
    inherit: step("inherit"),
    follow: step("follow"),
    confirm: step("confirm"),
    claim: step("claim"),
    serve: step("serve"),
    lastSequence: step("lastSequence"),
  };
  const actor = createActor(poolMachine.provide({ actors }), { input: { pool: "shop", picker } }).start();
  return {
    actor,
    said,
    logged,
    defects,
    served,
    state: () => actor.getSnapshot().value,
    step: (name: string) => steps[name]!,
    /** Ends the pool's current step. */
    async end(name: string, output?: unknown): Promise<void> {
      steps[name]!.end(output);
      await vi.advanceTimersByTimeAsync(0);
    },
    async fail(name: string, why: unknown): Promise<void> {
      steps[name]!.fail(why);
      await vi.advanceTimersByTimeAsync(0);
    },
    open(body: string): Answer[] {
      const answers: Answer[] = [];
      const respond = (answer: object) => void answers.push(answer as Answer);
      actor.send({ type: "open", opener: { body, respond, who: { role: "admin" } } });
      return answers;
    },
    async lead(): Promise<void> {
      if (actor.getSnapshot().value === "unknown") actor.send({ type: "lead" });
      await this.end("isLed", false);
      await this.end("fold", served);
      if (said.at(-1) === "confirm") await this.end("confirm", false);
    },
    async serve(): Promise<void> {
      actor.send({ type: "claimed" });
      actor.send({ type: "caughtUp" });
      await this.end("serve");
    },
  };
}

test("folds, claims, catches up and serves an open pool without a leader, in this order", async () => {
  const life = live({ commits: 3 });
  await life.lead();
  expect(life.state()).toEqual({ held: "claiming" });
  await life.serve();
  expect(life.state()).toEqual({ held: "leading" });
  expect(life.said).toEqual(["isLed", "fold", "confirm", "claim", "serve"]);
});

test("stands by for a pool that another picker leads, and claims it when no leader answers", async () => {
  const life = live({ commits: 3 });
  life.actor.send({ type: "lead" });
  await life.end("isLed", true);
  expect(life.state()).toBe("standingBy");
  await vi.advanceTimersByTimeAsync(600);
  await life.end("isLed", true);
  await vi.advanceTimersByTimeAsync(600);
  await life.lead();
  expect(life.state()).toEqual({ held: "claiming" });
});

test("lets a fenced leader go, and stands by for its pool", async () => {
  const life = live({ commits: 3 });
  await life.lead();
  await life.serve();
  life.actor.send({ type: "fenced" });
  expect(life.state()).toBe("standingBy");
  expect(life.said.slice(-2)).toEqual(["silent", "stop"]);
  expect(life.actor.getSnapshot().context.served).toBeUndefined();
});

test("lets a leader go when another one leads under a higher term, and for no other notice", async () => {
  const life = live({ commits: 3 });
  life.actor.send({ type: "noticed", term: 9 });
  await life.lead();
  await life.serve();
  for (const term of [3, 4]) life.actor.send({ type: "noticed", term });
  expect(life.state()).toEqual({ held: "leading" });
  life.actor.send({ type: "noticed", term: 5 });
  expect(life.state()).toBe("standingBy");
  expect(life.said.slice(-2)).toEqual(["silent", "stop"]);
});

test("does not serve a pool that is lost while it is made ready: what was begun is cut off", async () => {
  const life = live({ commits: 3 });
  await life.lead();
  life.actor.send({ type: "claimed" });
  life.actor.send({ type: "caughtUp" });
  const serving = life.step("serve");
  life.actor.send({ type: "fenced" });
  expect(serving.isCut()).toBe(true);
  await life.end("serve");
  expect(life.state()).toBe("standingBy");
});

test("does not claim a pool that another picker has come to lead while its ledger was folded", async () => {
  const life = live({ commits: 3 });
  life.actor.send({ type: "lead" });
  await life.end("isLed", false);
  await life.end("fold", life.served);
  await life.end("confirm", true);
  expect(life.state()).toBe("standingBy");
  expect(life.said).toEqual(["isLed", "fold", "confirm", "stop"]);
});

test("follows a pool that another picker leads, and claims it without asking when it has no leader any more", async () => {
  const life = live({ commits: 3, follows: true });
  life.actor.send({ type: "lead" });
  await life.end("isLed", true);
  expect(life.state()).toBe("following");
  expect(life.actor.getSnapshot().hasTag("settled")).toBe(true);
  const answers = life.open("again");
  await vi.advanceTimersByTimeAsync(10_000);
  expect(answers).toEqual([{ passedOn: "again" }]);
  life.actor.send({ type: "noticed", term: 5 });
  expect(life.state()).toBe("following");
  await life.end("follow", { ...life.served, handed: [] });
  expect(life.state()).toEqual({ held: "claiming" });
  await life.serve();
  expect(life.said).toEqual(["isLed", "follow", "claim", "serve"]);
});

test("stands by for a pool that other pickers follow", async () => {
  const life = live({ commits: 3, follows: true });
  life.actor.send({ type: "lead" });
  await life.end("isLed", true);
  await life.end("follow", undefined);
  expect(life.state()).toBe("standingBy");
});

test("tells its follower when the leader of the pool leaves", async () => {
  const life = live({ commits: 3, follows: true });
  life.actor.send({ type: "lead" });
  await life.end("isLed", true);
  const leaving = vi.spyOn(life.actor.getSnapshot().context.follower, "leaving");
  const successor = {} as never;
  life.actor.send({ type: "leaving", successor });
  expect(leaving).toHaveBeenCalledWith(successor);
  expect(life.state()).toBe("following");
});

test("succeeds a leader that leaves before it was followed: folds at once, and claims without asking", async () => {
  const life = live({ commits: 3, follows: true });
  life.actor.send({ type: "lead" });
  life.actor.send({ type: "leaving", successor: {} as never });
  expect(life.state()).toBe("inheriting");
  expect(phaseOf(life.actor.getSnapshot())).toMatchObject({ name: "getting it from its leader" });
  const opened = life.open("again");
  await life.end("inherit", { ...life.served, handed: [] });
  expect(life.state()).toEqual({ held: "claiming" });
  await life.serve();
  expect(life.said).toEqual(["isLed", "inherit", "claim", "serve"]);
  expect(opened).toEqual([{ opened: "again" }]);
});

test("asks before it claims if the leader that it should succeed has died", async () => {
  const life = live({ commits: 3, follows: true });
  life.actor.send({ type: "lead" });
  life.actor.send({ type: "leaving", successor: {} as never });
  await life.end("inherit", life.served);
  expect(life.state()).toEqual({ held: "confirming" });
});

test("stands by when another picker succeeds the leader, or leads the pool already", async () => {
  const life = live({ commits: 3, follows: true });
  life.actor.send({ type: "lead" });
  life.actor.send({ type: "leaving", successor: {} as never });
  await life.end("inherit", undefined);
  expect(life.state()).toBe("standingBy");
  life.actor.send({ type: "leaving", successor: {} as never });
  const inheriting = life.step("inherit");
  life.actor.send({ type: "noticed", term: 5 });
  expect(life.state()).toBe("standingBy");
  expect(inheriting.isCut()).toBe(true);
});

test("succeeds no leader of a pool that other pickers follow", async () => {
  const life = live({ commits: 3 });
  life.actor.send({ type: "lead" });
  life.actor.send({ type: "leaving", successor: {} as never });
  expect(life.state()).toBe("asking");
});

test("passes on a request to open a pool whose leader is fenced before it has answered", async () => {
  const life = live({ commits: 3 });
  await life.lead();
  await life.serve();
  life.served.requests.open = () => {}; // Its turn is not stored.
  const answers = life.open("again");
  life.actor.send({ type: "fenced" });
  await vi.advanceTimersByTimeAsync(0);
  expect(answers).toEqual([{ passedOn: "again" }]);
});

test("answers requests to open a new pool once it is served, and not before", async () => {
  const life = live();
  const first = life.open("first");
  const second = life.open("second");
  await life.lead();
  const third = life.open("third");
  expect(life.state()).toEqual({ held: "claiming" });
  expect([first, second, third]).toEqual([[], [], []]);
  await life.serve();
  expect([first, second, third]).toEqual([[{ opened: "first" }], [{ opened: "second" }], [{ opened: "third" }]]);
  expect(life.open("fourth")).toEqual([{ opened: "fourth" }]);
});

test("refuses a request that cannot open a pool, and begins no ledger", async () => {
  const life = live();
  const answers = life.open("bad");
  await life.lead();
  expect(answers).toMatchObject([{ code: "invalid-request" }]);
  expect(life.said).toEqual(["isLed", "fold", "stop"]);
  expect(life.actor.getSnapshot()).toMatchObject({ value: "forgotten", status: "done" });
});

test("refuses an invalid request beside a valid one at once, even while the pool is claimed", async () => {
  const life = live();
  const [valid, invalid] = [life.open("good"), life.open("bad")];
  await life.lead();
  expect(invalid).toMatchObject([{ code: "invalid-request" }]);
  expect(life.open("bad")).toMatchObject([{ code: "invalid-request" }]);
  await life.serve();
  expect(valid).toEqual([{ opened: "good" }]);
  expect(invalid).toHaveLength(1);
});

test("passes on requests to open a pool that another picker leads, or claims first", async () => {
  const life = live();
  const led = life.open("led");
  await life.end("isLed", true);
  expect(led).toEqual([{ passedOn: "led" }]);
  const late = life.open("late");
  await life.lead();
  life.actor.send({ type: "fenced" });
  await vi.advanceTimersByTimeAsync(0);
  expect(late).toEqual([{ passedOn: "late" }]);
});

test("retries after a transient fault, and tells callers that wanted to open the pool why", async () => {
  const life = live({ commits: 3 });
  const answers = life.open("first");
  await life.fail("isLed", new Fault("retry-later", "NATS is away."));
  expect(answers).toMatchObject([{ code: "unavailable", message: "NATS is away.", retryAfterMs: 1000 }]);
  expect(life.state()).toBe("standingBy");
  await vi.advanceTimersByTimeAsync(600);
  await life.lead();
  await life.fail("claim", new Error("an unexpected answer"));
  expect(life.state()).toBe("standingBy");
  expect(life.said.at(-1)).toBe("stop");
});

test("retries after longer and longer pauses, up to ten seconds, and logs the same error once a minute", async () => {
  const life = live({ commits: 3 });
  life.actor.send({ type: "lead" });
  const pauses: number[] = [];
  for (let attempt = 0; attempt < 8; attempt++) {
    await life.fail("isLed", new Fault("retry-later", "The ledger cannot be read: no consumer is left"));
    const from = Date.now();
    while (life.state() === "standingBy") await vi.advanceTimersByTimeAsync(50);
    pauses.push(Date.now() - from);
  }
  expect(pauses[0]).toBeLessThanOrEqual(650);
  for (const [i, ms] of [600, 1200, 2400].entries()) expect(pauses[i + 1]).toBeGreaterThanOrEqual(ms);
  expect(Math.max(...pauses)).toBeLessThanOrEqual(9700);
  const total = pauses.reduce((sum, ms) => sum + ms, 0);
  expect(life.logged).toHaveLength(1);
  expect(total).toBeLessThan(60_000);
  vi.setSystemTime(Date.now() + 60_000);
  await life.fail("isLed", new Fault("retry-later", "The ledger cannot be read: no consumer is left"));
  expect(life.logged[1]).toMatchObject({ pool: "shop", repeated: 7, msg: expect.stringContaining("cannot be read") });
});

test("gives up a pool whose ledger is damaged, and tries again only when it is to be opened", async () => {
  const life = live({ commits: 3 });
  life.actor.send({ type: "lead" });
  await life.end("isLed", false);
  await life.fail("fold", new Fault("stop-damaged", "The ledger is damaged."));
  expect(life.state()).toBe("broken");
  expect(life.actor.getSnapshot().context.fault?.code).toBe("stop-damaged");
  life.actor.send({ type: "seen", messages: 9 });
  await vi.advanceTimersByTimeAsync(10_000);
  expect(life.said).toEqual(["isLed", "fold"]);
  life.open("again");
  expect(life.state()).toBe("asking");
});

test("gives up a pool whose leader has found a bug", async () => {
  const life = live({ commits: 3 });
  await life.lead();
  await life.serve();
  life.actor.send({ type: "broke", error: new Fault("stop-damaged", "The pool is no longer served.") });
  expect(life.state()).toBe("broken");
  expect(life.said.at(-1)).toBe("stop");
});

test("restarts a leader that a command made fail, with growing pauses, and names the command and the bug once", async () => {
  const life = live({ commits: 3 });
  await life.lead();
  await life.serve();
  const error = new Fault("stop-damaged", "The pool is no longer served.");
  const defect = new TypeError("planted");
  const leftOut = { command: "lease", requestId: "a-request-0000000001" };
  for (const pauseMs of [100, 200, 400]) {
    life.actor.send({ type: "broke", error, defect, leftOut });
    expect(life.state()).toBe("failed");
    expect(life.actor.getSnapshot().hasTag("unusable")).toBe(false);
    await vi.advanceTimersByTimeAsync(pauseMs - 1);
    expect(life.state()).toBe("failed");
    await vi.advanceTimersByTimeAsync(1);
    expect(life.state()).toBe("asking");
    await life.lead();
    await life.serve();
  }
  expect(life.state()).toEqual({ held: "leading" });
  expect(life.defects.counts).toEqual({ pool: 3 });
  expect(life.logged).toMatchObject([
    { part: "pool", pool: "shop", ...leftOut, err: { message: "planted", stack: expect.stringContaining("test.ts") } },
    { part: "pool", why: "planted" },
  ]);
  expect(life.logged[1]).not.toHaveProperty("err");
});

test("reports a pool that fails without a command as unusable, and tries it again", async () => {
  const life = live({ commits: 3 });
  await life.lead();
  await life.serve();
  const error = new Fault("stop-damaged", "The pool is no longer served.");
  life.actor.send({ type: "broke", error, defect: new TypeError("planted") });
  expect(life.actor.getSnapshot().hasTag("unusable")).toBe(true);
  await vi.advanceTimersByTimeAsync(100);
  expect(life.state()).toBe("asking");
  await life.lead();
  await life.serve();
  expect(life.state()).toEqual({ held: "leading" });
});

test("asks the next leader to open the pool when the first one failed before it answered", async () => {
  const life = live();
  const { open } = life.served.requests;
  life.served.requests.open = () => {};
  const answers = life.open("first");
  await life.lead();
  const error = new Fault("stop-damaged", "The pool is no longer served.");
  life.actor.send({ type: "broke", error, defect: new TypeError("planted"), leftOut: { command: "lease" } });
  life.served.requests.open = open;
  await vi.advanceTimersByTimeAsync(100);
  await life.lead();
  await life.serve();
  expect(answers).toEqual([{ opened: "first" }]);
});

test("checks a closed pool when its ledger has grown, and stands by when another picker has opened it", async () => {
  const life = live({ commits: 3, isOpen: false });
  await life.lead();
  expect(life.state()).toBe("closed");
  life.actor.send({ type: "seen", messages: 3 });
  await life.end("lastSequence", 3);
  expect(life.state()).toBe("closed");
  life.actor.send({ type: "seen", messages: 3 });
  expect(life.state()).toBe("closed");
  life.actor.send({ type: "seen", messages: 4 });
  await life.fail("lastSequence", new Error("the broker is away"));
  expect(life.state()).toBe("closed");
  life.actor.send({ type: "seen", messages: 4 });
  await life.end("lastSequence", 4);
  expect(life.state()).toBe("standingBy");
});

test("becomes silent when it is stopped in any state", async () => {
  const life = live({ commits: 3 });
  await life.lead();
  await life.serve();
  life.actor.send({ type: "stop" });
  expect(life.actor.getSnapshot().status).toBe("done");
  expect(life.said.slice(-2)).toEqual(["silent", "stop"]);
  const waiting = live({ commits: 3 });
  waiting.actor.send({ type: "seen", messages: 3 });
  waiting.actor.send({ type: "stop" });
  await vi.advanceTimersByTimeAsync(10_000);
  expect(waiting.said).toEqual([]);
});

test("names the phase of a pool that is not led yet, and gives it up when it is late", async () => {
  const life = live({ commits: 3 });
  const phase = () => phaseOf(life.actor.getSnapshot());
  expect(phase()).toBeUndefined();
  const answers = life.open("first");
  expect(phase()).toMatchObject({ name: "asking for its leader", progress: "0 0" });
  await life.end("isLed", false);
  expect(phase()).toEqual({ name: "reading its ledger", progress: undefined });
  await life.end("fold", life.served);
  expect(phase()).toMatchObject({ name: "asking again for its leader", progress: "3 0" });
  await life.end("confirm", false);
  expect(phase()).toMatchObject({ name: "claiming its ledger", progress: "3 0" });
  const claiming = life.step("claim");
  life.actor.send({ type: "late", error: new Fault("retry-later", "The pool shop is not led.") });
  expect(life.state()).toBe("standingBy");
  expect(claiming.isCut()).toBe(true);
  expect(life.said.at(-1)).toBe("stop");
  expect(answers).toMatchObject([{ code: "unavailable", message: "The pool shop is not led." }]);
  expect(life.logged).toHaveLength(1);
  expect(phase()).toBeUndefined();
});

test("logs a phase that lasts every ten seconds, and gives up one without progress after thirty", () => {
  const phases = new Phases();
  const said: string[] = [];
  const looks = (progress: (s: number) => string | undefined, name = "claiming its ledger"): number | undefined => {
    for (let s = 0; s <= 100; s += 2) {
      const { say, isLate } = phases.look("shop", { name, progress: progress(s) }, s * 1000);
      if (say !== undefined) said.push(say);
      if (isLate) return s;
    }
    return undefined;
  };
  expect(looks(() => "same")).toBe(30);
  expect(said).toEqual([
    "the pool is not led yet: claiming its ledger for 10 s",
    "the pool is not led yet: claiming its ledger for 20 s",
    "the pool is not led after 30 s of claiming its ledger without progress; trying again",
  ]);
  expect(looks((s) => String(Math.min(s, 40)))).toBe(70);
  expect(looks(() => undefined, "reading its ledger")).toBeUndefined();
  expect(phases.look("shop", undefined, 200_000)).toEqual({ isLate: false });
});
