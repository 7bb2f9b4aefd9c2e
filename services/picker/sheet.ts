// The events of a turn as they will be committed. Each is encoded once, and their size stays within a commit's bound.
import type { Event } from "../../events/event.ts";
import { commitBytesMax, commitEventsMax } from "../../runtime/loop.ts";

export class Sheet {
  readonly events: string[] = [];
  #bytes = 0;

  readonly write = (event: Event): void => {
    const json = JSON.stringify(event);
    this.events.push(json);
    this.#bytes += Buffer.byteLength(json);
  };

  readonly hasRoom = (share = 1): boolean =>
    this.events.length < commitEventsMax * share && this.#bytes < commitBytesMax * share;
}
