// Bounds the answers that clients have not read. A client may ask for much and read nothing. Its answers would stay in
// memory for as long as it likes, and many such clients would use it up. So all of them together have a bound. Beyond
// it the connections whose answers have waited longest are closed: a client that reads has its answer within
// milliseconds.
import type { Socket } from "node:net";
import { onHangUp } from "./hang-up.ts";
import type { Api } from "./request.ts";

const bytesMaxUsual = 64 * 1024 * 1024;
/** Shorter ones are not counted: a connection takes as much. */
const countedFrom = 8 * 1024;

interface Unread {
  socket: Socket;
  bytes: number;
}

export function boundUnread(api: Api, bytesMax = bytesMaxUsual): void {
  /** The oldest first. */
  const all = new Set<Unread>();
  let bytes = 0;
  api.addHook("onSend", (request, reply, payload, done) => {
    const size = typeof payload === "string" || Buffer.isBuffer(payload) ? payload.length : 0;
    if (size < countedFrom) return done(null, payload);
    const unread = { socket: request.raw.socket, bytes: size };
    const forget = (): void => {
      if (all.delete(unread)) bytes -= size;
    };
    all.add(unread);
    bytes += size;
    reply.raw.once("finish", forget);
    onHangUp({ socket: unread.socket, answer: reply.raw }, forget);
    for (const { socket } of all) {
      if (bytes <= bytesMax) break;
      socket.destroy();
      for (const each of all) if (each.socket === socket && all.delete(each)) bytes -= each.bytes;
    }
    return done(null, payload);
  });
}
