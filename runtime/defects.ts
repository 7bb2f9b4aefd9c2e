// Failures because of bugs. The part that failed is started again, and the others go on. So a bug must be seen: it is
// logged with its stack once, and counted each time.
import type { Logger } from "pino";
import { messageOf } from "./fault.ts";

/** The kinds of parts: fixed words, for a metric's label. */
export type Part = "pool" | "source" | "probe" | "refill" | "executor" | "refresh" | "request" | "process";

export type DefectCounts = Partial<Record<Part, number>>;

/** Beyond this number, no stack is shown. */
const knownMax = 1000;

export class Defects {
  /** How many, for each kind of part that had any. */
  readonly counts: DefectCounts = {};
  readonly #ofPools = new Map<string, number>();
  readonly #log: Pick<Logger, "error">;
  readonly #known = new Set<string>();

  constructor(log: Pick<Logger, "error">) {
    this.#log = log;
  }

  /** How often this pool's leader, or its life in this process, has failed. */
  ofPool(pool: string): number {
    return this.#ofPools.get(pool) ?? 0;
  }

  /** @param where names and ids, for the log. */
  note(part: Part, error: unknown, where: { pool?: string; [name: string]: unknown } = {}): void {
    this.counts[part] = (this.counts[part] ?? 0) + 1;
    if (part === "pool" && where.pool !== undefined) this.#ofPools.set(where.pool, this.ofPool(where.pool) + 1);
    const why = messageOf(error);
    const stack = error instanceof Error ? (error.stack ?? why) : why;
    const isNew = !this.#known.has(stack) && this.#known.size < knownMax;
    if (isNew) this.#known.add(stack);
    if (isNew) this.#log.error({ part, ...where, err: error }, "a part failed because of a bug; the others go on");
    else this.#log.error({ part, ...where, why }, "a part failed because of a known bug; the others go on");
  }
}
