// One turn of the leader's loop: the state at one instant, and the events decided in it. Each event is folded as it is
// decided, so that later decisions see it. The commit that holds all of them is stored before any request is answered.
import type { Event } from "../../events/event.ts";
import type { TokenRejected } from "../../events/token.ts";
import type { Candidates } from "../candidates/candidates.ts";
import { advance, evolve } from "../fold/evolve.ts";
import type { PoolState } from "../fold/state.ts";
import { type Draw, drawFor } from "./chance.ts";

export class Turn {
  readonly state: PoolState;
  readonly events: Event[] = [];
  readonly #chance: string;
  readonly #onEvent: ((event: Event) => void) | undefined;
  readonly #newId: () => string;
  readonly #candidates: Candidates | undefined;
  /** Rejections that led to no refresh. There are many when a token goes bad, so they are recorded as sums. */
  readonly skipped: TokenRejected[] = [];
  #drawn = false;

  /**
   * @param chance 32 hex digits, drawn by the shell for this turn.
   * @param newId 22 characters, unguessable: for leases and tokens that no request asked for.
   * @param candidates of this state; absent if nothing is granted.
   */
  constructor(
    state: PoolState,
    given: {
      at: number;
      chance: string;
      newId?: () => string;
      candidates?: Candidates;
      onEvent?: (event: Event) => void;
    },
  ) {
    this.state = state;
    this.#newId = given.newId ?? noIds;
    this.#chance = given.chance;
    this.#onEvent = given.onEvent;
    this.#candidates = given.candidates;
    advance(state, given.at);
  }

  get at(): number {
    return this.state.at;
  }

  get candidates(): Candidates {
    if (this.#candidates === undefined) throw new Error("this turn was made without candidates");
    return this.#candidates;
  }

  /** The chance that the commit must record, if anything was drawn. */
  get chance(): string | undefined {
    return this.#drawn ? this.#chance : undefined;
  }

  emit(event: Event): void {
    evolve(this.state, event);
    this.events.push(event);
    this.#onEvent?.(event);
  }

  newId(): string {
    return this.#newId();
  }

  /** The chance of the next event to be emitted. */
  draw(): Draw {
    this.#drawn = true;
    return drawFor(this.#chance, this.events.length);
  }
}

function noIds(): never {
  throw new Error("this turn has no ids to give: it was made without `newId`");
}
