// Ten questions to a ledger, and the stories that answer them: test/audit/explain/*.txt, for a person to read. After a
// change of words, `REMUDA_WRITE_TRANSCRIPTS=1 npx vitest run test/audit/explain.test.ts` writes them again. Read the
// difference.
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { isRefusal } from "../../protocol/refusal.ts";
import { explainLease, explainMoment, explainProxy } from "../../services/audit/explain/explain.ts";
import { trailOf } from "../../services/audit/explain/trail.ts";
import { verify } from "../../services/audit/verify.ts";
import { sourceOf } from "./ledgers.ts";
import { proxyId, Script } from "./scripted.ts";

const start = "2026-01-31T14:00:00.000Z";
const at = (time: string) => ({ at: Date.parse(`2026-01-31T${time}Z`) });
const success = { status: 200, latencyMs: 120 };
const timeout = { error: "ETIMEDOUT" };
const quiet = { backoff: { kind: "none" } };

/** A lease of any proxy, with one outcome for each of its uses. */
function work(script: Script, outcome: Record<string, unknown>, uses = 1): string {
  const id = script.lease({ uses });
  for (let n = 1; n <= uses; n++) {
    script.pass(200);
    script.report(id, { n, ...outcome });
  }
  return id;
}

interface Scenario {
  question: string;
  play: () => { script: Script; about: string; at?: { at: number }; forMs?: number };
}

const scenarios: Record<string, Scenario> = {
  backoff: {
    question: "why was this proxy resting at 14:00:05?",
    play() {
      const script = new Script(start, {}, 1);
      work(script, success);
      for (let i = 0; i < 2; i++) {
        work(script, timeout);
        script.pass(4000);
      }
      return { script, about: proxyId(1), at: at("14:00:05") };
    },
  },
  failures: {
    question: "why was this proxy resting for ten minutes?",
    play() {
      const script = new Script(start, { ...quiet, failures: { limit: 2, windowMs: 300_000, restMs: 600_000 } }, 1);
      for (let i = 0; i < 3; i++) {
        work(script, timeout);
        script.pass(2000);
      }
      return { script, about: proxyId(1), at: at("14:03:00") };
    },
  },
  streak: {
    question: "why was this proxy resting after it was blocked?",
    play() {
      const script = new Script(
        start,
        { ...quiet, failures: null, streak: { limit: 3, restMs: 60_000, retireAfter: null } },
        1,
      );
      for (let i = 0; i < 4; i++) work(script, { status: 403 });
      return { script, about: proxyId(1), at: at("14:00:30") };
    },
  },
  usage: {
    question: "why was this proxy resting, though every use succeeded?",
    play() {
      const script = new Script(start, { usage: { limit: 4, restMs: 900_000 } }, 1);
      for (let i = 0; i < 4; i++) work(script, success);
      return { script, about: proxyId(1), at: at("14:03:00") };
    },
  },
  throttle: {
    question: "why did this proxy rest for so long after a single 429?",
    play() {
      const script = new Script(start, {}, 1);
      work(script, { status: 429, retryAfterMs: 240_000 });
      script.pass(300_000);
      return { script, about: proxyId(1), at: at("14:03:00") };
    },
  },
  manual: {
    question: "why was this proxy taken out at 14:03?",
    play() {
      const script = new Script(start, {}, 2);
      script.pass(60_000);
      script.rest(2, 600_000, "the vendor is moving it");
      return { script, about: proxyId(2), at: at("14:03:00") };
    },
  },
  limits: {
    question: "why was this proxy not leased, though it was not resting?",
    play() {
      const script = new Script(start, { rate: { limit: 3, windowMs: 60_000 }, concurrency: 1 }, 1);
      work(script, success, 2);
      script.lease();
      return { script, about: proxyId(1), at: at("14:00:10") };
    },
  },
  none: {
    question: "why was no proxy granted at 14:00:20?",
    play() {
      const script = new Script(start, { rate: { limit: 2, windowMs: 60_000 }, concurrency: 1 }, 4);
      script.rest(4, 600_000, "maintenance");
      for (let i = 0; i < 2; i++) work(script, success);
      work(script, { status: 403 });
      script.lease({ uses: 2 });
      script.lease({ uses: 2 });
      script.pass(20_000 - 600);
      script.lease({ holder: "worker-7" });
      script.pass(300_000);
      script.lease();
      return { script, about: "moment", at: at("14:00:20") };
    },
  },
  minute: {
    question: "why was no proxy granted at 14:03?",
    play() {
      const script = new Script(
        start,
        { rate: { limit: 2, windowMs: 60_000 }, usage: { limit: 4, restMs: 900_000 } },
        4,
      );
      script.pass(165_000);
      script.lease({ uses: 2 });
      for (let i = 0; i < 2; i++) work(script, success, 2);
      script.pass(22_000);
      script.claim("picker-2");
      script.lease({ labels: { country: "DE" }, exclude: [proxyId(3)], holder: "worker-7" });
      script.pass(5000);
      script.lease({ labels: { country: "JP" } });
      script.pass(400);
      script.lease({ uses: 2, minUses: 2, labels: { country: "FR" } });
      script.lease({ session: "basket-1" });
      script.pass(90_000);
      return { script, about: "moment", at: at("14:03:00"), forMs: 60_000 };
    },
  },
  closed: {
    question: "why was no proxy granted in the afternoon?",
    play() {
      const script = new Script(start, {}, 2);
      work(script, success);
      script.pass(60_000);
      script.do({ type: "close", drain: false });
      return { script, about: "moment", at: at("15:00:00"), forMs: 60_000 };
    },
  },
  again: {
    question: "why did this proxy rest a second time?",
    play() {
      const script = new Script(start, { ...quiet, failures: { limit: 1, windowMs: 300_000, restMs: 10_000 } }, 1);
      for (let i = 0; i < 4; i++) {
        work(script, timeout);
        script.pass(12_000);
      }
      return { script, about: proxyId(1), at: at("14:00:40") };
    },
  },
  lease: {
    question: "why this proxy for this lease?",
    play() {
      const script = new Script(start, {}, 5);
      for (let i = 0; i < 5; i++) work(script, success);
      script.rest(1, 60_000, "a look at it");
      work(script, timeout);
      work(script, success);
      const id = script.lease({ labels: { country: "DE" }, uses: 3, holder: "worker-1" });
      script.pass(300);
      script.report(id, { n: 1, ...success });
      script.pass(300);
      script.release(id, 1);
      return { script, about: id };
    },
  },
  session: {
    question: "why did this lease get a proxy with a lower score than others?",
    play() {
      const script = new Script(start, {}, 3);
      const first = script.lease({ session: "basket-1" });
      script.pass(100);
      script.report(first, { status: 503 });
      for (let i = 0; i < 4; i++) work(script, success);
      const id = script.lease({ session: "basket-1", requestId: "4b1f4a70-0000-4000-8000-000000000001" });
      script.pass(92_000);
      return { script, about: id };
    },
  },
  random: {
    question: "why this proxy, where the strategy draws lots?",
    play() {
      const script = new Script(start, { strategy: { kind: "random" } }, 4);
      work(script, success);
      const id = work(script, success);
      return { script, about: id };
    },
  },
  retired: {
    question: "where is this proxy?",
    play() {
      const script = new Script(start, {}, 2);
      work(script, success);
      script.pass(60_000);
      script.retire(1, "gone from the vendor's list");
      return { script, about: proxyId(1), at: at("14:30:00") };
    },
  },
};

