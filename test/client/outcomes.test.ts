// The table of docs/outcomes.md with the client's own `fetch`.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Client } from "../../client/client.ts";
import { transports } from "../docs/classification.ts";
import { type Answer, ClassifiedTargets, cases, type Init, rows } from "./classified.ts";

let targets: ClassifiedTargets;

beforeAll(async () => {
  targets = await ClassifiedTargets.start();
});
afterAll(() => targets?.stop());

async function send(client: Client, url: string, init?: Init): Promise<Answer> {
  const response = await client.fetch(url, init);
  return { status: response.status, text: () => response.text(), cancel: () => response.body?.cancel() };
}

test("has a case for each row, and a row for each case", () => {
  expect(new Set(rows.map(({ what }) => what))).toEqual(new Set(Object.keys(cases)));
  expect(rows.length).toBeGreaterThan(90);
});

// Most of them wait for a time limit, so two run at once.
describe.concurrent.each(transports)("over %s", (transport) => {
  test.for(rows.filter((row) => row.transport === transport))("$phase: $what: $class, then $next", (row, { expect }) =>
    targets.check(row, send, expect),
  );
});
