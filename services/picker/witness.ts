// The witness of a ledger: its last commit, kept outside its stream. A ledger that was purged, deleted or restored to
// an earlier state would otherwise be led from there, and all limits since would be forgotten. It is kept in the data
// directory and in the bucket of secrets. The later one counts.
//
// It also says when its leader was last alive, so that the next leader on this machine knows how much time has passed
// since then (pool-time.ts).
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { headers } from "@nats-io/transport-node";
import type { Logger } from "pino";
import { z } from "zod";
import { secretsBucket } from "../../protocol/subjects.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import { readIfThere, replaceFile } from "../../runtime/files.ts";
import { answerOf, ifStream, storedMessage, streamInfo } from "../../runtime/jetstream-api.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import type { Kept } from "./pool-time.ts";

const witnessSchema = z.object({
  /** Of the commit: its place in the stream, its number, and the hash of its bytes. */
  seq: z.int(),
  n: z.int(),
  hash: z.string(),
  /** When the pool was opened. */
  opened: z.int(),
  /** How often an operator has accepted the loss of a ledger of this pool. */
  forgotten: z.int(),
  term: z.int(),
  at: z.int(),
  boot: z.object({ id: z.string(), ms: z.number() }).exactOptional(),
});
export type Witness = z.infer<typeof witnessSchema>;

/** No pool's name begins like this. So no secret has this key. */
const prefix = `$KV.${secretsBucket}._witness.`;
const stream = `KV_${secretsBucket}`;
const fileEnd = ".json";
const storeMs = 2000;

interface WitnessPorts {
  bus: Bus;
  key: Pick<InstallationKey, "seal" | "unseal">;
  log: Pick<Logger, "warn">;
  /** Of the data directory. Absent: kept in the bucket alone. */
  folder: string | undefined;
}

export class Witnesses {
  readonly #ports: WitnessPorts;

  constructor(ports: WitnessPorts) {
    this.#ports = ports;
  }

  /** Pools that have a witness. */
  async names(): Promise<string[]> {
    const { bus, folder } = this.#ports;
    const info = await ifStream(streamInfo(bus, stream, { subjects_filter: `${prefix}*` }));
    const stored = Object.keys(info?.state.subjects ?? {}).map((subject) => subject.slice(prefix.length));
    return [...new Set([...stored, ...(folder === undefined ? [] : filesIn(folder))])];
  }

  /**
   * `kept`: the pool's time, as the last leader on this machine kept it.
   * @throws Fault "fix-setup" if it cannot be read.
   */
  async of(pool: string): Promise<{ witness: Witness | undefined; kept: Kept | undefined }> {
    const [stored, filed] = [(await this.#stored(pool)).witness, this.#filed(pool)];
    const witness = filed === undefined || (stored !== undefined && isLater(stored, filed)) ? stored : filed;
    return { witness, kept: filed?.boot && { term: filed.term, at: filed.at, boot: filed.boot } };
  }

  /**
   * The file is written before this returns. A later witness is not replaced. Resolves with whether it is stored in the
   * bucket.
   */
  async keep(pool: string, witness: Witness): Promise<boolean> {
    const { bus, key, log, folder } = this.#ports;
    try {
      const filed = this.#filed(pool);
      if (folder !== undefined && (filed === undefined || !isLater(filed, witness))) {
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        replaceFile(this.#pathOf(pool), `${JSON.stringify(witness)}\n`);
      }
      const { witness: stored, seq } = await this.#stored(pool);
      if (stored !== undefined && isLater(stored, witness)) return false;
      const expected = headers();
      expected.set("Nats-Expected-Last-Subject-Sequence", String(seq));
      const { boot: _, ...elsewhere } = witness; // Other machines have other boots.
      const bytes = key.seal(JSON.stringify(elsewhere));
      const reply = await requestOn(bus, `${prefix}${pool}`, bytes, { timeoutMs: storeMs, headers: expected });
      answerOf(reply.string());
      return true;
    } catch (error) {
      log.warn({ pool, why: messageOf(error) }, "the witness of the ledger could not be stored; trying again");
      return false;
    }
  }

  async #stored(pool: string): Promise<{ witness: Witness | undefined; seq: number }> {
    const { bus, key } = this.#ports;
    const message = await ifStream(storedMessage(bus, stream, { last_by_subj: `${prefix}${pool}` }));
    if (message === undefined) return { witness: undefined, seq: 0 };
    if (message.header("KV-Operation") !== undefined) return { witness: undefined, seq: message.seq };
    return { witness: parsed(key.unseal(message.bytes), `The bucket ${secretsBucket}`), seq: message.seq };
  }

  #filed(pool: string): Witness | undefined {
    const text = this.#ports.folder === undefined ? undefined : readIfThere(this.#pathOf(pool));
    return text === undefined ? undefined : parsed(text, this.#pathOf(pool));
  }

  #pathOf(pool: string): string {
    return join(this.#ports.folder ?? "", `${pool}${fileEnd}`);
  }
}

function filesIn(folder: string): string[] {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return readdirSync(folder)
    .filter((name) => name.endsWith(fileEnd))
    .map((name) => name.slice(0, -fileEnd.length));
}

function parsed(text: string, where: string): Witness {
  try {
    return witnessSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new Fault("fix-setup", `${where} has a ledger's witness that cannot be read. Restore it.`, { cause });
  }
}

function isLater(one: Witness, other: Witness): boolean {
  return one.forgotten > other.forgotten || (one.forgotten === other.forgotten && one.n > other.n);
}

/**
 * Describes the commits that the ledger lacks, in a sentence. Undefined: it has the witnessed commit.
 * @param found.hash of the commit with the witness's number; undefined if there is none.
 */
export function lossIn(
  pool: string,
  witness: Pick<Witness, "n" | "hash" | "seq" | "opened">,
  found: { commits: number; hash: string | undefined },
): string | undefined {
  // The pool was deleted.
  if (witness.n === 0 || found.hash === witness.hash) return undefined;
  const { commits } = found;
  const opened = witness.opened > 0 ? `, opened ${new Date(witness.opened).toISOString()}` : "";
  const known = `it had ${witness.n} commits (the last at sequence ${witness.seq}${opened})`;
  if (commits === 0) return `The ledger of pool ${pool} is gone: ${known}`;
  if (commits < witness.n) return `The ledger of pool ${pool} ends at commit ${commits}: ${known}`;
  return `The ledger of pool ${pool} is another one: commit ${witness.n} differs from the one that was stored`;
}
