// Where the service of a data directory is to be found: written when it is ready, so that every other command finds it
// by itself. REMUDA_NATS_URL names another one.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../runtime/config.ts";

export interface Address {
  natsUrl: string;
  /** Absent: HTTP does not run, or it is not known where. */
  httpUrl?: string;
}

const fileName = "address.json";

export function writeAddress(config: Config, address: Address): void {
  writeFileSync(join(config.dataDir, fileName), `${JSON.stringify(address)}\n`, { mode: 0o600 });
}

export function removeAddress(config: Config): void {
  rmSync(join(config.dataDir, fileName), { force: true });
}

export function findAddress(config: Config): Address {
  const { natsUrl } = config;
  const written = readAddress(config);
  if (natsUrl !== undefined) return written?.natsUrl === natsUrl ? written : { natsUrl };
  return written ?? { natsUrl: `nats://${config.natsHost}:${config.natsPort}` };
}

function readAddress(config: Config): Address | undefined {
  try {
    return JSON.parse(readFileSync(join(config.dataDir, fileName), "utf8")) as Address; // Written above.
  } catch {
    return undefined;
  }
}
