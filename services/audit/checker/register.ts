// Things by their names, for many more of them than a cache holds: two places in memory are looked at, whatever is asked
// for. A thing may also lose its name (`nameOf` says none from then on) without being taken out: it is not found any
// more, and thrown out some time later.

const sizeMin = 1024;

export class Register<Item> {
  /** For each place the hash of what is there; 0: nothing was there yet. */
  #hashes = new Int32Array(sizeMin);
  #items: (Item | undefined)[] = new Array<Item | undefined>(sizeMin).fill(undefined);
  /** Of the places, those that nothing is in any more included. */
  #taken = 0;
  readonly #nameOf: (item: Item) => string | undefined;

  constructor(nameOf: (item: Item) => string | undefined) {
    this.#nameOf = nameOf;
  }

  get(name: string): Item | undefined {
    const hashes = this.#hashes;
    const mask = hashes.length - 1;
    const wanted = hashOf(name);
    for (let place = wanted & mask; ; place = (place + 1) & mask) {
      const hash = hashes[place];
      if (hash === 0) return undefined;
      if (hash !== wanted) continue;
      const item = this.#items[place];
      if (item !== undefined && this.#nameOf(item) === name) return item;
    }
  }

  /** Returns what had the name until now. */
  set(name: string, item: Item): Item | undefined {
    const hashes = this.#hashes;
    const items = this.#items;
    const mask = hashes.length - 1;
    const own = hashOf(name);
    let place = own & mask;
    for (let hash = hashes[place]; hash !== 0; hash = hashes[place]) {
      const other = hash === own ? items[place] : undefined;
      if (other !== undefined && this.#nameOf(other) === name) {
        items[place] = item;
        return other;
      }
      place = (place + 1) & mask;
    }
    hashes[place] = own;
    items[place] = item;
    this.#taken++;
    if (this.#taken * 2 > hashes.length) this.#throwOut();
    return undefined;
  }

  /** Takes it out, if it is what has this name. */
  delete(name: string, item: Item): void {
    const hashes = this.#hashes;
    const mask = hashes.length - 1;
    for (let place = hashOf(name) & mask; hashes[place] !== 0; place = (place + 1) & mask) {
      if (this.#items[place] !== item) continue;
      this.#items[place] = undefined; // Its place stays taken: others may stand behind it.
      return;
    }
  }

  *values(): Generator<Item> {
    for (const item of this.#items) if (item !== undefined && this.#nameOf(item) !== undefined) yield item;
  }

  #throwOut(): void {
    const hashes = this.#hashes;
    const items = this.#items;
    let listed = 0;
    for (const item of items) if (item !== undefined && this.#nameOf(item) !== undefined) listed++;
    let size = sizeMin;
    while (size < listed * 4) size *= 2;
    const mask = size - 1;
    this.#hashes = new Int32Array(size);
    this.#items = new Array<Item | undefined>(size).fill(undefined);
    this.#taken = listed;
    for (const [i, item] of items.entries()) {
      if (item === undefined || this.#nameOf(item) === undefined) continue;
      const hash = hashes[i]!; // One for each item.
      let place = hash & mask;
      while (this.#hashes[place] !== 0) place = (place + 1) & mask;
      this.#hashes[place] = hash;
      this.#items[place] = item;
    }
  }
}

/** Never 0. Two letters at a time, so that neither waits for the other. */
function hashOf(name: string): number {
  let even = name.length;
  let odd = 0;
  const { length } = name;
  for (let i = 1; i < length; i += 2) {
    even = Math.imul(even ^ name.charCodeAt(i - 1), 0x01000193);
    odd = Math.imul(odd ^ name.charCodeAt(i), 0x01000193);
  }
  if (length % 2 === 1) even = Math.imul(even ^ name.charCodeAt(length - 1), 0x01000193);
  let hash = Math.imul(even ^ (even >>> 15), 0x2c1b3c6d) ^ odd;
  hash = Math.imul(hash ^ (hash >>> 15), 0x297a2d39);
  hash ^= hash >>> 13;
  return hash === 0 ? 1 : hash;
}
