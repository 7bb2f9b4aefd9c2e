// A verification ends whatever a ledger contains: malformed events are reported, and never trusted.
import { expect, test } from "vitest";
import type { z } from "zod";
import { type CommitEnvelope, decodeCommit } from "../../events/commit.ts";
import { type Event, eventSchemas } from "../../events/event.ts";
import { verify } from "../../services/audit/verify.ts";
import { seeded } from "../kit/seed.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";

const ledger = makeLedger(80, { chaos: 25, failures: 25, proxies: 4, names: true, refusals: true });
/** A worker's statement about a use, names, and reasons for a manual action: these cannot be checked. */
const unjudged =
  /\.(latencyMs|bytes|target|status|error|tokenId|note|reason|leader|keyFingerprint|pool|policy|host|port|scheme|username|labels|limits|ranked|request|limitedBy|count|code|why|retryAfterMs|final|proxyId|requestId|storedAt|until|exitUntil)\b/;

async function findingsIn(change: (commit: CommitEnvelope) => void, index = 40): Promise<string[]> {
  const { findings } = await verify(sourceOf(forge(ledger, index, change)), {});
  return findings.filter(({ n }) => n === index + 1).map(({ rule, what }) => `${rule}: ${what}`);
}

test("reports a missing or mistyped field where it is checked, and never stops the verification", async () => {
  const random = seeded(7);
  const values = [undefined, null, "x", -1, 1e300, 1.5, {}, [], true, "", 0, [null], { a: null }];
  let named = 0;
  for (let round = 0; round < 150; round++) {
    const index = random.int(0, 60);
    let path = "";
    let isSame = false;
    const forged = forge(ledger, index, ({ events }) => {
      let of = events as unknown as Record<string, unknown>;
      do {
        const key = random.pick(Object.keys(of));
        path += `.${key}`;
        const inner = of[key];
        if (random.chance(0.6) && typeof inner === "object" && inner !== null && Object.keys(inner).length > 0) {
          of = inner as Record<string, unknown>;
          continue;
        }
        const before = JSON.stringify(inner);
        const value = random.pick(values);
        if (value === undefined && !Array.isArray(of)) delete of[key];
        else of[key] = value ?? null;
        isSame = JSON.stringify(of[key]) === before;
        return;
      } while (path.length < 200);
    });
    const report = await verify(sourceOf(forged), {});
    if (report.isWell) expect(isSame || unjudged.test(path), `round ${round}: ${path}`).toBe(true);
    else named++;
  }
  expect(named).toBeGreaterThan(90);
});

test.each<[string, RegExp, (event: Record<string, unknown>) => void]>([
  [
    "a figure that is text",
    /^field: event \d+ of the commit \(LeaseGranted\) .* its uses must be a whole number, and is "1"$/,
    (event) => Object.assign(event, { uses: "1" }),
  ],
  ["a field that is missing", /^field: .* its request is missing$/, (event) => delete event["request"]],
  [
    "a request field that is not a lease request",
    /^field: .* its request must be a lease request, and is \{"labels":/,
    (event) => Object.assign(event, { request: { labels: [1] } }),
  ],
])("reports %s", async (_what, expected, change) => {
  const { index, place } = findEvent(ledger, (event) => event["type"] === "LeaseGranted", 40);
  expect((await findingsIn(({ events }) => change(events[place] as Record<string, unknown>), index))[0]).toMatch(
    expected,
  );
});

test.each([0, -1, 65_536])("reports an invalid port (%i)", async (port) => {
  const found = await findingsIn(({ events }) => Object.assign(events[2] as object, { port }), 0);
  expect(found[0]).toMatch(/^field: .* \(ProxyAdded\) .* its port must be a port \(1 to 65535\), and is -?\d+$/);
});

test("reports a user name that is not masked, without showing it", async () => {
  const found = await findingsIn(({ events }) => Object.assign(events[2] as object, { username: "ZYTE-API-KEY" }), 0);
  expect(found[0]).toMatch(/^field: .* \(ProxyAdded\) .* its username must be masked, as in ZYT…, and is not$/);
  expect(found.join()).not.toContain("ZYTE");
});

test("matches every event that the service writes with its schema, and no schema lacks a field", () => {
  const seen = new Set<string>();
  const schemas: Record<string, z.ZodType> = eventSchemas;
  for (const bytes of [...ledger, ...makeLedger(80, { proxies: 4, names: true, policy: { countFrom: "grant" } })]) {
    for (const event of decodeCommit(bytes.toString()).events) {
      const { type } = event as Event;
      seen.add(type);
      expect(schemas[type]?.safeParse(event), JSON.stringify(event)).toMatchObject({ success: true });
    }
  }
  expect(seen.size).toBeGreaterThan(10);
  expect(Object.values(eventSchemas).map((schema) => schema.shape.type.value)).toEqual(Object.keys(eventSchemas));
});

test("reports a value that is not an event", async () => {
  for (const nothing of [null, 7, "LeaseGranted", [], {}, { type: 3 }])
    expect((await findingsIn(({ events }) => void events.push(nothing)))[0]).toMatch(
      /^field: event \d+ of the commit is not an object with a `type`: /,
    );
});

test("reports an impossible number of a use", async () => {
  const { index, place } = findEvent(ledger, (event) => event["type"] === "UseReported" && event["n"] === 1, 20);
  const reported = (events: unknown[]) => events[place] as { n: number; over?: true };
  for (const n of [1002, 0, -1]) {
    const found = await findingsIn(({ events }) => Object.assign(reported(events), { n, over: true }), index);
    expect(found.join("\n")).toMatch(/outcome: use -?\d+ of \S+ was already reported or is out of range/);
  }
});

test("reports an unknown field once, with its place, and ignores it", async () => {
  const { index, place } = findEvent(ledger, (event) => event["type"] === "LeaseGranted", 40);
  const next = findEvent(ledger, (event) => event["type"] === "LeaseGranted", index + 1);
  const forged = forge(
    forge(ledger, next.index, ({ events }) => Object.assign(events[next.place] as object, { blessed: true })),
    index,
    ({ events }) => Object.assign(events[place] as object, { blessed: true, constructor: 1 }),
  );
  const report = await verify(sourceOf(forged), {});
  expect(report.isWell).toBe(true);
  expect(report.notices.filter(({ rule }) => rule === "field")).toMatchObject([
    { n: index + 1, what: expect.stringContaining("LeaseGranted.blessed is not known here") },
    { n: index + 1, what: expect.stringContaining("LeaseGranted.constructor") },
  ]);
});

test("reports text from a ledger in one sentence, however long it is", async () => {
  const type = "x".repeat(100_000);
  const found = await findingsIn(({ events }) => void events.push({ type }));
  expect(found.at(-1)).toMatch(/^unknown-event: /);
  expect(found.at(-1)!.length).toBeLessThan(600);
});

test("reports an invalid policy, and checks later events by the one before", async () => {
  const policy = (JSON.parse(ledger[0]!.toString()) as { events: { policy?: Record<string, unknown> }[] }).events[1]!
    .policy!;
  for (const [wrong, why] of [
    [{ ...policy, rate: { limit: "6", windowMs: 1000 } }, "rate"],
    [{ ...policy, marginMs: undefined }, "marginMs"],
    [{ ...policy, ratio: 1 }, "ratio"],
    [[], "object"],
  ] as const) {
    const found = await findingsIn(
      ({ events }) => void events.push({ type: "PolicyChanged", version: 2, policy: wrong }),
    );
    expect(found.join("\n")).toMatch(/^(policy|field): .*/);
    expect(found.join("\n")).toContain(why === "object" ? "its policy must be" : why);
  }
});
