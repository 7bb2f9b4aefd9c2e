// Detects when a client hangs up. The socket is watched, not the response: if a client sends several requests without
// waiting, only the first answer knows the socket.
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Calls back once if the client goes, or has gone, before the whole answer has been sent. */
export function onHangUp({ socket, answer }: { socket: Socket; answer: ServerResponse }, callback: () => void): void {
  if (answer.writableFinished) return;
  if (socket.destroyed) return callback();
  socket.setMaxListeners(0); // Any number of requests may be under way on it.
  socket.once("close", callback);
  answer.once("finish", () => socket.off("close", callback));
}
