// Broken or partial ledgers: every reader answers with a sentence, and a folded state is never wrong.
import { describe, expect, test } from "vitest";
import { Fault } from "../../runtime/fault.ts";
import { faultOf, folding, ledger } from "./questions.ts";

describe("a ledger that is broken", () => {
  test.each(folding)("gives the place in %s, and the command that says more", async (_what, ask) => {
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
        new RegExp(`memory is damaged at sequence ${sequence}: .*See "remuda audit verify"`),
      );
    }
  });

  test.each(folding)(
    "reports in %s that a partial ledger cannot be folded, and not that it is damaged",
    async (_what, ask) => {
      const fault = await faultOf(ask, ledger.slice(20));
      expect(fault).toMatchObject({ code: "fix-setup" });
      expect(String(fault)).toContain("memory begins with commit 21");
    },
  );
});
