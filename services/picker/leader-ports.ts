// The outside of a leader.
import type { Secrets } from "../../runtime/secrets.ts";
import type { Quotas } from "../../state-machines/queue/quotas.ts";
import type { CatchUpPorts } from "./catch-up.ts";
import type { FoldPorts } from "./fold.ts";
import type { Demand } from "./growth.ts";
import type { HeadPorts } from "./head.ts";
import type { LeaderEvent } from "./leader-event.ts";
import type { LeftOut } from "./left-out.ts";

export interface LeaderPorts extends FoldPorts, HeadPorts, Pick<CatchUpPorts, "feed" | "announce"> {
  /** This process's id in the ledger. */
  id: string;
  /** Of Remuda. Absent: the claim does not say it. */
  version?: string | undefined;
  secrets: Pick<Secrets, "look" | "get">;
  /** How much of its quotas each user has used, in all pools of this process. Absent: users have no quotas. */
  quotas?: Quotas;
  /**
   * The amount that the pools of this process may still store in the ledgers' stream. Absent: there is no other pool.
   */
  demand?: Demand;
  tell: (event: LeaderEvent) => void;
  /** When this process last had a gap in its life, by the monotonic clock. Absent: never. */
  gapOn?: (() => number) | undefined;
  /** Commands that made an earlier leader of this pool fail. Absent: none. */
  leftOut?: LeftOut;
  /** An answer could not be made because of a bug. Absent: it is not reported. */
  onDefect?: (error: unknown, where: object) => void;
  /** Random bits for a turn's draws and for ids. The simulator passes its own. */
  random?: (bytes: number) => Buffer;
}
