// One turn of the leader's loop: the state at one instant, and the events decided in it. Each event is folded at once,
// so later decisions see it. The commit of all of them is stored before any request is answered.
import type { Event } from "../../events/event.ts";
import type { TokenRejected } from "../../events/token.ts";
import type { Candidates } from "../candidates/candidates.ts";
import { advance, evolve } from "../fold/evolve.ts";
import type { PoolState } from "../fold/state.ts";
import type { Quotas } from "../queue/quotas.ts";
import { type Draw, drawFor } from "./chance.ts";

export class Turn {
  readonly state: PoolState;
  /** The indexes of this state. */
  readonly candidates: Candidates;
  /** 22 characters, unguessable: for leases and tokens that no request asked for. */
  readonly newId: () => string;
  readonly events: Event[] = [];
  /** Absent: users have none. */
  readonly quotas: Quotas | undefined;
  /** Rejections that led to no refresh. There are many when a token goes bad, so they are recorded as sums. */
  readonly skipped: TokenRejected[] = [];
  readonly #chance: string;
  readonly #onEvent: ((event: Event) => void) | undefined;
  #drawn = false;

  /** @param given.chance 32 hex digits, drawn by the shell for this turn. */
  constructor(
    state: PoolState,
    given: {
      at: number;
      chance: string;
      candidates: Candidates;
      quotas?: Quotas | undefined;
      newId?: () => string;
      onEvent?: (event: Event) => void;
    },
  ) {
    this.state = state;
    this.candidates = given.candidates;
    this.quotas = given.quotas;
    this.newId = given.newId ?? noId;
    this.#chance = given.chance;
    this.#onEvent = given.onEvent;
    advance(state, given.at);
  }

  get at(): number {
    return this.state.at;
  }

  /** The chance that the commit must record, if anything was drawn. */
  get chance(): string | undefined {
    return this.#drawn ? this.#chance : undefined;
  }

  emit(event: Event): void {
    evolve(this.state, event);
    this.events.push(event);
    this.quotas?.saw(this.state, event);
    this.#onEvent?.(event);
  }

  /** The chance of the next event to be emitted. */
  draw(): Draw {
    this.#drawn = true;
    return drawFor(this.#chance, this.events.length);
  }
}

/** Of an administrative event. A user that is not known stays absent. */
export function doneBy(by: string | undefined): { by?: string } {
  return by === undefined ? {} : { by };
}

function noId(): never {
  throw new Error("this turn has no ids to give: it was made without `newId`");
}
