// The far side of the gateway's benchmark, in a process of its own: some forward proxies that are the target as well.
// They cost next to nothing, so that a difference between two gateways shows. In a tunnel they speak a protocol of their
// own, neither HTTP nor TLS: each message of the client gets 1000 bytes, and the byte "g" gets a gibibyte.
import { type AddressInfo, createServer, type Socket } from "node:net";

export const answerBytes = 1000;
export const muchBytes = 1024 ** 3;
const proxies = 4;

const page = Buffer.alloc(answerBytes, "x");
const plainAnswer = Buffer.concat([
  Buffer.from(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${answerBytes}\r\n\r\n`),
  page,
]);
const opened = Buffer.from("HTTP/1.1 200 OK\r\n\r\n");
const chunk = Buffer.alloc(256 * 1024);

function serve(socket: Socket): void {
  let head = "";
  let isTunnel = false;
  socket.setNoDelay(true).on("error", () => {});
  socket.on("data", (bytes: Buffer) => {
    if (isTunnel) return bytes[0] === 103 ? sendMuch(socket) : void socket.write(page);
    head += bytes.toString("latin1");
    for (let end = head.indexOf("\r\n\r\n"); end >= 0; end = head.indexOf("\r\n\r\n")) {
      isTunnel = head.startsWith("CONNECT ");
      head = head.slice(end + 4);
      socket.write(isTunnel ? opened : plainAnswer);
    }
  });
}

function sendMuch(socket: Socket): void {
  let left = muchBytes;
  const send = (): void => {
    while (left > 0) {
      left -= chunk.length;
      if (!socket.write(chunk)) return void socket.once("drain", send);
    }
  };
  send();
}

if (process.send !== undefined) {
  const servers = Array.from({ length: proxies }, () => createServer(serve));
  await Promise.all(
    servers.map((server) => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", 4096, resolve))),
  );
  process.send(servers.map((server) => (server.address() as AddressInfo).port)); // They listen on TCP.
  process.on("disconnect", () => process.exit());
}
