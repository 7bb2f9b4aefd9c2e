// Ledgers that are no ledgers, or parts of one: every reader answers with a sentence, and what is folded is never wrong.
import { describe, expect, test } from "vitest";
import { Fault } from "../../runtime/fault.ts";
import { faultOf, folding, ledger } from "./questions.ts";

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
