// The open pools and their policies, as the gateway knows them: which pool a target belongs to, and how its tunnels are
// counted. A list that is older than a moment is not used, so that a new policy takes effect at once. Under load the next
// list is read before that, so that no request waits for it.
import { defaultPolicy, type Policy } from "../../events/policy.ts";
import { mostSpecific } from "../../protocol/target-hosts.ts";

export interface KnownPool {
  pool: string;
  policy: Policy;
}

const ageMsMax = 25;
/** At this share of its age the next list is read, while requests go on with the present one. */
const aheadShare = 0.5;
/** Listing very many pools takes long, so a list is kept for this many times the duration of the listing. */
const ageShareMin = 5;

export class Pools {
  readonly #read: () => Promise<readonly KnownPool[]>;
  #known: readonly KnownPool[] | undefined;
  #readAt = Number.NEGATIVE_INFINITY;
  #tookMs = 0;
  #reading: Promise<void> | undefined;

  constructor(read: () => Promise<readonly KnownPool[]>) {
    this.#read = read;
  }

  /** @param named the pool that the request names. @throws as reading does, if no list was ever read. */
  async poolFor(host: string, named: string | undefined): Promise<KnownPool> {
    const known = await this.#list();
    const pool =
      named ??
      mostSpecific(
        host,
        known.map(({ pool, policy }) => ({ pool, hosts: policy.hosts })),
      ) ??
      "default";
    return known.find((each) => each.pool === pool) ?? { pool, policy: defaultPolicy }; // A lease request will tell.
  }

  /** A pool has been opened, or has another leader. */
  forget(): void {
    this.#readAt = Number.NEGATIVE_INFINITY;
  }

  async #list(): Promise<readonly KnownPool[]> {
    const age = performance.now() - this.#readAt;
    const most = Math.max(ageMsMax, this.#tookMs * ageShareMin);
    if (age > most * aheadShare) {
      this.#reading ??= this.#refresh().finally(() => {
        this.#reading = undefined;
      });
      this.#reading.catch(() => {}); // A request that needs it is told.
    }
    if (age > most) await this.#reading;
    return this.#known ?? [];
  }

  async #refresh(): Promise<void> {
    const startedAt = performance.now();
    try {
      this.#known = await this.#read();
    } catch (error) {
      if (this.#known === undefined) throw error; // An old list is better than none: the leases have their own answer.
    }
    this.#readAt = performance.now();
    this.#tookMs = this.#readAt - startedAt;
  }
}
