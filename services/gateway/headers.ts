// Which header fields pass the gateway (docs/protocol.md §8.8). Lists are names and values in turn, as Node gives them,
// so that spelling, order and repetition stay.
import { isOption } from "./options.ts";

/** Of one connection alone (RFC 9110, 7.6.1). */
const perConnection: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
/** These are about the message, not the connection. So they stay, even if `Connection` names them. */
const neverNamed: ReadonlySet<string> = new Set(["host", "content-length", "transfer-encoding"]);

/** @param more.drop further names, in lower case. */
export function passedOn(raw: readonly string[], more: { drop?: ReadonlySet<string> } = {}): string[] {
  const named = namedByConnection(raw);
  const passed: string[] = [];
  for (let place = 0; place + 1 < raw.length; place += 2) {
    const field = raw[place] ?? "";
    const name = field.toLowerCase();
    if (perConnection.has(name) || named.has(name) || name.startsWith("proxy-") || isOption(name)) continue;
    if (more.drop?.has(name) === true) continue;
    passed.push(field, raw[place + 1] ?? "");
  }
  return passed;
}

/** Whether a message with these fields has a body. */
export function hasBody(raw: readonly string[]): boolean {
  for (let place = 0; place + 1 < raw.length; place += 2) {
    const name = raw[place]?.toLowerCase();
    if (name === "transfer-encoding") return true;
    if (name === "content-length" && Number(raw[place + 1]) > 0) return true;
  }
  return false;
}

function namedByConnection(raw: readonly string[]): Set<string> {
  const named = new Set<string>();
  for (let place = 0; place + 1 < raw.length; place += 2) {
    if (raw[place]?.toLowerCase() !== "connection") continue;
    for (const each of (raw[place + 1] ?? "").split(",")) {
      const name = each.trim().toLowerCase();
      if (!neverNamed.has(name)) named.add(name);
    }
  }
  return named;
}
