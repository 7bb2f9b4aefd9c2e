// The instants from which an exit's slots run out: a sorted list. Nearly all additions are at its end.

export class Bases {
  #sorted: number[] = [];
  #start = 0;

  get last(): number {
    return this.#sorted.length > this.#start ? this.#sorted[this.#sorted.length - 1]! : -1;
  }

  insert(instant: number, times = 1): void {
    for (let i = 0; i < times; i++) {
      if (this.#sorted.length === this.#start || this.last <= instant) this.#sorted.push(instant);
      else this.#sorted.splice(this.#upper(instant), 0, instant);
    }
  }

  /** Removes up to `times` copies of exactly this instant. */
  take(instant: number, times = 1): void {
    for (let i = 0; i < times; i++) {
      const place = this.#upper(instant) - 1;
      if (place < this.#start || this.#sorted[place] !== instant) return;
      this.#sorted.splice(place, 1);
    }
  }

  /** How many are at `from` or later. */
  since(from: number): number {
    return this.#sorted.length - this.#upper(from - 1);
  }

  dropBefore(instant: number): void {
    while (this.#start < this.#sorted.length && this.#sorted[this.#start]! < instant) this.#start++;
    if (this.#start > 64 && this.#start * 2 > this.#sorted.length) {
      this.#sorted.splice(0, this.#start);
      this.#start = 0;
    }
  }

  #upper(instant: number): number {
    let low = this.#start;
    let high = this.#sorted.length;
    if (low < high && this.#sorted[high - 1]! <= instant) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#sorted[middle]! > instant) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
