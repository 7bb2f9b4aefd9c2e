// Reads values of JSON from the bytes of a commit, without making text of all of them first. It accepts a part of JSON
// only: printable ASCII without escapes, whole numbers of up to 15 digits, no spaces. Anything else sets `failed`. Then
// nothing that was read counts, and `JSON.parse` must read the bytes.
import { Names } from "./names.ts";

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const brackets = { open: 0x5b, close: 0x5d };
const braces = { open: 0x7b, close: 0x7d };
const digitsMax = 15;
/** Bytes after the end, all 0, so that reading ahead never leaves the buffer. */
const zeros = 64;

export class Scan {
  at = 0;
  failed = false;
  view: DataView = new DataView(new ArrayBuffer(0));
  #bytes: Buffer = Buffer.alloc(0);
  readonly #names = new Names();

  begin(bytes: Buffer, at: number): void {
    const { length } = bytes;
    if (length + zeros > this.#bytes.length) {
      this.#bytes = Buffer.alloc(2 * (length + zeros));
      this.view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
    }
    this.#bytes.set(bytes);
    this.#bytes.fill(0, length, length + zeros);
    this.at = at;
    this.failed = false;
  }

  has(byte: number): boolean {
    if (this.view.getUint8(this.at) !== byte) return false;
    this.at++;
    return true;
  }

  must(byte: number): void {
    if (!this.has(byte)) this.failed = true;
  }

  text(): string {
    this.must(quote);
    const { view, at: start } = this;
    const known = this.#names.at(view, start);
    if (known !== "") {
      this.at = start + known.length + 1;
      return known;
    }
    let at = start;
    for (let byte = view.getUint8(at); byte !== quote; byte = view.getUint8(++at)) {
      if (byte >= 0x20 && byte <= 0x7e && byte !== 0x5c) continue;
      this.failed = true;
      return "";
    }
    this.at = at + 1;
    const text = this.#bytes.toString("latin1", start, at);
    this.#names.keep(view, start, text);
    return text;
  }

  /** One of these words: the very string, which V8 compares and looks up faster than an equal one. */
  word(words: ReadonlyMap<string, string>): string {
    const word = words.get(this.text());
    if (word === undefined) this.failed = true;
    return word ?? "";
  }

  whole(): number {
    const { view } = this;
    let { at } = this;
    const isNegative = view.getUint8(at) === 0x2d;
    if (isNegative) at++;
    const start = at;
    let value = 0;
    for (
      let quad = view.getInt32(at, true);
      areDigits(quad) && at - start < digitsMax;
      quad = view.getInt32(at, true)
    ) {
      const pairs = (quad & 0x0f0f0f0f) * 10 + ((quad & 0x0f0f0f0f) >>> 8);
      value = value * 10_000 + (pairs & 0xff) * 100 + ((pairs >>> 16) & 0xff);
      at += 4;
    }
    for (let digit = view.getUint8(at) - 0x30; digit >= 0 && digit <= 9; digit = view.getUint8(++at) - 0x30)
      value = value * 10 + digit;
    const length = at - start;
    if (length === 0 || length > digitsMax || (length > 1 && view.getUint8(start) === 0x30)) this.failed = true;
    this.at = at;
    return isNegative ? -value : value;
  }

  wholeFrom(least: number, most = Infinity): number {
    const value = this.whole();
    if (value < least || value > most) this.failed = true;
    return value;
  }

  yes(): true {
    if (this.view.getInt32(this.at, true) !== 0x65757274) this.failed = true;
    this.at += 4;
    return true;
  }

  texts(): string[] {
    const texts: string[] = [];
    this.#each(brackets, () => texts.push(this.text()));
    return texts;
  }

  labels(): Record<string, string> {
    const labels: Record<string, string> = {};
    this.#each(braces, () => {
      labels[this.#name()] = this.text();
    });
    return labels;
  }

  figures(): Record<string, number> {
    const figures: Record<string, number> = {};
    this.#each(braces, () => {
      figures[this.#name()] = this.whole();
    });
    return figures;
  }

  #each({ open, close }: { open: number; close: number }, read: () => void): void {
    this.must(open);
    if (this.has(close)) return;
    do read();
    while (!this.failed && this.has(comma));
    this.must(close);
  }

  #name(): string {
    const name = this.text();
    this.must(colon);
    if (name === "__proto__") this.failed = true; // Assigning it would not make a field.
    return name;
  }
}

function areDigits(quad: number): boolean {
  return (quad & 0xf0f0f0f0) === 0x30303030 && ((quad + 0x06060606) & 0xf0f0f0f0) === 0x30303030;
}
