// Counts the flights of a tunnel, because a request inside TLS cannot be seen (docs/protocol.md §8.5). A flight is a
// run of client bytes that follows bytes from upstream. The ClientHello, and runs made only of TLS records of type 20,
// 21 or 22, are not flights. If the client offers HTTP/2, only a record above 96 bytes makes a flight. Pure: it sees
// bytes and says where a flight begins.
//
// It may count more flights than requests, never fewer for HTTP/1.1 without pipelining: a TLS 1.3 Finished that
// travels alone counts, and so does a body that is sent in two runs.

const handshakeTypes: readonly number[] = [20, 21, 22];
const applicationData = 23;
const heartbeat = 24;
const headerBytes = 5;
/** RFC 8446, 5.2: the largest encrypted record. */
const recordBytesMax = 16_384 + 256;
/** Frames of HTTP/2 that carry no request (SETTINGS, WINDOW_UPDATE, PING) fit in less. */
const estimateBytesMin = 96;

export class Flights {
  readonly #isEstimate: boolean;
  #header: number[] = [];
  #type = 0;
  #length = 0;
  /** Bytes of the present record that are still to come. */
  #left = 0;
  /** Not TLS: every byte counts. */
  #isOpaque: boolean;
  /** The present run has been counted. */
  #isCounted = false;

  /** @param how.estimate the client offers HTTP/2. @param how.opaque the bytes are not TLS. */
  constructor({ estimate = false, opaque = false } = {}) {
    this.#isEstimate = estimate;
    this.#isOpaque = opaque;
  }

  /** Bytes came from upstream: the next client bytes are a new run. */
  down(): void {
    this.#isCounted = false;
  }

  /** @returns the place in these client bytes at which a flight begins. Undefined: none begins here. */
  up(chunk: Uint8Array): number | undefined {
    let beginsAt: number | undefined;
    for (let at = 0; at < chunk.length; ) {
      if (!this.#isOpaque && this.#left === 0) at = this.#readHeader(chunk, at);
      if (!this.#isCounted && this.#counts()) {
        this.#isCounted = true;
        beginsAt = at;
      }
      if (this.#isOpaque) break;
      const step = Math.min(this.#left, chunk.length - at);
      this.#left -= step;
      at += step;
    }
    return beginsAt;
  }

  #readHeader(chunk: Uint8Array, from: number): number {
    let at = from;
    while (at < chunk.length && this.#header.length < headerBytes) this.#header.push(chunk[at++]!); // Below its length.
    if (this.#header.length < headerBytes) {
      this.#length = 0;
      return at;
    }
    const [type = 0, major = 0, , high = 0, low = 0] = this.#header;
    this.#header = [];
    this.#type = type;
    this.#length = high * 256 + low;
    this.#left = this.#length;
    this.#isOpaque = type < handshakeTypes[0]! || type > heartbeat || major !== 3 || this.#length > recordBytesMax;
    return at;
  }

  #counts(): boolean {
    if (this.#isOpaque) return true;
    if (this.#left === 0 || handshakeTypes.includes(this.#type)) return false;
    return !this.#isEstimate || (this.#type === applicationData && headerBytes + this.#length > estimateBytesMin);
  }
}
