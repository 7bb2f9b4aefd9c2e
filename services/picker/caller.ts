// Requests as they reach a pool's leader, and how they are answered.
import type { Answer } from "../../state-machines/command.ts";

export interface Call {
  respond(answer: object): void;
  /** In the pool's time. */
  arrivedAt: number;
}

export interface Caller extends Call {
  /** The answer in the form of the protocol; undefined if it comes later. A refusal is passed on as it is. */
  reply(answer: Answer): object | undefined;
  /** Marks a request whose duration is counted. */
  isLease?: true;
}
