import { foldLedger } from "../../services/picker/fold.ts";
import { Leader } from "../../services/picker/leader.ts";
import type { LeaderPorts } from "../../services/picker/leader-ports.ts";

/**
 * Folds the ledger, ready to claim it.
 * @throws Fault "stop-damaged" if the ledger is not whole, "fix-setup" if it belongs to another key.
 */
export async function foldedLeader(ports: LeaderPorts): Promise<Leader> {
  return new Leader(ports, await foldLedger(ports));
}
