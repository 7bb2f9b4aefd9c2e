// The options of a picker in tests.
import pino from "pino";
import { keyOf } from "../../runtime/secrets.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";
import type { PickerOptions } from "../../services/picker/serving.ts";
import { loopbackAllowed } from "./outbound.ts";

export const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");
export const log = pino({ level: "silent" });

export function pickerOptions(buses: PickerOptions["buses"]) {
  return {
    ...{ buses, key, log, outbound: loopbackAllowed, version: "test", ledgerBytesMax: 64 * 1024 ** 2 },
    signer: { id: "test", sign: () => "" } as unknown as SigningKey, // No head is signed within the hour.
  };
}
