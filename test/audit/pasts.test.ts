// How many questions about the past are answered at the same time.
import { expect, test } from "vitest";
import type { Past } from "../../services/audit/history.ts";
import type { Moment } from "../../services/audit/moment.ts";
import { Pasts, Turns } from "../../services/audit/pasts.ts";
import { PoolState } from "../../state-machines/fold/state.ts";

const past = (sequence: number): Past => ({
  state: new PoolState("shop"),
  mark: { n: sequence, sequence, hash: "", at: 0 },
});

/** Folds end when the test says so. */
function pasts() {
  const ends: (() => void)[] = [];
  const folded: string[] = [];
  const turns = new Turns();
  const ports = {
    turns,
    keptMax: 2,
    isCurrent: () => false,
    async fold(pool: string, moment: Moment) {
      folded.push(pool);
      await new Promise<void>((resolve) => ends.push(resolve));
      return past("sequence" in moment ? moment.sequence : 0);
    },
  };
  return { pasts: new Pasts(ports), others: new Pasts(ports), ends, folded };
}

test("folds at most four moments of one user at the same time, and sixteen of all", async () => {
  const { pasts: states, ends, folded } = pasts();
  const begun = [1, 2, 3, 4].map((sequence) => states.at("shop", { sequence }, "ann"));
  expect(await states.at("shop", { sequence: 5 }, "ann")).toEqual({
    code: "overloaded",
    message: "4 moments are being folded for this user already. Retry later.",
    retryAfterMs: 2000,
  });
  const joined = states.at("shop", { sequence: 4 }, "ann");
  for (let i = 0; i < 12; i++) void states.at(`pool-${i}`, { sequence: 1 }, `user-${i}`);
  expect(await states.at("shop", { sequence: 5 }, "bob")).toMatchObject({
    code: "overloaded",
    message: "16 moments are being folded already. Retry later.",
  });
  // One after the other.
  for (let i = 1; i <= 4; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    expect(folded).toHaveLength(i);
    ends[i - 1]?.();
  }
  expect(await Promise.all([...begun, joined])).toMatchObject([1, 2, 3, 4, 4].map((n) => ({ mark: { n } })));
  void states.at("shop", { sequence: 5 }, "ann");
  await new Promise((resolve) => setImmediate(resolve));
  expect(folded).toHaveLength(5);
});

test("folds one moment at a time, whether a state or a story is made of it", async () => {
  const { pasts: states, others, ends, folded } = pasts();
  const both = [states.at("shop", { sequence: 1 }, "ann"), others.at("market", { sequence: 1 }, "bob")];
  await new Promise((resolve) => setImmediate(resolve));
  expect(folded).toEqual(["shop"]);
  ends[0]?.();
  await new Promise((resolve) => setImmediate(resolve));
  expect(folded).toEqual(["shop", "market"]);
  ends[1]?.();
  await Promise.all(both);
});

test("folds again when the answer that is kept is no longer right", async () => {
  let isRight = true;
  let folds = 0;
  const fold = async (): Promise<number> => ++folds;
  const states = new Pasts({ turns: new Turns(), keptMax: 2, isCurrent: () => isRight, fold });
  const ask = () => states.at("shop", { at: 1 }, "ann");
  expect([await ask(), await ask()]).toEqual([1, 1]);
  isRight = false;
  expect(await ask()).toBe(2);
});

test("lets at most 25 pages of one user wait, and a hundred of all", async () => {
  const { pasts: states } = pasts();
  let end = (): void => {};
  const until = new Promise<void>((resolve) => {
    end = resolve;
  });
  const fill = async (): Promise<string> => {
    await until;
    return "page";
  };
  const pages = Array.from({ length: 25 }, () => states.inTurn(fill, "ann"));
  expect(await states.inTurn(fill, "ann")).toMatchObject({ code: "overloaded" });
  for (let i = 0; i < 75; i++) pages.push(states.inTurn(fill, `user-${i}`));
  expect(await states.inTurn(fill, "bob")).toMatchObject({
    code: "overloaded",
    message: "100 pages are being filled already. Retry later.",
  });
  end();
  expect(await Promise.all(pages)).toEqual(Array(100).fill("page"));
  expect(await states.inTurn(fill, "ann")).toBe("page");
});
