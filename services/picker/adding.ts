// Adds lists of proxies. Each list is read, its logins are stored, then it is decided. Lists are taken one after the
// other, so that their order is kept. A list is read in pieces, and lease requests are served between them.
import { type AddReply, type AddRequest, rejectedListedMax } from "../../protocol/proxy.ts";
import { overloaded, type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import type { Answer, Command } from "../../state-machines/command.ts";
import type { Newcomer } from "../../state-machines/decide/proxy.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { type EntryPorts, type ReadEntries, readEntries } from "./entries.ts";

const waitingMax = 200;
const waitingBytesMax = 32 * 1024 ** 2;

/** Its retired proxies are remembered for an hour or longer. */
const fullRetryMs = 60_000;

export interface AddingPorts extends EntryPorts {
  secrets: Pick<Secrets, "put">;
  leader: { readonly state: Pick<PoolState, "pool" | "proxies"> };
  /** The most proxies of a pool, retired ones included. Absent: no bound. */
  proxiesMax?: number | undefined;
}

interface Added {
  commands: Extract<Command, { type: "add" }>[];
  reply(each: readonly Answer[]): AddReply;
  /** To be called when the command is answered, decided or not. */
  over(): void;
}

export class Adding {
  readonly #ports: AddingPorts;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #waitingBytes = 0;
  /** New proxies of lists whose commands are not answered yet. A few of them may be in the pool already. */
  #coming = 0;

  constructor(ports: AddingPorts) {
    this.#ports = ports;
  }

  /**
   * Returns the command to decide, or the reason for a refusal. In the order of the calls.
   * @param bytes size of the request.
   */
  async add(request: AddRequest, bytes = 0): Promise<Added | { refusal: Refusal }> {
    if (this.#waiting >= waitingMax) return { refusal: overloaded(`More than ${waitingMax} lists are waiting.`) };
    if (this.#waitingBytes + bytes > waitingBytesMax)
      return { refusal: overloaded(`The lists that wait already have ${waitingBytesMax >> 20} MiB.`) };
    this.#waiting++;
    this.#waitingBytes += bytes;
    const prepared = this.#last
      .then(() => this.#prepare(request))
      .finally(() => {
        this.#waiting--;
        this.#waitingBytes -= bytes;
      });
    this.#last = prepared.catch(() => {});
    return prepared;
  }

  async #prepare(request: AddRequest): ReturnType<Adding["add"]> {
    const entries = await readEntries(request, this.#ports);
    const { newcomers, logins } = entries;
    const added = this.#newAmong(newcomers);
    const refusal = this.#fullFor(added);
    if (refusal !== undefined) return { refusal };
    try {
      // Before the command enters the loop: a proxy in the ledger whose login is lost could never be used.
      if (logins.size > 0) await this.#ports.secrets.put(logins);
    } catch {
      const message = "The logins could not be stored: the broker does not answer.";
      return { refusal: refuse("unavailable", message, { retryAfterMs: 1000 }) };
    }
    this.#coming += added;
    return {
      commands: newcomers.map((newcomer) => ({ type: "add", newcomer })),
      reply: (each) => addReply(entries, each, request),
      over: () => {
        this.#coming -= added;
      },
    };
  }

  /** Proxies that the pool knows already may be added again at any time. */
  #newAmong(newcomers: readonly Newcomer[]): number {
    const { proxies } = this.#ports.leader.state;
    return new Set(newcomers.flatMap(({ id }) => (proxies.has(id) ? [] : [id]))).size;
  }

  #fullFor(added: number): Refusal | undefined {
    const { leader, proxiesMax = Number.POSITIVE_INFINITY } = this.#ports;
    const { pool, proxies } = leader.state;
    const more = this.#coming + added;
    if (added === 0 || proxies.size + more <= proxiesMax) return undefined;
    const message =
      `The pool ${pool} has ${proxies.size} proxies, those retired in the last hour included. With ${more} more it ` +
      `would have more than the ${proxiesMax} that REMUDA_PROXIES_MAX allows. Retire proxies, or raise it.`;
    return overloaded(message, fullRetryMs);
  }
}

function addReply({ ids, rejected }: ReadEntries, each: readonly Answer[], asked: { ids: boolean }): AddReply {
  const counts = { added: 0, already: 0, updated: 0 };
  // Checked above.
  for (const answer of each) if ("proxy" in answer && answer.proxy in counts) counts[answer.proxy as "added"]++;
  return {
    ...counts,
    rejected: rejected.slice(0, rejectedListedMax),
    rejectedCount: rejected.length,
    ...(asked.ids ? { ids } : {}),
  };
}
