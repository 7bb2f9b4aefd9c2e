// Deliberate faults in the order and the time in which waiting requests are served; see faults.ts.
import type { Fault } from "./edit.ts";

export const waitingFaults: Record<string, Fault> = {
  "unfair-waiting": {
    what: "the latest request that waits is served first",
    edits: [
      {
        file: "state-machines/queue/wait-group.ts",
        find: 'free = new Heap<"place", HolderQueue>("place", (a, b) => a.order < b.order)',
        put: 'free = new Heap<"place", HolderQueue>("place", (a, b) => a.order > b.order)',
      },
      {
        file: "state-machines/queue/wait-group.ts",
        find: "return b.order < a.order ? b : a;",
        put: "return b.order > a.order ? b : a;",
      },
    ],
    by: ["fairness"],
    quick: 3,
  },
  "wait-forgotten": {
    what: "waiting requests are not looked at after a request of the same turn has freed a proxy",
    edits: [
      {
        file: "state-machines/queue/requests.ts",
        find: "      if (hasMoved) desk.moved();\n",
        put: "",
      },
    ],
    by: ["waiting"],
    quick: 3,
  },
  "wait-one-commit": {
    what: "waiting requests are served one commit after the one in which time or an outcome has freed a proxy",
    edits: [
      {
        file: "state-machines/engine.ts",
        find: "    this.#isSettled = tick(turn);\n    this.#serveWaiting(turn, hasRoom);\n",
        put: "    if (turn.events.length === 0) this.#serveWaiting(turn, hasRoom);\n    this.#isSettled = tick(turn);\n",
      },
      {
        file: "state-machines/engine.ts",
        find: "return this.requests.size > 0 || this.waiting.isDue || !this.#isSettled;",
        put: "return !this.#isSettled || this.requests.size > 0 || this.waiting.next() !== undefined;",
      },
    ],
    by: ["waiting"],
    quick: 4,
  },
};
