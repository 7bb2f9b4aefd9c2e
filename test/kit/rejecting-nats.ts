// As much of a NATS server as a login needs. It refuses a number of logins with a given error message. A real server
// says such things only when it is too busy, or when a login has expired.
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { onTestFinished } from "vitest";

/** @param times number of logins that are refused; later ones are accepted. Its URL has the login user:s3cret. */
export async function natsThatSays(errorMessage: string, times: number): Promise<{ url: string; logins(): number }> {
  let logins = 0;
  const info = { server_id: "x", version: "2.15.0", max_payload: 1_048_576, headers: true };
  const server = createServer((socket) => {
    logins += 1;
    const isRefused = logins <= times;
    socket.on("error", () => {});
    socket.write(`INFO ${JSON.stringify(info)}\r\n`);
    if (isRefused) return socket.end(`-ERR '${errorMessage}'\r\n`);
    socket.on("data", (chunk) => String(chunk).includes("PING") && socket.write("PONG\r\n"));
  }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // On TCP.
  return { url: `nats://user:s3cret@127.0.0.1:${port}`, logins: () => logins };
}
