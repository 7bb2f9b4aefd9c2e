// A process and its descendants. A shell that is killed leaves its children running, and they would go on making
// requests. Only Linux lists descendants. Elsewhere only the process itself is known. A descendant that detaches from
// its parents before it is first seen is not found.
import { readdirSync, readFileSync } from "node:fs";
import { birthOf, isAlive, type ProcessRecord } from "../runtime/broker/record.ts";
import { resultOr } from "../runtime/fault.ts";

export class Descent {
  /** By pid. A process stays here when its parent is gone. */
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
  const names = resultOr(() => readdirSync("/proc"), []).filter((name) => /^\d+$/.test(name));
  return names.map((name) => {
    // "" if it ended between the two reads.
    const stat = resultOr(() => readFileSync(`/proc/${name}/stat`, "utf8"), "");
    // The name, in parentheses, may hold any character. After it come the state and the parent.
    return [Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1])];
  });
}
