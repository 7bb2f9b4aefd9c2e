// A lease request over HTTP that no caller waits for any more is cancelled. A lease granted at the same moment is given
// back.
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { connect } from "../../client/client.ts";
import { eventually } from "../kit/poll.ts";

let stop = (): void => {};
afterEach(() => stop());

/** A service that holds requests until the test lets it answer. */
async function service(cancels: "yes" | "no route" | "mute") {
  const seen: string[] = [];
  const requests: { requestId: string; response: ServerResponse; hungUp: boolean }[] = [];
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const line = `${request.method} ${request.url}`;
    if (request.method === "POST") {
      const asked = { requestId: JSON.parse(text).requestId, response, hungUp: false };
      request.socket.once("close", () => {
        asked.hungUp = true;
      });
      return void requests.push(asked);
    }
    seen.push(line);
    if (!line.includes("/requests/")) return void response.end('{"leaseId":"l_1","used":0,"returned":1}');
    if (cancels === "mute") return;
    if (cancels === "no route")
      return void response.writeHead(404).end('{"code":"invalid-request","message":"There is no such route."}');
    // The grant was on its way already, and comes after this answer.
    response.end('{"cancelled":false}');
    setImmediate(() => requests.at(-1)?.response.end('{"leaseId":"l_1","leftMs":60000}'));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stop = () => {
    server.close();
    server.closeAllConnections();
  };
  const { port } = server.address() as AddressInfo; // On TCP.
  return { url: `http://127.0.0.1:${port}`, seen, requests };
}

test.each([0, 60_000])("gives back a lease granted for it before the client is closed (waitMs %i)", async (waitMs) => {
  const { url, seen, requests } = await service("yes");
  const client = await connect({ url, pool: "crossing" });
  const abort = new AbortController();
  const lease = client.lease({ waitMs }, { signal: abort.signal });
  await eventually(() => expect(requests).toHaveLength(1));
  abort.abort(new Error("gone"));
  await expect(lease).rejects.toThrow("gone");
  await client.close();
  expect(seen).toEqual([
    `DELETE /v1/pools/crossing/requests/${requests[0]?.requestId}`,
    "DELETE /v1/pools/crossing/leases/l_1?used=0",
  ]);
  expect(requests[0]?.hungUp).toBe(false);
});

test("keeps the lease for a retry if the caller chose the requestId", async () => {
  const { url, seen, requests } = await service("yes");
  const client = await connect({ url, pool: "own" });
  const abort = new AbortController();
  const lease = client.lease({ waitMs: 60_000, requestId: "the-callers-own-request-id" }, { signal: abort.signal });
  await eventually(() => expect(requests).toHaveLength(1));
  abort.abort(new Error("gone"));
  await expect(lease).rejects.toThrow("gone");
  await client.close();
  expect(seen).toEqual(["DELETE /v1/pools/own/requests/the-callers-own-request-id"]);
});

test.each(["no route", "mute"] as const)(
  "closes the connection to a service that does not cancel it (%s)",
  async (how) => {
    const { url, requests } = await service(how);
    const client = await connect({ url, pool: "earlier" });
    const abort = new AbortController();
    const lease = client.lease({ waitMs: 60_000 }, { signal: abort.signal });
    await eventually(() => expect(requests).toHaveLength(1));
    abort.abort(new Error("gone"));
    await expect(lease).rejects.toThrow("gone");
    await eventually(() => expect(requests[0]?.hungUp).toBe(true));
    await client.close();
  },
);
