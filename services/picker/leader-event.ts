// A leader tells its listener how far it is, and how it ends.
import type { Fault } from "../../runtime/fault.ts";

export type LeaderEvent =
  /** "fenced": another leader took over. "stuck": it cannot catch up. "closed": the pool was closed. */
  | { type: "claimed" | "caughtUp" | "fenced" | "stuck" | "closed" }
  /** `defect`: it is a bug. `leftOut`: the command that the next leader leaves out, for the log. */
  | { type: "broke"; error: Fault; defect?: unknown; leftOut?: object };
