// Reading JSON where it lies, four bytes at a time, without making text of it first: for a reader that knows what must
// come next. It accepts a part of JSON alone (text without escapes and beyond ASCII, whole numbers) and of that exactly
// what `JSON.parse` would make of it. Whatever else comes fails, and is for `JSON.parse` itself.

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const openingBrace = 0x7b;
const closingBrace = 0x7d;
const openingBracket = 0x5b;
const closingBracket = 0x5d;
const minus = 0x2d;
const zero = 0x30;
const nine = 0x39;
/** Whole numbers of so many digits are safe. */
const digitsMax = 15;
/** Names come back again and again, those of a lease within its life: so many of them are at hand, one in each place. */
const namesKept = 2 ** 14;
/** Of a name so many quads of bytes are kept, its closing quote included; longer ones are not. */
const quadsMax = 16;
/** From so many bytes of a name follows its place; those after a shorter one count as well. */
const nameHead = 18;

/** What must come: at least four bytes. */
export interface Wanted {
  length: number;
  quads: Int32Array;
  /** The last four bytes. */
  tail: number;
}

/** @param text of at least four letters, ASCII. */
export function wantedOf(text: string): Wanted {
  const bytes = Buffer.from(text, "latin1");
  const quads = Int32Array.from({ length: bytes.length >> 2 }, (_, i) => bytes.readInt32LE(4 * i));
  return { length: bytes.length, quads, tail: bytes.readInt32LE(bytes.length - 4) };
}

export class Scan {
  bytes: Buffer = Buffer.alloc(0);
  at = 0;
  /** What came was not what must come; everything read since then is void. */
  failed = false;
  /** Something was read of which nothing is known, not even its kind. */
  guessed = false;
  #view: DataView = new DataView(new ArrayBuffer(0));
  #end = 0;
  readonly #names: string[] = new Array<string>(namesKept).fill("");
  /** For each place how many bytes the name has with its closing quote; 0: there is none. */
  readonly #lengths = new Uint8Array(namesKept);
  readonly #quads = new Int32Array(namesKept * quadsMax);
  readonly #tails = new Int32Array(namesKept);

  begin(bytes: Buffer): void {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#end = bytes.length;
    this.at = 0;
    this.failed = false;
  }

