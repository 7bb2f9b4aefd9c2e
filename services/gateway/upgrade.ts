// Websockets: a request in plain sight whose connection becomes a tunnel. It goes through a tunnel of the proxy, also
// for http:// targets, because forwarding proxies rarely pass an upgrade on (RFC 6455, 4.1). It is one use, whatever
// follows.
import { request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Use } from "../../client/block.ts";
import { outcomeOf } from "../../transport/classify.ts";
import { factsOf } from "../../transport/head.ts";
import { authorityOf } from "./address.ts";
import { passedOn } from "./headers.ts";
import type { Opened } from "./open.ts";
import { idsOf, type Routed } from "./ports.ts";

const headMsMax = 60_000;
const hostHeader: ReadonlySet<string> = new Set(["host"]);

export interface Upgraded {
  upstream: Socket;
  use: Use;
}

/** Whether the request asks for a websocket. Other upgrades, such as to h2c, are left out of the request. */
export function isWebsocket({ headers }: IncomingMessage): boolean {
  return /^websocket$/i.test(headers.upgrade?.trim() ?? "");
}

/** The head of a request without its upgrade, as it is read again. */
export function headWithoutUpgrade({ method, url, httpVersion, rawHeaders }: IncomingMessage): Buffer {
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let place = 0; place + 1 < rawHeaders.length; place += 2) {
    const name = rawHeaders[place]?.toLowerCase();
    if (name === "upgrade" || name === "http2-settings") continue;
    const value = rawHeaders[place + 1] ?? "";
    const kept = value.split(",").filter((each) => !/^\s*(upgrade|http2-settings)\s*$/i.test(each));
    if (name !== "connection") lines.push(`${rawHeaders[place]}: ${value}`);
    else if (kept.length > 0) lines.push(`${rawHeaders[place]}: ${kept.join(",")}`);
  }
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
}

/**
 * Sends the request over an open tunnel, and the head of the answer to the client. Undefined: the target did not
 * switch, and its whole answer has been sent. @throws an Error if there was no answer; its use has been reported.
 */
export async function upgrade(
  routed: Routed,
  request: IncomingMessage,
  { client, opened, signal }: { client: Socket; opened: Opened; signal: AbortSignal },
): Promise<Upgraded | undefined> {
  const { leasing, target } = routed;
  const { use, socket, startedAt } = opened;
  const about = { leaseId: use.block.lease.leaseId, n: use.n, target: target.host, route: "tunnelled" } as const;
  const report = (more: { bytes: number; status?: number; retryAfterMs?: number | undefined; error?: Error }): void => {
    const latencyMs = performance.now() - startedAt;
    void leasing.ended(use, { ...outcomeOf({ ...about, latencyMs, ...more }), counted: "request" });
  };
  const ids = Object.entries(idsOf(use.block)).flat();
  const { rawHeaders, method, headers } = request;
  const passed = passedOn(rawHeaders, { drop: hostHeader });
  const sent = [
    "Host",
    authorityOf(target),
    ...passed,
    "Connection",
    "Upgrade",
    "Upgrade",
    headers.upgrade ?? "websocket",
  ];
  const asking = httpRequest({
    ...{ method: method ?? "GET", path: target.path, headers: sent, setHost: false, timeout: headMsMax },
    createConnection: () => socket,
  });
  signal.addEventListener("abort", () => asking.destroy(), { once: true });
  asking.on("timeout", () => asking.destroy(Object.assign(new Error("No answer in time."), { code: "ETIMEDOUT" })));
  return new Promise((resolve, reject) => {
    asking.once("error", (error) => {
      const left = {
        leaseId: about.leaseId,
        n: use.n,
        target: target.host,
        reason: "client-abort",
        counted: "request",
      } as const;
      if (signal.aborted) void leasing.ended(use, left);
      else report({ bytes: 0, error });
      reject(error);
    });
    asking.once("upgrade", (answer, upstream, head) => {
      if (head.length > 0) upstream.unshift(head);
      client.write(headOf(answer, [...answer.rawHeaders, ...ids]));
      resolve({ upstream: upstream as Socket, use }); // It is the socket that createConnection returned.
    });
    asking.once("response", (answer) => {
      client.write(headOf(answer, [...passedOn(answer.rawHeaders), ...ids, "Connection", "close"]));
      let bytes = 0;
      answer.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      const { statusCode: status = 502, headers: fields } = answer;
      const header = (name: string): string | undefined => [fields[name]].flat()[0];
      answer.on("error", () => {}); // "close" follows.
      answer.once("close", () => {
        const isWhole = answer.complete;
        const broken = Object.assign(new Error("The answer broke off."), { code: "ECONNRESET" });
        report({ bytes, ...factsOf({ status, forwarded: false, header }), ...(isWhole ? {} : { error: broken }) });
        if (!isWhole) client.resetAndDestroy(); // So that the client sees it.
        resolve(undefined);
      });
      answer.pipe(client);
    });
    asking.end();
  });
}

function headOf({ statusCode, statusMessage }: IncomingMessage, fields: readonly string[]): Buffer {
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage ?? ""}`];
  for (let place = 0; place + 1 < fields.length; place += 2) lines.push(`${fields[place]}: ${fields[place + 1]}`);
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
}
