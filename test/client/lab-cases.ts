// How each row of clients/classification.json is brought about on loopback: what the proxy and the target do. The tests
// of every client share it.
import type { Socket } from "node:net";
import type { LabProxy, Play } from "./lab.ts";

export interface LabCase {
  /** The target's answer to the first request alone. */
  target?: Play;
  proxy?: (proxy: LabProxy) => void;
  /** No proxy listens. */
  dead?: true;
}

const send =
  (bytes: string): Play =>
  (socket) =>
    void socket.write(bytes);
const head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
const nothing = (): void => {};
const drips: Play = (socket) => {
  socket.write(head);
  const timer = setInterval(() => void socket.write("x"), 20);
  socket.on("close", () => clearInterval(timer));
};
const floods: Play = (socket) => void socket.write(`${head}${"x".repeat(1_000_000)}`);
const tunnel = (play: (socket: Socket, kind: "connect" | "socks") => void) => (proxy: LabProxy) => {
  proxy.tunnel = play;
};
const inside = (play: (socket: Socket) => void) => (proxy: LabProxy) => {
  proxy.inside = play;
};
const forward = (answer: string) => (proxy: LabProxy) => {
  proxy.forward = (socket) => void socket.write(answer);
};

/** By the row's `what`. */
export const labCases: Record<string, LabCase> = {
  "the proxy refuses the connection": { dead: true },
  "the proxy does not answer in time": { proxy: tunnel(nothing) },
  "the proxy closes the connection": { proxy: tunnel((socket) => void socket.destroy()) },
  "the proxy answers with something other than HTTP or SOCKS": {
    proxy: tunnel((socket) => void socket.end("SSH-2.0-OpenSSH_8.9p1 Ubuntu-3\r\n")),
  },
  "the proxy refuses the login": {
    proxy: tunnel((socket, kind) => {
      if (kind === "socks") return void socket.end(Buffer.of(5, 255));
      socket.end("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
    }),
  },
  "the proxy refuses the tunnel": {
    proxy: tunnel((socket, kind) => {
      if (kind === "connect") return void socket.end("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
      socket.write(Buffer.of(5, 0));
      socket.once("data", () => void socket.end(Buffer.of(5, 5, 0, 1, 0, 0, 0, 0, 0, 0)));
    }),
  },
  "the tunnel closes before TLS is set up": { proxy: inside((socket) => void socket.destroy()) },
  "the other side does not answer in time": { proxy: inside(nothing) },
  "the other side does not speak TLS": {
    proxy: inside((socket) => socket.once("data", () => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))),
  },
  "the target refuses with a TLS alert": {
    // A fatal alert: handshake_failure (RFC 8446, 6).
    proxy: inside((socket) => socket.once("data", () => void socket.end(Buffer.of(21, 3, 3, 0, 2, 2, 40)))),
  },
  "the target's certificate is not valid": {},
  "the answer is a 304 with a Content-Length": {
    target: send('HTTP/1.1 304 Not Modified\r\netag: "x"\r\ncontent-length: 777\r\n\r\n'),
  },
  "the proxy answers 407": { proxy: forward("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n") },
  "the proxy answers 502 and names itself as the cause": {
    proxy: forward("HTTP/1.1 502 No\r\nproxy-status: p; error=connection_refused\r\ncontent-length: 0\r\n\r\n"),
  },
  "the answer is a 502": { target: send("HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n") },
  "the answer has headers that are too large": {
    target: send(`HTTP/1.1 200 OK\r\nx-much: ${"x".repeat(40_000)}\r\ncontent-length: 0\r\n\r\n`),
  },
  "the answer has a header that is not valid": { target: send("HTTP/1.1 200 OK\r\nno colon here\r\n\r\n") },
  "the answer is not HTTP": { target: (socket) => void socket.end("SSH-2.0-OpenSSH_8.9p1 Ubuntu-3\r\n") },
  "the connection closes before any answer": { target: (socket) => void socket.destroy() },
  "no answer comes within `headersTimeoutMs`": { target: nothing },
  "the caller's time limit ends, and the proxy has had half of it": { target: nothing },
  "the caller's time limit ends, and the proxy has had less than half of it": { target: nothing },
  "the caller aborts": { target: nothing },
  "the lease ends, and the request has had half of it": { target: nothing },
  "a kept connection closes before any answer": {
    target: (socket, told) => {
      if (told.before > 0) socket.destroy();
      else send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")(socket, told);
    },
  },
  "the connection closes in the middle": {
    target: (socket) => {
      socket.write(`${head}half`);
      setTimeout(() => socket.destroy(), 50);
    },
  },
  "a chunk is not valid": { target: send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n") },
  "nothing comes for `bodyTimeoutMs`": { target: send(`${head}half`) },
  "it drips past the lease's end": { target: drips },
  "it drips past the caller's time limit": { target: drips },
  "the lease ends while the reader has paused": { target: floods },
  "the caller cancels it": { target: send(`${head}half`) },
};
