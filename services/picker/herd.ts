// The requests about proxies: adding, listing, showing, exporting, retiring, resting, reviving.
import {
  exportRequestSchema,
  getRequestSchema,
  listRequestSchema,
  type ProxyReply,
  restRequestSchema,
  retireRequestSchema,
  reviveRequestSchema,
} from "../../protocol/proxy.ts";
import { isRefusal, type Refusal, refuse } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import type { InstallationKey, Secrets } from "../../runtime/secrets.ts";
import { retire } from "../../state-machines/decide/proxy.ts";
import { restByHand, revive } from "../../state-machines/decide/rest.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { Proxy } from "../../state-machines/fold/state.ts";
import { viewProxy } from "../../state-machines/view.ts";
import { Adding } from "./adding.ts";
import { exportPage, exportReply, hasLabels } from "./export.ts";
import { eachOf, type Job } from "./job.ts";
import type { Leader } from "./leader.ts";
import { Page } from "./page.ts";

type Respond = (answer: object) => void;

export interface HerdPorts {
  leader: Leader;
  secrets: Pick<Secrets, "put" | "get">;
  key: InstallationKey;
}

export class HerdRequests {
  readonly #ports: HerdPorts;
  readonly #adding: Adding;

  constructor(ports: HerdPorts) {
    this.#ports = ports;
    this.#adding = new Adding(ports);
  }

  async add(body: unknown, respond: Respond, arrivedAt: number): Promise<void> {
    const added = await this.#adding.add(body);
    if ("refusal" in added) this.#read(respond, arrivedAt, () => added.refusal);
    else this.#submit({ ...added, grows: true, respond, arrivedAt });
  }

  list(body: unknown, respond: Respond, arrivedAt: number): void {
    const read = readAs(listRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const { state, labels } = read.value;
    const page = new Page(read.value, (id) => {
      const proxy = this.#state.proxies.get(id);
      if (proxy === undefined || (state !== undefined && proxy.state !== state)) return undefined;
      return hasLabels(proxy, labels) ? viewProxy(this.#state, proxy) : undefined;
    });
    this.#readPage(respond, arrivedAt, { page, reply: () => ({ proxies: page.items, ...page.next }) });
  }

  export(body: unknown, respond: Respond, arrivedAt: number): void {
    const { secrets, key } = this.#ports;
    const read = readAs(exportRequestSchema, body);
    if ("refusal" in read) return this.#read(respond, arrivedAt, () => read.refusal);
    const page = exportPage({ state: this.#state, secrets, key }, read.value);
    this.#readPage(respond, arrivedAt, { page, reply: () => exportReply(page) });
  }

  /** Each slice is a job of its own, behind those that wait by then. */
  #readPage(respond: Respond, arrivedAt: number, asked: { page: Page<unknown>; reply: () => object }): void {
    const { page, reply } = asked;
    this.#submit({
      run: () => true,
      answer: () => (page.look((after) => this.#state.ids.after(after)) ? reply() : {}),
      respond: (answer) =>
        page.isWhole || isRefusal(answer) ? respond(answer) : this.#readPage(respond, arrivedAt, asked),
      arrivedAt,
    });
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
