// Limits that are checked outside the model. Each keeps its own state. A brake holds an exit back for a while, whatever
// a request asks for.
import type { Event } from "../../../events/event.ts";
import { Bytes } from "./bytes.ts";
import type { ExitModel } from "./entities.ts";
import type { Model } from "./model.ts";

export interface Brake {
  /** Called after the event was checked and the model updated. */
  check(event: Event): void;
  /** @param at not later than now. */
  isHeld(exit: ExitModel, at: number): boolean;
}

export function brakesOf(model: Model): readonly Brake[] {
  return [new Bytes(model)];
}
