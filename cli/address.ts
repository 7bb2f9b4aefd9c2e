// Where the service of a data directory is to be found: written when it is ready, so that every other command finds it
// by itself. REMUDA_NATS_URL names another one.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../runtime/config.ts";

export interface Address {
  natsUrl: string;
}

const fileName = "address.json";

export function writeAddress(config: Config, address: Address): void {
  writeFileSync(join(config.dataDir, fileName), `${JSON.stringify(address)}\n`, { mode: 0o600 });
}

export function removeAddress(config: Config): void {
  rmSync(join(config.dataDir, fileName), { force: true });
}

export function findAddress(config: Config): Address {
  if (config.natsUrl !== undefined) return { natsUrl: config.natsUrl };
  try {
    return JSON.parse(readFileSync(join(config.dataDir, fileName), "utf8")) as Address; // Written above.
  } catch {
    return { natsUrl: `nats://${config.natsHost}:${config.natsPort}` };
  }
}
