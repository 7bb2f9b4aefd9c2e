// The protocol that a client speaks inside a tunnel, by its first bytes.

/** A longer first line is not taken for HTTP. */
const lineBytesMax = 16 * 1024;
/**
 * Methods are upper case in practice. Otherwise the first word of any text would have to be awaited to its line's end.
 */
const requestLine = /^[A-Z-]{1,32} \S+ HTTP\/1\.[01]\r?$/;
const lineBegun = /^[A-Z-]{1,32}( |$)/;

/** `opaque`: neither HTTP/1 nor TLS. Undefined: more must come. */
export function spokenIn(bytes: Buffer): "http" | "tls" | "opaque" | undefined {
  if (bytes.length === 0) return undefined;
  if (bytes[0] === 22) return "tls";
  const end = bytes.indexOf(10);
  const line = bytes.toString("latin1", 0, end < 0 ? Math.min(bytes.length, lineBytesMax) : end);
  if (end >= 0) return requestLine.test(line) ? "http" : "opaque";
  return bytes.length < lineBytesMax && lineBegun.test(line) ? undefined : "opaque";
}
