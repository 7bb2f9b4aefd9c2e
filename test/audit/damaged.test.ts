// Ledgers that are no ledgers, or parts of one: whoever asks of them hears a sentence, and what has been folded is never wrong.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { lineOf } from "../../cli/audit-events.ts";
import type { CommitEnvelope } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { Fault } from "../../runtime/fault.ts";
import { loadSigningKey } from "../../runtime/signing-key.ts";
import { csvOf, eventsIn, rowOf } from "../../services/audit/columns.ts";
import { explainLease, explainMoment, explainProxy } from "../../services/audit/explain/explain.ts";
import { decoded, stateAt } from "../../services/audit/history.ts";
import { gather } from "../../services/audit/report/gather.ts";
import { seal } from "../../services/audit/seal.ts";
import type { LedgerSource } from "../../services/audit/source.ts";
import { verify } from "../../services/audit/verify.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { seeded } from "../kit/seed.ts";
import { forge, makeLedger, sourceOf } from "./ledgers.ts";

const ledger = makeLedger(60, { chaos: 30, failures: 25, proxies: 4, names: true, refusals: true });
const folder = mkdtempSync(join(tmpdir(), "audit-test-"));
const key = loadSigningKey(folder);

const folding: [string, (source: LedgerSource) => Promise<unknown>][] = [
  ["state", (source) => stateAt(source, undefined)],
  ["what-if", (source) => whatIf(source, { policy: {}, waitMs: 0 })],
  ["what-if --from", (source) => whatIf(source, { policy: {}, waitMs: 0, from: { sequence: 70 } })],
  ["what-if --policy", (source) => whatIf(source, { policy: { rate: { limit: 3 } }, waitMs: 5000 })],
  ["report", (source) => gather(source, {})],
  ["explain a proxy", (source) => explainProxy(source, "p_0000000000000001", { at: undefined })],
  ["explain a moment", (source) => explainMoment(source, { sequence: 70 }, { forMs: 60_000 })],
];
const reading: typeof folding = [
  ["verify", (source) => verify(source, {})],
  [
    "events",
    async (source) => {
      for await (const batch of source.read())
        for (const entry of batch) {
          const commit = decoded(source, entry);
          for (const event of commit.events as Event[]) lineOf(commit, event);
        }
    },
  ],
  ["explain a lease", (source) => explainLease(source, "l_000000000020xxxxxxxxxxxx", {})],
  [
    "export",
    async (source) => {
      for await (const batch of eventsIn(source, {}, { decode: (entry) => decoded(source, entry) }))
        for (const found of batch) csvOf(rowOf(found));
    },
  ],
  ["seal", (source) => seal(source, { pool: "default", output: join(folder, "sealed"), key, now: 1 })],
];

/** Undefined: it has an answer. */
async function faultOf(ask: (source: LedgerSource) => Promise<unknown>, commits: readonly Buffer[]): Promise<unknown> {
  try {
    await ask(sourceOf(commits));
    return undefined;
  } catch (error) {
    return error;
  }
}

describe("a ledger that is broken", () => {
  test.each(folding)("%s says where, and what says more", async (_what, ask) => {
    const changed = Buffer.from(ledger[30]!.toString().replace('"cursor":', '"cursor": '));
    expect(changed).not.toEqual(ledger[30]);
    for (const [broken, sequence] of [
      [ledger.toSpliced(30, 1), 62],
      [ledger.with(30, ledger[31]!).with(31, ledger[30]!), 62],
      [ledger.toSpliced(30, 0, ledger[29]!), 62],
      [ledger.with(30, changed), 64],
      [ledger.with(30, Buffer.from("{")), 62],
    ] as const) {
      const fault = await faultOf(ask, broken);
      expect(fault).toBeInstanceOf(Fault);
      expect(fault).toMatchObject({ code: "stop-damaged" });
      expect(String(fault)).toMatch(
        new RegExp(`memory is damaged at sequence ${sequence}: .*"remuda audit verify" says`),
      );
    }
  });

  test.each(folding)(
    "of which a part is there, %s says that it cannot be folded, and not that it is damaged",
    async (_what, ask) => {
      const fault = await faultOf(ask, ledger.slice(20));
      expect(fault).toMatchObject({ code: "fix-setup" });
      expect(String(fault)).toContain("memory begins with commit 21");
    },
  );
});

test.each([...folding, ...reading])(
  "whatever stands in a ledger, %s answers or says what is wrong",
  { timeout: 60_000 },
  async (_what, ask) => {
    const random = seeded(11);
    const values = [
      undefined,
      null,
      "x",
      -1,
      1e300,
      1.5,
      {},
      [],
      true,
      "",
      0,
      1e14,
      [null],
      { a: null },
      ["0".repeat(32)],
    ];
    let answered = 0;
    for (let round = 0; round < 80; round++) {
      const index = random.int(0, 59);
      let path = "";
      const change = (commit: CommitEnvelope): void => {
        let of = commit as unknown as Record<string, unknown>;
        do {
          const name = random.pick(Object.keys(of).filter((each) => each !== "prev"));
          path += `.${name}`;
          const inner = of[name];
          if (random.chance(0.8) && typeof inner === "object" && inner !== null && Object.keys(inner).length > 0) {
            of = inner as Record<string, unknown>;
            continue;
          }
          const value = random.pick(values);
          if (value === undefined && !Array.isArray(of)) delete of[name];
          else of[name] = value ?? null;
          return;
        } while (path.length < 200);
      };
      const fault = await faultOf(ask, forge(ledger, index, change));
      if (fault === undefined) answered++;
      else if (!(fault instanceof Fault))
        throw new Error(`round ${round}, commit ${index + 1}: ${path}`, { cause: fault });
    }
    expect(answered).toBeGreaterThan(5);
    rmSync(join(folder, "sealed"), { force: true });
  },
);
