// Colour, on a terminal alone: NO_COLOR takes it away, FORCE_COLOR gives it to a pipe as well. It never carries what the words
// do not say.
import type { WriteStream } from "node:tty";
import { styleText } from "node:util";

export type Colour = "red" | "green" | "yellow" | "cyan" | "magenta" | "bold" | "dim";

export function painted(text: string, colour: Colour | undefined, stream: WriteStream = process.stdout): string {
  return colour === undefined ? text : styleText(colour, text, { stream });
}

const stateColours: Record<string, Colour> = {
  available: "green",
  "in-use": "cyan",
  cooling: "yellow",
  exhausted: "yellow",
  retired: "dim",
};

/** Of a proxy's state, wherever one is shown. */
export function stateColour(state: string): Colour | undefined {
  return stateColours[state];
}