describe("the story of", () => {
  test.each(Object.keys(scenarios))("%s matches its transcript", async (name) => {
    const { question, play } = scenarios[name]!; // One of its keys.
    const { script, about, at: when, forMs } = play();
    const source = sourceOf(script.commits);
    expect((await verify(source, {})).findings).toEqual([]);
    const told = about.startsWith("p_")
      ? await explainProxy(source, about, { at: when })
      : about.startsWith("l_")
        ? await explainLease(source, about, {})
        : await explainMoment(source, when!, { forMs });
    if (isRefusal(told)) throw new Error(told.message);
    const transcript = `${question}\n\n${told.story.join("\n")}\n`;
    const file = new URL(`./explain/${name}.txt`, import.meta.url);
    if (process.env["REMUDA_WRITE_TRANSCRIPTS"] === "1") writeFileSync(file, transcript);
    expect(transcript).toBe(readFileSync(file, "utf8"));
  });
});

test("keeps the whole commits of few steps, because thousands of steps are kept", async () => {
  const { script, about } = scenarios["backoff"]?.play() ?? {};
  const source = sourceOf(script?.commits ?? []);
  const { before } = await trailOf(source, about ?? "", { to: undefined });
  const kept = before.filter(({ commit }) => commit !== undefined).map(({ event }) => event.type);
  expect([before.length > 2 * kept.length, kept]).toEqual([true, ["RestBegan", "RestBegan"]]);
});

test("refuses a name that is not in the ledger with its code", async () => {
  const source = sourceOf(new Script(start, {}, 1).commits);
  expect(await explainProxy(source, "p_nobody", {})).toMatchObject({ code: "unknown-proxy" });
  expect(await explainLease(source, "l_nobody", {})).toMatchObject({ code: "unknown-lease" });
});
