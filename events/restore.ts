// The recorded fact that a ledger was restored from a backup. The ledger's later commits are lost.
import { z } from "zod";
import { flag, instant } from "./field.ts";

export const ledgerRestoredSchema = z.strictObject({
  type: z.literal("LedgerRestored"),
  last: z.int().describe("The number of the backup's last commit. Later ones are lost."),
  sequence: z.int().describe("The sequence of that commit in the stream that was backed up."),
  backedUpAt: instant,
  until: instant.describe("No lease is granted before then, because uses after the backup are not known."),
  closed: flag.describe("The pool was closed."),
});
export type LedgerRestored = z.infer<typeof ledgerRestoredSchema>;

/** The part that a backup tells. */
export type Backup = Pick<LedgerRestored, "last" | "sequence" | "backedUpAt">;
