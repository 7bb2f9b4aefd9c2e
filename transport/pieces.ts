// Collects a body that arrives in pieces of any size. Each piece is an object of a hundred bytes and more. Without
// joining, a body that is sent in single bytes would take a hundred times its size in memory. So small pieces are
// joined.

/** They are joined once there are this many. */
const joinedAtOnce = 1000;
/** Larger ones stay as they are: only their own size matters, and copying them takes time. */
const joinedBytesMax = 1024 * 1024;

export class Pieces {
  readonly #whole: Uint8Array[] = [];
  #recent: Uint8Array[] = [];
  #recentBytes = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(piece: Uint8Array): void {
    this.#bytes += piece.length;
    this.#recentBytes += piece.length;
    this.#recent.push(piece);
    if (this.#recent.length < joinedAtOnce) return;
    if (this.#recentBytes > joinedBytesMax) this.#whole.push(...this.#recent);
    else this.#whole.push(Buffer.concat(this.#recent));
    this.#recent = [];
    this.#recentBytes = 0;
  }

  /** In order. */
  all(): Uint8Array[] {
    return [...this.#whole, ...this.#recent];
  }
}
