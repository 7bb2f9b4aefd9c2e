// An undici dispatcher that takes a use before every request. fetch sends each hop of a redirect through its
// dispatcher, so each hop takes its own use. Retries on another proxy, made here, take one each as well.
import { Dispatcher } from "undici";
import type { Outcome } from "../protocol/wire.ts";
import type { Agents } from "../transport/agents.ts";
import type { Use } from "./block.ts";
import { type Call, Exchange } from "./exchange.ts";
import { idempotent } from "./fetch.ts";
import { type Replay, replayOf } from "./replay.ts";
import { type TokenUse, withRejection, withToken } from "./token.ts";

/** Connections through the proxies of leases. */
export type ProxyAgents = Pick<Agents, "enter" | "leave">;

export interface Uses {
  /** @param avoid ids of proxies that have failed this request. */
  take(avoid: ReadonlySet<string>): Promise<Use>;
  /** The use has ended with this outcome. */
  ended(use: Use, outcome: Outcome): void;
}

export class LeasedDispatcher extends Dispatcher {
  readonly #uses: Uses;
  readonly #agents: ProxyAgents;
  readonly #retries: number;
  readonly #token: { use: TokenUse; origin: string } | undefined;
  readonly #call: Call;

  /** @param given.token how requests to that origin carry their lease's token. */
  constructor(
    uses: Uses,
    agents: ProxyAgents,
    given: {
      retries: number;
      token?: { use: TokenUse; origin: string } | undefined;
      signal: AbortSignal | undefined;
    },
  ) {
    super();
    this.#uses = uses;
    this.#agents = agents;
    this.#retries = given.retries;
    this.#token = given.token;
    this.#call = { signal: given.signal, startedAt: performance.now() };
  }

  override dispatch(sent: Dispatcher.DispatchOptions, inner: Dispatcher.DispatchHandler): boolean {
    const replay = replayOf(sent.body);
    void this.#send({ ...sent, body: replay.body ?? null }, inner, { replay, avoid: new Set(), left: this.#retries });
    return true;
  }

  async #send(sent: Dispatcher.DispatchOptions, inner: Dispatcher.DispatchHandler, tries: Tries): Promise<void> {
    let use: Use;
    try {
      use = await this.#uses.take(tries.avoid);
    } catch (error) {
      tries.replay.close();
      inner.onError?.(tries.earlier ?? (error as Error)); // Only Errors are thrown there.
      return;
    }
    const { lease } = use.block;
    const agent = this.#agents.enter(lease);
    let goesOn = false;
    new Exchange({
      use,
      agent,
      sent: this.#token === undefined ? sent : withToken(sent, lease, this.#token),
      call: this.#call,
      fresh: tries.fresh === true,
      inner,
      onOutcome: (outcome) => {
        this.#agents.leave(agent);
        queueMicrotask(() => {
          if (!goesOn) tries.replay.close();
        });
        this.#uses.ended(
          use,
          this.#token?.origin === String(sent.origin) ? withRejection(outcome, lease, this.#token.use) : outcome,
        );
      },
      onTrouble: (error, { next, unsent }) => {
        if (!tries.replay.repeatable || (!unsent && !idempotent.includes(sent.method))) return false;
        if (next === "again" ? tries.fresh === true : tries.left === 0) return false;
        const onward: Tries =
          next === "again"
            ? { ...tries, fresh: true, earlier: error }
            : {
                ...tries,
                fresh: false,
                avoid: new Set([...tries.avoid, lease.proxyId]),
                left: tries.left - 1,
                earlier: error,
              };
        goesOn = true;
        void this.#send(sent, inner, onward);
        return true;
      },
    }).send();
  }
}

interface Tries {
  replay: Replay;
  avoid: ReadonlySet<string>;
  /** Further tries on other proxies. */
  left: number;
  /** On a new connection, because the previous one was an old one that broke. */
  fresh?: boolean;
  /** The error of the previous try. */
  earlier?: Error;
}
