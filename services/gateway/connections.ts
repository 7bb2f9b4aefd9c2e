// The connections of each user, so that one user cannot take all that the gateway has. A connection belongs to every
// user whose key it has sent.
import type { Socket } from "node:net";

export class Connections {
  readonly #ofUser = new Map<string, Set<Socket>>();
  readonly #max: number;

  /** @param max of one user */
  constructor(max: number) {
    this.#max = max;
  }

  /** @returns false: the user has as many as it may have, and this is one more. */
  admit(user: string, socket: Socket): boolean {
    const sockets = this.#ofUser.get(user) ?? new Set();
    if (sockets.has(socket) || socket.destroyed) return true;
    if (sockets.size >= this.#max) return false;
    this.#ofUser.set(user, sockets.add(socket));
    socket.once("close", () => {
      sockets.delete(socket);
      if (sockets.size === 0 && this.#ofUser.get(user) === sockets) this.#ofUser.delete(user);
    });
    return true;
  }
}
