// A process and its descendants, as the kernel knows them. A shell that is ended leaves its children running, and they
// would go on making requests. Linux only: elsewhere only the process itself is known. A descendant that detaches from
// its parents before it is first seen here is not found.
import { readdirSync, readFileSync } from "node:fs";
import { birthOf, isAlive, type ProcessRecord } from "../runtime/broker/record.ts";

export class Descent {
  /** By pid. A process that was seen once stays, even when its parent is gone. */
  readonly #seen = new Map<number, ProcessRecord>();
  readonly #root: number;

  constructor(root: number) {
    this.#root = root;
    this.#remember(root);
  }

  /** Includes children that are first seen now. */
  signal(signal: NodeJS.Signals): void {
    this.#look();
    for (const record of this.#seen.values()) {
      // The pid may belong to another process by now. If that cannot be checked, only the root process is signalled.
      if (record.birth !== "" ? !isAlive(record) : record.pid !== this.#root) continue;
      try {
        process.kill(record.pid, signal);
      } catch {
        // It ended at this moment, or belongs to another user (a setuid program).
      }
    }
  }

  #look(): void {
    const parents = parentsOfAll();
    for (let grown = true; grown; ) {
      grown = false;
      for (const [pid, parent] of parents) {
        if (this.#seen.has(pid) || !this.#seen.has(parent)) continue;
        this.#remember(pid);
        grown = true;
      }
    }
  }

  #remember(pid: number): void {
    this.#seen.set(pid, { pid, birth: birthOf(pid) ?? "" });
  }
}

function parentsOfAll(): [pid: number, parent: number][] {
  let names: string[];
  try {
    names = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return names.flatMap((name): [number, number][] => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      // The name, in parentheses, may hold any character. After it come the state and the parent.
      const parent = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1];
      return [[Number(name), Number(parent)]];
    } catch {
      return []; // It ended between the two reads.
    }
  });
}
