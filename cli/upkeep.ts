// How a picker of this installation keeps the past of its ledgers.
import type { Config } from "../runtime/config.ts";
import type { UpkeepSettings } from "../services/picker/upkeep.ts";
import { natsUrlAs } from "./login.ts";

const dayMs = 86_400_000;
/** The stream keeps at most this share of its bound. So it is full only if the archive's disk is. */
const keptShareMax = 0.25;

export function upkeepOf(config: Config, natsUrl: string): UpkeepSettings {
  return {
    natsUrl: natsUrlAs(config, natsUrl, "ledger"),
    caFile: config.tlsCa,
    archiveFolder: config.archive,
    keepBytes: Math.min(config.ledgerKeepBytes, Math.floor(config.ledgerBytesMax * keptShareMax)),
    keepMs: config.ledgerKeepDays * dayMs,
    archiveKeepMs: config.archiveKeepDays === undefined ? undefined : config.archiveKeepDays * dayMs,
  };
}
