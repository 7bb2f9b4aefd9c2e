// Ledgers with arbitrary content: every question gets an answer or an error message.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { lineOf } from "../../../cli/audit-events.ts";
import type { CommitEnvelope } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import { Fault } from "../../../runtime/fault.ts";
import { loadSigningKey } from "../../../runtime/signing-key.ts";
import { csvOf, eventsIn, rowOf } from "../../../services/audit/columns.ts";
import { explainLease } from "../../../services/audit/explain/explain.ts";
import { decoded } from "../../../services/audit/history.ts";
import { seal } from "../../../services/audit/seal.ts";
import { verify } from "../../../services/audit/verify.ts";
import { seeded } from "../../kit/seed.ts";
import { forge } from "../ledgers.ts";
import { faultOf, folding, ledger } from "../questions.ts";

const folder = mkdtempSync(join(tmpdir(), "audit-test-"));
const key = loadSigningKey(folder);

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
      for await (const batch of eventsIn(source, {})) for (const found of batch) csvOf(rowOf(found));
    },
  ],
  ["seal", (source) => seal(source, { pool: "default", output: join(folder, "sealed"), key, now: 1 })],
];

test.each([...folding, ...reading])(
  "%s answers, or names the error, for any ledger",
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
