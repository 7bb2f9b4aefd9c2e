// When a client hangs up. Watched at its socket, and not at the response: of requests that a client sends one after the
// other without waiting, only the first answer knows the socket.
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** One listener per socket, however many requests are under way on it. */
const watched = new WeakMap<Socket, Set<() => void>>();

/** Calls back, once, when the client goes, or has gone, before the answer has left for it in full. */
export function onHangUp({ socket, answer }: { socket: Socket; answer: ServerResponse }, callback: () => void): void {
  if (answer.writableFinished) return;
  if (socket.destroyed) return callback();
  let callbacks = watched.get(socket);
  if (callbacks === undefined) {
    callbacks = new Set();
    watched.set(socket, callbacks);
    const all = callbacks;
    socket.once("close", () => {
      for (const each of all) each();
    });
  }
  callbacks.add(callback);
  answer.once("finish", () => callbacks.delete(callback));
}
