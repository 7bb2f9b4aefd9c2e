// Lists that are added: read, their passwords stored, then decided, one list after the other, so that what comes first stands
// first. A list is read in pieces, between which the leases of others have their turn.
import { addRequestSchema, rejectedListedMax } from "../../protocol/proxy.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import type { InstallationKey, Secrets } from "../../runtime/secrets.ts";
import { add } from "../../state-machines/decide/proxy.ts";
import { readEntries } from "./entries.ts";
import { eachOf, type Job } from "./job.ts";

/** Each may have half a megabyte. */
const waitingMax = 200;

export class Adding {
  readonly #secrets: Pick<Secrets, "put">;
  readonly #key: InstallationKey;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(ports: { secrets: Pick<Secrets, "put">; key: InstallationKey }) {
    this.#secrets = ports.secrets;
    this.#key = ports.key;
  }

  /** What is to be decided; or why nothing is. In the order of the calls. */
  async add(body: unknown): Promise<Pick<Job, "run" | "answer"> | { refusal: Refusal }> {
    const read = readAs(addRequestSchema, body);
    if ("refusal" in read) return read;
    if (this.#waiting >= waitingMax)
      return { refusal: refuse("overloaded", `More than ${waitingMax} lists are waiting.`, { retryAfterMs: 1000 }) };
    this.#waiting++;
    const prepared = this.#last.then(() => this.#prepare(read.value)).finally(() => this.#waiting--);
    this.#last = prepared.catch(() => {});
    return prepared;
  }

  async #prepare(request: { proxies: unknown[]; ids: boolean }): ReturnType<Adding["add"]> {
    const { ids, newcomers, rejected, passwords } = await readEntries(request.proxies, this.#key);
    try {
      // Before the command enters the loop: a proxy in the ledger whose password is lost could never be used.
      if (passwords.size > 0) await this.#secrets.put(passwords);
    } catch {
      const message = "The passwords could not be stored: the broker does not answer.";
      return { refusal: refuse("unavailable", message, { retryAfterMs: 1000 }) };
    }
    const counts = { added: 0, already: 0, updated: 0 };
    return {
      run: eachOf(newcomers, (turn, newcomer) => {
        counts[add(turn, newcomer)]++;
      }),
      answer: () => ({
        ...counts,
        rejected: rejected.slice(0, rejectedListedMax),
        rejectedCount: rejected.length,
        ...(request.ids ? { ids } : {}),
      }),
    };
  }
}
