// The bytes that a client sends while its tunnel is being opened, and whether it has left.
import type { Socket } from "node:net";

/** Beyond this the client waits. */
const bytesMax = 64 * 1024;

export interface Early {
  /** Aborted when the client leaves. */
  signal: AbortSignal;
  /** Ends the watch. The socket is paused. */
  done(): Buffer;
}

export function watchEarly(client: Socket, head: Buffer): Early {
  const chunks = [head];
  let bytes = head.length;
  const gone = new AbortController();
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes >= bytesMax) client.pause();
  };
  const onGone = (): void => gone.abort(new Error("The client left."));
  client.on("data", onData).on("end", onGone).on("close", onGone).resume();
  return {
    signal: gone.signal,
    done() {
      client.off("data", onData).off("end", onGone).off("close", onGone).pause();
      return Buffer.concat(chunks);
    },
  };
}
