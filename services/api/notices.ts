// Hears which pools have a new leader. A new leader does not have the requests that the last one left unanswered.
import { noticeIn } from "../../protocol/notice.ts";
import { noticeSubject, noticeSubjects } from "../../protocol/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";

export class Notices {
  /** By pool. */
  readonly #terms = new Map<string, number>();
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(bus: Bus) {
    bus.nc.subscribe(noticeSubjects, {
      callback: (error, message) => {
        if (error === null) this.#heard(message.subject.slice(noticeSubject("").length), message.string());
      },
    });
  }

  /** Calls back when the pool has a new leader, until the returned function is called. */
  onNewLeader(pool: string, callback: () => void): () => void {
    const ofPool = this.#listeners.get(pool) ?? new Set();
    this.#listeners.set(pool, ofPool.add(callback));
    return () => {
      ofPool.delete(callback);
      if (ofPool.size === 0 && this.#listeners.get(pool) === ofPool) this.#listeners.delete(pool);
    };
  }

  #heard(pool: string, text: string): void {
    const term = noticeIn(text)?.term;
    if (term === undefined || term <= (this.#terms.get(pool) ?? 0)) return;
    this.#terms.set(pool, term);
    for (const callback of [...(this.#listeners.get(pool) ?? [])]) callback();
  }
}
