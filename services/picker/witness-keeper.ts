// Keeps the witness of one ledger while it is led here: after the claim, regularly, and at the end.
import type { Clock } from "../../runtime/clock.ts";
import type { Leader } from "./leader.ts";
import type { Witness, Witnesses } from "./witness.ts";

const everyMs = 30_000;

interface KeeperPorts {
  pool: string;
  leader: Pick<Leader, "state" | "now" | "last">;
  witnesses: Pick<Witnesses, "keep">;
  clock: Clock;
  /** How often the loss of a ledger of this pool has been accepted. */
  forgotten: number;
}

export class WitnessKeeper {
  readonly #ports: KeeperPorts;
  #keptN = 0;
  #cancel = (): void => {};
  #isKeeping = false;
  #storing: Promise<void> = Promise.resolve();

  constructor(ports: KeeperPorts) {
    this.#ports = ports;
  }

  /** The claim is stored. */
  start(): void {
    this.#isKeeping = true;
    this.#keep();
  }

  /** Resolves when the last witness is stored. The file has it already when this returns. */
  end(): Promise<void> {
    this.#cancel();
    if (this.#isKeeping && this.#ports.leader.last.n > this.#keptN) this.#store();
    this.#isKeeping = false;
    return this.#storing;
  }

  #keep(): void {
    const { leader, clock } = this.#ports;
    // The pool's time goes on without commits, but then nothing needs to know it exactly.
    if (leader.last.n > this.#keptN) this.#store();
    this.#cancel = clock.after(everyMs, () => this.#keep());
  }

  #store(): void {
    const { pool, leader, witnesses, clock, forgotten } = this.#ports;
    const { seq, n, hash } = leader.last;
    const { openedAt: opened, term } = leader.state;
    const boot = clock.boot?.();
    this.#keptN = n;
    const witness: Witness = { seq, n, hash, opened, forgotten, term, at: leader.now(), ...(boot && { boot }) };
    this.#storing = Promise.all([this.#storing, witnesses.keep(pool, witness)]).then(([, isKept]) => {
      if (!isKept && this.#keptN === n) this.#keptN = 0; // Stored again next time, even if no commit has come since.
    });
  }
}
