// The broker's clock, as its clients see it, which is set forward or back. The machine's clock stays. A relay changes
// the times in the broker's answers and in the requests to it. A message that was stored before a step keeps its time.
import { type Duplex, Transform } from "node:stream";
import type { Lenses } from "../kit/relay.ts";

const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;
const msChars = "2026-01-01T00:00:00.000".length;
/** The beginning of a time, at the end of a chunk. A message never ends with one of these characters. */
const begun = /[\dT:.-]{1,32}$/;

export class SteppedClock {
  readonly #steps: { at: number; byMs: number }[] = [];

  /** From now on it shows this much more. @param byMs whole seconds. */
  step(byMs: number): void {
    this.#steps.push({ at: Date.now(), byMs });
  }

  /** How much more it shows now than at first. */
  get offMs(): number {
    return this.#steps.reduce((sum, { byMs }) => sum + byMs, 0);
  }

  /** For a relay. */
  lenses(): Lenses {
    return { answers: () => this.#lens((at) => this.#shown(at)), requests: () => this.#lens((at) => this.#meant(at)) };
  }

  /** Changes the times in a stream of bytes, and none of its lengths. */
  #lens(change: (at: number) => number): Duplex {
    let rest = "";
    return new Transform({
      transform: (chunk: Buffer, _, done) => {
        if (this.#steps.length === 0 && rest === "") return done(null, chunk);
        const text = rest + chunk.toString("latin1");
        rest = begun.exec(text)?.[0] ?? "";
        const whole = text.slice(0, text.length - rest.length);
        const changed = whole.replace(time, (told) => withMs(told, change(Date.parse(told))));
        done(null, Buffer.from(changed, "latin1"));
      },
    });
  }

  #shown(at: number): number {
    return this.#steps.reduce((shown, step) => (at >= step.at ? shown + step.byMs : shown), at);
  }

  /** The first time at which it showed this or more. */
  #meant(shown: number): number {
    let offMs = 0;
    for (const { at, byMs } of this.#steps) {
      if (shown - offMs < at) break;
      offMs += byMs;
      if (shown - offMs < at) return at;
    }
    return shown - offMs;
  }
}

/** The time as told, with other digits down to the milliseconds. */
function withMs(told: string, at: number): string {
  const kept = Math.min(told.length - 1, msChars);
  return new Date(at).toISOString().slice(0, kept) + told.slice(kept);
}
