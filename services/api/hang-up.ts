// Detects when a client hangs up. The socket is watched, not the response: if a client sends several requests without
// waiting, only the first answer knows the socket.
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** One listener per socket, however many requests are under way on it. */
const watched = new WeakMap<Socket, Set<() => void>>();

/** Calls back once if the client goes, or has gone, before the whole answer has been sent. */
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
