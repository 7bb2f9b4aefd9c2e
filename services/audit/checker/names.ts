// Texts that come back: ids of proxies and leases, states. Each is made once, and found again by its bytes. So a text
// that comes back is the very string of before, which a Map finds faster than an equal one.

const places = 2 ** 14;
/** For each place: the length of its text with the closing quote, its bytes four at a time, and its last four bytes. */
const quadsEach = 8;
/** A longer text is not kept: it is a request's id, say, and comes once. */
const lengthMax = 4 * (quadsEach - 2) + 3;
/** So many bytes choose the place of a text. After a shorter text, the bytes that follow it count too. */
const headBytes = 18;

export class Names {
  readonly #texts = new Array<string>(places).fill("");
  readonly #quads = new Int32Array(places * quadsEach);

  /** The text with the bytes from `at` to a closing quote, if it is kept. "": it is not. Reads up to 32 bytes. */
  at(view: DataView, at: number): string {
    const place = placeOf(view, at);
    const quads = this.#quads;
    let quad = place * quadsEach;
    const length = quads[quad]!; // Each place has one.
    const last = at + length - 4;
    if (length === 0 || view.getInt32(last, true) !== quads[quad + quadsEach - 1]) return "";
    for (let from = at; from <= last; from += 4) if (view.getInt32(from, true) !== quads[++quad]) return "";
    return this.#texts[place]!; // Likewise.
  }

  /** @param text printable ASCII, that comes with a closing quote at `at`. */
  keep(view: DataView, at: number, text: string): void {
    const length = text.length + 1;
    if (length < 4 || length > lengthMax) return;
    const place = placeOf(view, at);
    let quad = place * quadsEach;
    this.#texts[place] = text;
    this.#quads[quad] = length;
    for (let from = at; from <= at + length - 4; from += 4) this.#quads[++quad] = view.getInt32(from, true);
    this.#quads[place * quadsEach + quadsEach - 1] = view.getInt32(at + length - 4, true);
  }
}

function placeOf(view: DataView, at: number): number {
  const mixed =
    Math.imul(view.getInt32(at + 2, true), 0x9e3779b1) ^
    Math.imul(view.getInt32(at + 6, true), 0x85ebca6b) ^
    Math.imul(view.getInt32(at + 10, true), 0xc2b2ae35) ^
    Math.imul(view.getInt32(at + headBytes - 4, true), 0x27d4eb2f);
  return ((mixed ^ (mixed >>> 15)) >>> 3) & (places - 1);
}
