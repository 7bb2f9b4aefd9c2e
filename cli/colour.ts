// Colour, only on a terminal. NO_COLOR turns it off, FORCE_COLOR turns it on for pipes too. Without colour, the words
// say the same.
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

/** The colour of a proxy's state, in every output. */
export function stateColour(state: string): Colour | undefined {
  return stateColours[state];
}
