// The doctor's connections. Each check uses the connection whose user has the rights for it.
import { type Bus, openBus } from "../runtime/bus.ts";
import type { Address } from "./address.ts";

export interface Links {
  /** Answers the protocol's requests. */
  requests: Address;
  ledger: Address;
  /** Reads the stream of outcomes. */
  outcomes: Address;
}

export function openLink({ natsUrl, tlsCa }: Address): Promise<Bus> {
  return openBus(natsUrl, "remuda doctor", { caFile: tlsCa });
}

export async function withLink<T>(address: Address, use: (bus: Bus) => Promise<T>): Promise<T> {
  const bus = await openLink(address);
  try {
    return await use(bus);
  } finally {
    await bus.close();
  }
}
