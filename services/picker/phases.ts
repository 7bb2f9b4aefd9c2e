// How long each pool has been in a phase between its discovery and its service: asking, folding, claiming, catching up.
// A phase that lasts is logged. One without progress is given up, and begun again later. So a pool that hangs neither
// hangs silently nor keeps a picker from starting.

const sayAfterMs = 10_000;
const msMax = 30_000;

export interface Phase {
  name: string;
  /** Changes as long as the phase goes on. Undefined: it ends by itself. */
  progress: string | undefined;
}

export class Phases {
  readonly #pools = new Map<string, Phase & { since: number; movedOn: number; saidOn: number }>();

  /**
   * @param phase undefined: the pool is in none now, or its broker is away.
   * @returns the line to log, and whether the phase is to be given up.
   */
  look(pool: string, phase: Phase | undefined, now: number): { say?: string; isLate: boolean } {
    const before = this.#pools.get(pool);
    if (phase === undefined) {
      this.#pools.delete(pool);
      return { isLate: false };
    }
    if (before?.name !== phase.name) {
      this.#pools.set(pool, { ...phase, since: now, movedOn: now, saidOn: now });
      return { isLate: false };
    }
    const { progress } = phase;
    if (progress === undefined || before.progress !== progress) Object.assign(before, { progress, movedOn: now });
    const seconds = Math.round((now - before.since) / 1000);
    if (now - before.movedOn >= msMax) {
      this.#pools.delete(pool);
      return {
        isLate: true,
        say: `the pool is not led after ${seconds} s of ${phase.name} without progress; trying again`,
      };
    }
    if (now - before.saidOn < sayAfterMs) return { isLate: false };
    before.saidOn = now;
    return { isLate: false, say: `the pool is not led yet: ${phase.name} for ${seconds} s` };
  }
}
