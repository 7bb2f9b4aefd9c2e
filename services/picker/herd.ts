// The requests about proxies: adding, listing, showing, exporting, retiring, resting, reviving.
import {
  addRequestSchema,
  exportRequestSchema,
  getRequestSchema,
  listRequestSchema,
  type ProxyReply,
  rejectedListedMax,
  restRequestSchema,
  retireRequestSchema,
  reviveRequestSchema,
} from "../../events/proxy.ts";
import { type Refusal, refuse } from "../../events/refusal.ts";
import { readAs } from "../../events/request.ts";
import type { InstallationKey, Secrets } from "../../runtime/secrets.ts";
import { add, retire } from "../../state-machines/herd.ts";
import { restByHand, revive } from "../../state-machines/rest.ts";
import type { Proxy } from "../../state-machines/state.ts";
import type { Turn } from "../../state-machines/turn.ts";
import { viewProxy } from "../../state-machines/view.ts";
import { readEntries } from "./entries.ts";
import { exportPage } from "./export.ts";
import { eachOf, type Job } from "./job.ts";
import type { Leader } from "./leader.ts";
import { pageOf } from "./page.ts";

type Respond = (answer: object) => void;

export interface HerdPorts {
  leader: Leader;
  secrets: Pick<Secrets, "put" | "get">;
  key: InstallationKey;
}

export class HerdRequests {
  readonly #ports: HerdPorts;
  #sortedIds: string[] = [];
  #sortedOf = -1;

  constructor(ports: HerdPorts) {
    this.#ports = ports;
  }

  async add(body: unknown, respond: Respond, arrivedAt: number): Promise<void> {
    const { secrets, key } = this.#ports;
    const read = readAs(addRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const { ids, newcomers, rejected, passwords } = readEntries(read.value.proxies, key);
    try {
      // Before the command enters the loop: a proxy in the ledger whose password is lost could never be used.
      if (passwords.size > 0) await secrets.put(passwords);
    } catch {
      return respond(
        refuse("unavailable", "The passwords could not be stored: the broker does not answer.", { retryAfterMs: 1000 }),
      );
    }
    const counts = { added: 0, already: 0, updated: 0 };
    this.#submit({
      grows: true,
      run: eachOf(newcomers, (turn, newcomer) => {
        counts[add(turn, newcomer)]++;
      }),
      answer: () => ({
        ...counts,
        rejected: rejected.slice(0, rejectedListedMax),
        rejectedCount: rejected.length,
        ...(read.value.ids ? { ids } : {}),
      }),
      respond,
      arrivedAt,
    });
  }

  list(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(listRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const { after, limit, state, labels } = read.value;
    this.#read(respond, arrivedAt, () => {
      const matches = (proxy: Proxy): boolean =>
        (state === undefined || proxy.state === state) &&
        Object.entries(labels ?? {}).every(([key, value]) => proxy.labels[key] === value);
      const { page, next } = pageOf(this.#idsInOrder(), { after, limit }, (id) => {
        const proxy = this.#state.proxies.get(id);
        return proxy !== undefined && matches(proxy) ? viewProxy(this.#state, proxy) : undefined;
      });
      return { proxies: page, ...next };
    });
  }

  export(body: unknown, respond: Respond, arrivedAt: number): void {
    const { secrets, key } = this.#ports;
    const read = readAs(exportRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    this.#read(respond, arrivedAt, () =>
      exportPage({ state: this.#state, ids: this.#idsInOrder(), secrets, key }, read.value),
    );
  }

  get(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(getRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const { id } = read.value;
    this.#read(respond, arrivedAt, (): ProxyReply | Refusal => {
      const proxy = this.#state.proxies.get(id);
      return proxy === undefined
        ? refuse("unknown-proxy", "No proxy of this pool has this id.")
        : viewProxy(this.#state, proxy);
    });
  }

  retire(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(retireRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const { ids, reason } = read.value;
    this.#change(ids, respond, arrivedAt, (turn, proxy) => retire(turn, proxy, reason));
  }

  rest(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(restRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const { ids, forMs, reason } = read.value;
    this.#change(ids, respond, arrivedAt, (turn, proxy) => restByHand(turn, proxy, { forMs, note: reason }));
  }

  revive(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(reviveRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    this.#change(read.value.ids, respond, arrivedAt, revive);
  }

  #change(
    ids: readonly string[],
    respond: Respond,
    arrivedAt: number,
    decide: (turn: Turn, proxy: Proxy) => boolean,
  ): void {
    const reply = { changed: 0, unknown: [] as string[] };
    this.#submit({
      run: eachOf(ids, (turn, id) => {
        const proxy = turn.state.proxies.get(id);
        if (proxy === undefined) reply.unknown.push(id);
        else if (decide(turn, proxy)) reply.changed++;
      }),
      answer: () => reply,
      respond,
      arrivedAt,
    });
  }

  /** Sorted again only when proxies have come or gone. */
  #idsInOrder(): readonly string[] {
    const { proxies, membership } = this.#state;
    if (membership !== this.#sortedOf) {
      this.#sortedIds = [...proxies.keys()].sort();
      this.#sortedOf = membership;
    }
    return this.#sortedIds;
  }

  get #state() {
    return this.#ports.leader.state;
  }

  #submit(job: Omit<Job, "grows"> & { grows?: boolean }): void {
    this.#ports.leader.submit({ grows: false, ...job });
  }

  #read(respond: Respond, arrivedAt: number, answer: () => object): void {
    this.#submit({ run: () => true, answer, respond, arrivedAt });
  }
}