  /** Passes over these bytes if they come. */
  has({ length, quads, tail }: Wanted): boolean {
    const at = this.at;
    if (at + length > this.#end) return false;
    const view = this.#view;
    if (view.getInt32(at + length - 4, true) !== tail) return false;
    for (let i = 0; i < quads.length; i++) if (view.getInt32(at + 4 * i, true) !== quads[i]) return false;
    this.at = at + length;
    return true;
  }

  must(wanted: Wanted): void {
    if (!this.has(wanted)) this.failed = true;
  }

  hasByte(byte: number): boolean {
    if (this.bytes[this.at] !== byte) return false;
    this.at++;
    return true;
  }

  mustByte(byte: number): void {
    if (!this.hasByte(byte)) this.failed = true;
  }

  /** Passes over what stands before a field of the object that begins at `start`: its brace, or a comma. */
  next(start: number): boolean {
    return this.hasByte(this.at === start ? openingBrace : comma);
  }

  /**
   * Passes over the name of a field, if it comes.
   * @param wanted without what stands before it, @param start where its object begins.
   */
  field(wanted: Wanted, start: number): boolean {
    const { at } = this;
    if (this.next(start) && this.has(wanted)) return true;
    this.at = at;
    return false;
  }

  /** Passes over the end of the object that begins at `start`. */
  ends(start: number): boolean {
    const { bytes } = this;
    let { at } = this;
    if (at === start && bytes[at++] !== openingBrace) return false;
    if (bytes[at] !== closingBrace) return false;
    this.at = at + 1;
    return true;
  }

  whole(): number {
    const { bytes } = this;
    const view = this.#view;
    let { at } = this;
    const isNegative = bytes[at] === minus;
    if (isNegative) at++;
    const start = at;
    let value = 0;
    for (; at + 4 <= this.#end; at += 4) {
      const quad = view.getInt32(at, true);
      // All four are digits.
      if ((quad & 0xf0f0f0f0) !== 0x30303030 || ((quad + 0x06060606) & 0xf0f0f0f0) !== 0x30303030) break;
      const digits = quad & 0x0f0f0f0f;
      const pairs = digits * 10 + (digits >>> 8);
      value = value * 10_000 + (pairs & 0xff) * 100 + ((pairs >>> 16) & 0xff);
    }
    for (let digit = bytes[at]; digit !== undefined && digit >= zero && digit <= nine; digit = bytes[++at])
      value = value * 10 + (digit - zero);
    const length = at - start;
    if (length === 0 || length > digitsMax || (length > 1 && bytes[start] === zero)) this.failed = true;
    this.at = at; // A fraction or an exponent is not what must come next.
    return isNegative ? -value : value;
  }

  /** A name that may have come before: from after the opening quote to after the closing one. */
  name(): string {
    const { at } = this;
    if (at + nameHead > this.#end) return this.text();
    const view = this.#view;
    const mixed =
      Math.imul(view.getInt32(at + 2, true), 0x9e3779b1) ^
      Math.imul(view.getInt32(at + 6, true), 0x85ebca6b) ^
      Math.imul(view.getInt32(at + 10, true), 0xc2b2ae35) ^
      Math.imul(view.getInt32(at + 14, true), 0x27d4eb2f);
    const place = ((mixed ^ (mixed >>> 15)) >>> 3) & (namesKept - 1);
    if (this.#isAt(place, at)) {
      this.at = at + this.#lengths[place]!; // Of what is there.
      return this.#names[place]!;
    }
    const name = this.text();
    if (!this.failed) this.#keep(place, at, name);
    return name;
  }

  #isAt(place: number, at: number): boolean {
    const length = this.#lengths[place]!; // One for each place.
    if (length === 0 || at + length > this.#end) return false;
    const view = this.#view;
    if (view.getInt32(at + length - 4, true) !== this.#tails[place]) return false;
    const first = place * quadsMax;
    const quads = this.#quads;
    for (let i = 0; i < length >> 2; i++) if (view.getInt32(at + 4 * i, true) !== quads[first + i]) return false;
    return true;
  }

  #keep(place: number, at: number, name: string): void {
    const length = name.length + 1;
    if (length < 4 || length > 4 * quadsMax) return;
    const view = this.#view;
    this.#names[place] = name;
    this.#lengths[place] = length;
    this.#tails[place] = view.getInt32(at + length - 4, true);
    for (let i = 0; i < length >> 2; i++) this.#quads[place * quadsMax + i] = view.getInt32(at + 4 * i, true);
  }

  /** Text that nobody expects to come again. */
  text(): string {
    const { bytes, at: start } = this;
    let at = start;
    for (let byte = bytes[at]; byte !== quote; byte = bytes[++at]) {
      if (byte === undefined || byte < 0x20 || byte > 0x7e || byte === backslash) {
        this.failed = true;
        return "";
      }
    }
    this.at = at + 1;
    return bytes.toString("latin1", start, at);
  }

  /** Any value, as `JSON.parse` reads it. Fails where that would throw. */
  any(): unknown {
    this.guessed = true;
    const { bytes, at: start } = this;
    const end = endOf(bytes, start);
    this.at = end;
    try {
      return JSON.parse(bytes.toString("utf8", start, end));
    } catch {
      this.failed = true;
      return undefined;
    }
  }
}

/** Where the value that begins here ends, if it is one: up to the next comma or bracket that is not of it. */
function endOf(bytes: Buffer, start: number): number {
  let depth = 0;
  let isText = false;
  for (let at = start; at < bytes.length; at++) {
    const byte = bytes[at];
    if (isText) {
      if (byte === backslash) at++;
      else if (byte === quote) isText = false;
    } else if (byte === quote) isText = true;
    else if (byte === openingBrace || byte === openingBracket) depth++;
    else if (byte === closingBrace || byte === closingBracket) {
      if (depth === 0) return at;
      depth--;
    } else if (byte === comma && depth === 0) return at;
  }
  return bytes.length;
}
