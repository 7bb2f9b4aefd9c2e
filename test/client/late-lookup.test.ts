// A name lookup that takes longer than the connection limit leaves no connection behind.
import type { LookupAddress } from "node:dns";
import dns from "node:dns/promises";
import { syncBuiltinESMExports } from "node:module";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import { connectorThrough } from "../../transport/tunnel.ts";
import { eventually } from "../kit/poll.ts";

test("closes the connection to a proxy that is dialled after the time limit", async () => {
  const slow = { answer: (): void => {} };
  const lookup = (): Promise<LookupAddress> =>
    new Promise((resolve) => (slow.answer = () => resolve({ address: "127.0.0.1", family: 4 })));
  const real = vi.spyOn(dns, "lookup").mockImplementation(lookup as unknown as typeof dns.lookup); // It has more forms.
  syncBuiltinESMExports();
  onTestFinished(() => {
    real.mockRestore();
    syncBuiltinESMExports();
  });
  const sockets: Socket[] = [];
  const proxy = createServer((socket) => {
    sockets.push(socket.on("error", () => {}));
    // SOCKS 5: no login is needed, and the tunnel is open.
    socket.once("data", () => {
      socket.write(Buffer.from([5, 0]));
      socket.once("data", () => void socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])));
    });
  }).listen(0, "127.0.0.1");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  await new Promise((resolve) => proxy.once("listening", resolve));
  const { port } = proxy.address() as AddressInfo; // On TCP.
  const through = connectorThrough({ scheme: "socks5", host: "127.0.0.1", port }, { connectTimeoutMs: 50 });
  const target = { hostname: "target.example", host: "target.example", protocol: "http:", port: "80" };
  const error = await new Promise((resolve) => through(target, (...[thrown]) => resolve(thrown)));
  expect(error).toMatchObject({ code: "UND_ERR_CONNECT_TIMEOUT" });
  slow.answer();
  await new Promise((resolve) => setImmediate(resolve));
  // Connections are accepted in their order: when this one is accepted, every earlier one has been.
  const last = connect({ port, host: "127.0.0.1" });
  onTestFinished(() => void last.destroy());
  await eventually(() => expect(sockets.map(({ remotePort }) => remotePort)).toContain(last.localPort));
  await eventually(() => expect(sockets.filter(({ destroyed }) => !destroyed)).toHaveLength(1));
});
