// The service classifies as clients/classification.json says. Every client tests itself against the same file.
import { expect, test } from "vitest";
import { defaultPolicy } from "../../events/policy.ts";
import { reasons } from "../../events/words.ts";
import { classify } from "../../state-machines/policy/classify.ts";
import { classificationText, readClassification } from "../docs/classification.ts";

const root = new URL("../../", import.meta.url).pathname;
const { status, statusOtherwise, error, errorOtherwise, cases, ...told } = readClassification(root);

test("classifies every status as the fixture says: its own line, its hundred, or otherwise", () => {
  for (let each = 100; each <= 999; each++) {
    const expected = status[String(each)] ?? status[`${Math.floor(each / 100)}xx`] ?? statusOtherwise;
    expect([each, classify(defaultPolicy, { status: each })]).toEqual([each, expected]);
  }
});

test("classifies every error code as the fixture says, and unknown ones as the proxy's", () => {
  for (const [code, expected] of Object.entries(error))
    expect([code, classify(defaultPolicy, { error: code })]).toEqual([code, expected]);
  expect(classify(defaultPolicy, { error: "EWHATEVER" })).toBe(errorOtherwise);
});

test("a reason that a client names is the class", () => {
  expect(told.reasons).toEqual([...reasons]);
  for (const reason of reasons) expect(classify(defaultPolicy, { reason, status: 200 })).toBe(reason);
});

test("the fixture is generated from the code and has each row of docs/outcomes.md", () => {
  expect(JSON.parse(classificationText(root)).cases).toEqual(cases);
  expect(cases.length).toBe(34);
});
