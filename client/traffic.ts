// Requests to targets, in all the ways that this client offers: `fetch`, the requests of a held lease, and those that
// another tool dispatches. Each takes a use, goes through the use's proxy, and is reported once when it has ended.
import type { Dispatcher, Response } from "undici";
import type { Outcome } from "../protocol/wire.ts";
import { Agents } from "../transport/agents.ts";
import { mayRest } from "../transport/classify.ts";
import type { Block, Use } from "./block.ts";
import { CallersWord } from "./callers-word.ts";
import { type AnyDispatcher, DispatchedRequests } from "./dispatched.ts";
import { RemudaFault } from "./fault.ts";
import { type FetchInit, type FetchInput, fetchThrough, originOf, signalOf, type Through, type Via } from "./fetch.ts";
import type { Seen } from "./held-lease.ts";
import { type FetchLease, Kinds, type KindsOptions } from "./kinds.ts";
import { LeasedDispatcher, type Uses } from "./leased-dispatcher.ts";
import { poolName, type Settings } from "./options.ts";
import type { Outcomes } from "./outcomes.ts";
import { type Fetched, fetchWithToken } from "./second-try.ts";
import { type TokenUse, tokenUseOf } from "./token.ts";

export interface TrafficOptions extends Pick<KindsOptions, "ask" | "giveBack"> {
  settings: Settings;
  outcomes: Outcomes;
  /** @throws RemudaFault "closed". */
  checkOpen(): void;
  /** Work that `close()` of the client waits for. */
  track<T>(work: Promise<T>): Promise<T>;
}

/** After a failed try the wait for another proxy is short, because the caller has already waited once. */
const retryWaitMsMax = 5000;

export class Traffic {
  readonly #options: TrafficOptions;
  readonly #agents: Agents;
  readonly #kinds: Kinds;

  constructor(options: TrafficOptions) {
    const { settings, ask, giveBack } = options;
    this.#options = options;
    this.#agents = new Agents({
      ...settings.fetch,
      max: settings.fetch.agentsMax,
      proxyCa: settings.tls.proxyCa,
      targetCa: settings.tls.targetCa,
    });
    this.#kinds = new Kinds({ bounds: settings.fetch, retryMs: settings.retryMs, ask, giveBack });
  }

  /** @throws as `Client.fetch` does. */
  async fetch(input: FetchInput, init: FetchInit | undefined, via: Via): Promise<Response> {
    this.#options.checkOpen();
    const use = tokenUseOf(via.token, this.#options.settings.token);
    if (use === undefined) return (await this.#fetchOnce(input, init, { ...via, use })).response;
    return fetchWithToken((notToken) => this.#fetchOnce(input, init, { ...via, use, notToken }), { use, input, init });
  }

  /**
   * For other tools. Its requests carry no guest token: only the caller knows to which origin a token belongs.
   * @throws RemudaFault "wrong-options".
   */
  dispatcher(via: Through): AnyDispatcher {
    const { retries = this.#options.settings.fetch.retries } = via;
    const usesFor = this.#usesOf(via);
    const dispatched: Dispatcher = new DispatchedRequests((signal) => {
      const uses = usesFor({ signal, ended: (use, outcome) => void this.#ended(use, outcome) });
      return new LeasedDispatcher(uses, this.#agents, { retries, signal });
    });
    return dispatched as AnyDispatcher; // Every version calls the same methods.
  }

  /** The requests of a held lease. */
  onlyFrom(
    block: Block,
    { reported, held, input, init }: Seen & { input: FetchInput; init: FetchInit | undefined },
  ): LeasedDispatcher {
    const uses: Uses = {
      take: async () => {
        this.#options.checkOpen();
        const use = block.take();
        if (use === undefined) throw new RemudaFault("lease-over", "The lease has no time or no use left.");
        held.began(use);
        return use;
      },
      ended: (use, outcome) => {
        reported.add(use.n);
        held.ended(use, outcome, (...told) => void this.#ended(...told));
      },
    };
    const { token: use } = this.#options.settings;
    const token = use === undefined || block.lease.token === undefined ? undefined : { use, origin: originOf(input) };
    return new LeasedDispatcher(uses, this.#agents, { retries: 0, token, signal: signalOf(input, init) });
  }

  /** The proxy of this lease has begun to rest. */
  stop(leaseId: string): void {
    this.#kinds.stop(leaseId);
  }

  /** Requests that wait for a use fail with the error. Unused leases go back. */
  refuse(error: Error): void {
    this.#kinds.close(error);
  }

  /** Requests that are under way end, and are reported. */
  close(): Promise<void> {
    return this.#agents.close();
  }

  async #fetchOnce(
    input: FetchInput,
    init: FetchInit | undefined,
    via: Omit<Via, "token"> & { use: TokenUse | undefined; notToken?: string | undefined },
  ): Promise<Fetched> {
    const { retries = this.#options.settings.fetch.retries } = via;
    const request: FetchLease = via.use === undefined ? (via.request ?? {}) : { ...via.request, token: true };
    const signal = signalOf(input, init);
    let rejected: Promise<void> | undefined;
    let tokenId: string | undefined;
    const word = new CallersWord(via.outcome, (use, outcome) => {
      const reported = this.#ended(use, outcome);
      if (outcome.tokenRejected === true) rejected = reported;
    });
    const began = (taken: Use): void => {
      tokenId = taken.block.lease.token?.tokenId;
      word.began(taken);
    };
    const ended = (use: Use, outcome: Outcome): void => word.ended(use, outcome);
    const uses = this.#usesOf({ ...via, request })({ signal, notToken: via.notToken, began, ended });
    const token = via.use === undefined ? undefined : { use: via.use, origin: originOf(input) };
    const through = new LeasedDispatcher(uses, this.#agents, { retries, token, signal });
    try {
      const response = await fetchThrough(through, input, init);
      if (tokenId === undefined || via.use?.rejected.includes(response.status) !== true) await word.about(response);
      return { response, tokenId, reported: async () => rejected };
    } finally {
      word.none();
    }
  }

  /** @throws RemudaFault "wrong-options". */
  #usesOf(via: Through): (call: CallOfUses) => Uses {
    const { settings, checkOpen } = this.#options;
    const { waitMs = settings.fetch.waitMs, request = {} } = via;
    const pool = poolName(via.pool ?? settings.pool);
    return ({ signal, notToken, began, ended }) => ({
      take: async (avoid) => {
        checkOpen();
        const patienceMs = avoid.size === 0 ? waitMs : Math.min(waitMs, retryWaitMsMax);
        // A session keeps its proxy: the same one is tried again.
        const avoiding = request.session === undefined ? avoid : new Set<string>();
        const taking = { avoid: avoiding, waitMs: patienceMs, signal, notToken };
        const taken = await this.#kinds.take({ pool, request }, taking);
        began?.(taken);
        return taken;
      },
      ended,
    });
  }

  /** Resolves when the outcome is reported. */
  #ended(use: Use, outcome: Outcome): Promise<void> {
    const { track, outcomes } = this.#options;
    const { tokenId } = outcome;
    if (outcome.tokenRejected === true && tokenId !== undefined) this.#kinds.stopToken(tokenId);
    const known = track(outcomes.report(use.block.lease.pool, outcome));
    if (mayRest(outcome)) use.block.suspectUntil(known);
    use.end();
    return known;
  }
}

/** How one call takes its uses. */
interface CallOfUses {
  signal: AbortSignal | undefined;
  notToken?: string | undefined;
  began?: (use: Use) => void;
  ended: Uses["ended"];
}
