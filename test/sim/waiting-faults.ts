// Deliberate faults in who is served of those who wait, and when; see faults.ts.
import type { Fault } from "./faults.ts";

export const waitingFaults: Record<string, Fault> = {
  "unfair-waiting": {
    what: "the latest wish that waits is served first",
    edits: [
      {
        file: "state-machines/queue/wait-groups.ts",
        find: 'free = new Heap<"place", Line>("place", (a, b) => a.order < b.order)',
        put: 'free = new Heap<"place", Line>("place", (a, b) => a.order > b.order)',
      },
      {
        file: "state-machines/queue/wait-groups.ts",
        find: "return b.order < a.order ? b : a;",
        put: "return b.order > a.order ? b : a;",
      },
    ],
    by: ["fairness"],
    quick: 3,
  },
  "wait-forgotten": {
    what: "waiting wishes are not looked at after a request of the same turn has freed a proxy",
    edits: [
      {
        file: "services/picker/jobs.ts",
        find: "      if (moved) told.moved();\n",
        put: "",
      },
    ],
    by: ["waiting"],
    quick: 3,
  },
  "wait-one-commit": {
    what: "waiting wishes are served one commit after the one in which time or an outcome has freed a proxy",
    edits: [
      {
        file: "services/picker/leader.ts",
        find: "    this.#settledTicks = tick(turn);\n    this.#serveWaiting(turn, room);\n",
        put: "    if (turn.events.length === 0) this.#serveWaiting(turn, room);\n    this.#settledTicks = tick(turn);\n",
      },
      {
        file: "services/picker/leader.ts",
        find: "return this.#jobs.size > 0 || this.waiting.isDue || !this.#settledTicks;",
        put: "return !this.#settledTicks || this.#jobs.size > 0 || this.waiting.next(this.candidates) !== undefined;",
      },
    ],
    by: ["waiting"],
    quick: 4,
  },
};
