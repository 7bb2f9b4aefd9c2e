// Limits that are judged beside the model: each keeps what it needs by itself. A brake holds an exit back for a while,
// whatever a request asks for.
import type { Event } from "../../../events/event.ts";
import { Bytes } from "./bytes.ts";
import type { ExitModel } from "./entities.ts";
import type { Model } from "./model.ts";

export interface Brake {
  /** After the event was judged and the model moved. */
  judge(event: Event): void;
  /** @param at not after the present. */
  isHeld(exit: ExitModel, at: number): boolean;
}

export function brakesOf(model: Model): readonly Brake[] {
  return [new Bytes(model)];
}
