// Outside loopback a client must show a key before anything of its request is read. Liveness checks need no key.
import type { IncomingHttpHeaders } from "node:http";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Door } from "./host.ts";

/** The code is `invalid-request`. The status here is 401. */
export const keylessStatus = 401;

export function refusalOfKey(
  { headers, url }: { headers: IncomingHttpHeaders; url: string },
  { isKey }: Door,
): Refusal | undefined {
  if (isKey === undefined || url === "/livez" || url.startsWith("/livez?")) return undefined;
  const { authorization = "" } = headers;
  const key = /^bearer +(\S+)$/i.exec(authorization)?.[1];
  if (key !== undefined && isKey(key)) return undefined;
  const what = authorization === "" ? "a key is needed" : "this key is not known";
  return refuse(
    "invalid-request",
    `Authorization: ${what} here. Send "Authorization: Bearer <key>" with the REMUDA_HTTP_KEY that "npx remuda env" or "npx remuda user add" prints.`,
    { field: "Authorization" },
  );
}
