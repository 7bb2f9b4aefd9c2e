// An undici dispatcher that takes a use before every request. fetch sends each hop of a redirect through its
// dispatcher, so each hop takes its own use. Retries on another proxy, made here, take one each as well.
import { Dispatcher } from "undici";
import type { Outcome } from "../protocol/wire.ts";
import type { Agents } from "../transport/agents.ts";
import type { Use } from "./block.ts";
import { Exchange } from "./exchange.ts";
import { idempotent } from "./fetch.ts";
import { type TokenUse, withRejection, withToken } from "./token.ts";

export interface Uses {
  /** @param avoid ids of proxies that have failed this request. */
  take(avoid: ReadonlySet<string>): Promise<Use>;
  /** The use has ended with this outcome. */
  ended(use: Use, outcome: Outcome): void;
}

export class LeasedDispatcher extends Dispatcher {
  readonly #uses: Uses;
  readonly #agents: Agents;
  readonly #retries: number;
  readonly #token: { use: TokenUse; origin: string } | undefined;

  /** @param given.token how requests to that origin carry their lease's token. */
  constructor(
    uses: Uses,
    agents: Agents,
    given: { retries: number; token?: { use: TokenUse; origin: string } | undefined },
  ) {
    super();
    this.#uses = uses;
    this.#agents = agents;
    this.#retries = given.retries;
    this.#token = given.token;
  }

  override dispatch(sent: Dispatcher.DispatchOptions, inner: Dispatcher.DispatchHandler): boolean {
    const repeats = idempotent.includes(sent.method) && (sent.body === null || sent.body === undefined);
    void this.#send(sent, inner, { avoid: new Set(), left: repeats ? this.#retries : 0 });
    return true;
  }

  /** @param earlier the error of the previous try. */
  async #send(
    sent: Dispatcher.DispatchOptions,
    inner: Dispatcher.DispatchHandler,
    tries: { avoid: Set<string>; left: number; earlier?: Error },
  ): Promise<void> {
    let use: Use;
    try {
      use = await this.#uses.take(tries.avoid);
    } catch (error) {
      inner.onError?.(tries.earlier ?? (error as Error)); // Only Errors are thrown there.
      return;
    }
    const { lease } = use.block;
    const agent = this.#agents.enter(lease);
    new Exchange({
      use,
      agent,
      sent: this.#token === undefined ? sent : withToken(sent, lease, this.#token),
      inner,
      onOutcome: (outcome) => {
        this.#agents.leave(agent);
        this.#uses.ended(
          use,
          this.#token?.origin === String(sent.origin) ? withRejection(outcome, lease, this.#token.use) : outcome,
        );
      },
      onTrouble: (error) => {
        if (tries.left === 0) return false;
        const avoid = new Set([...tries.avoid, lease.proxyId]);
        void this.#send(sent, inner, { avoid, left: tries.left - 1, earlier: error });
        return true;
      },
    }).send();
  }
}
