// Reads the protocols that a client offers in its ClientHello (RFC 8446, 4.1.2; ALPN: RFC 7301). It may come in several
// records and in any number of pieces.

const handshakeRecord = 22;
const clientHello = 1;
const alpnExtension = 16;
/** A larger one is not read. */
const bytesMax = 64 * 1024;

/**
 * @returns the offered protocols; none if it offers none, or is not a readable ClientHello. Undefined: more must come.
 */
export function offeredIn(bytes: Buffer): string[] | undefined {
  const message = handshakeIn(bytes);
  if (message === undefined) return bytes.length > bytesMax ? [] : undefined;
  try {
    return protocolsIn(message);
  } catch {
    return [];
  }
}

/** The first handshake message, put together from its records. Empty: it is not one. */
function handshakeIn(bytes: Buffer): Buffer | undefined {
  const parts: Buffer[] = [];
  let have = 0;
  for (let at = 0; at + 5 <= bytes.length; ) {
    if (bytes[at] !== handshakeRecord) return Buffer.alloc(0);
    const length = bytes.readUInt16BE(at + 3);
    const part = bytes.subarray(at + 5, at + 5 + length);
    parts.push(part);
    have += part.length;
    at += 5 + length;
    if (have < 4) continue;
    const whole = Buffer.concat(parts);
    if (whole[0] !== clientHello) return Buffer.alloc(0);
    const size = 4 + whole.readUIntBE(1, 3);
    if (whole.length >= size) return whole.subarray(4, size);
  }
  return undefined;
}

/** @throws RangeError if a length leads out of it. */
function protocolsIn(hello: Buffer): string[] {
  if (hello.length === 0) return [];
  let at = 2 + 32; // Version and random.
  at += 1 + hello.readUInt8(at); // The session.
  at += 2 + hello.readUInt16BE(at); // The ciphers.
  at += 1 + hello.readUInt8(at); // The compression methods.
  if (at >= hello.length) return [];
  const end = at + 2 + hello.readUInt16BE(at);
  for (at += 2; at + 4 <= end; ) {
    const type = hello.readUInt16BE(at);
    const length = hello.readUInt16BE(at + 2);
    at += 4;
    if (type === alpnExtension) return namesIn(hello.subarray(at, at + length));
    at += length;
  }
  return [];
}

function namesIn(list: Buffer): string[] {
  const names: string[] = [];
  for (let at = 2; at < list.length; ) {
    const length = list.readUInt8(at);
    names.push(list.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return names;
}
