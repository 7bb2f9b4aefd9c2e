// A NATS server greets each connection with one line, INFO and JSON. It identifies the server on a port without a
// login.

import { connect, createServer } from "node:net";
import { hereOf } from "../host.ts";

export type Info = { readonly serverName: string; readonly version: string; readonly jetstream: boolean };

/** The line is about 500 bytes. With many cluster addresses it is some kilobytes. */
const lineBytesMax = 64 * 1024;

/** Rejects if nothing listens, if the answer is not from a NATS server, and after `msMax`. */
export function readInfo(listen: { readonly host: string; readonly port: number }, msMax: number): Promise<Info> {
  return new Promise((done, failed) => {
    const socket = connect(listen);
    const end = (settle: () => void) => {
      clearTimeout(timer);
      socket.destroy();
      settle();
    };
    const timer = setTimeout(() => end(() => failed(new Error(`no NATS greeting within ${msMax} ms`))), msMax);
    let text = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      text += chunk;
      if (!text.includes("\n") && text.length < lineBytesMax) return;
      const info = parseInfo(text);
      end(() => (info === undefined ? failed(new Error("the answer is not from a NATS server")) : done(info)));
    });
    socket.on("error", (error) => end(() => failed(error)));
    socket.on("close", () => end(() => failed(new Error("closed without a greeting"))));
  });
}

/** The greeting of the named server. Undefined if it does not answer there, or its port is not known yet. */
export async function greetingOf(server: {
  readonly host: string;
  readonly port: number | undefined;
  readonly serverName: string;
}): Promise<Info | undefined> {
  const { host, port, serverName } = server;
  if (port === undefined) return undefined;
  const info = await readInfo({ host: hereOf(host), port }, 1_000).catch(() => undefined);
  return info?.serverName === serverName ? info : undefined;
}

function parseInfo(text: string): Info | undefined {
  const line = text.split("\n")[0] ?? "";
  if (!line.startsWith("INFO ")) return undefined;
  try {
    const fields: unknown = JSON.parse(line.slice("INFO ".length));
    if (typeof fields !== "object" || fields === null) return undefined;
    const { server_name: serverName, version, jetstream } = fields as Record<string, unknown>;
    if (typeof serverName !== "string" || typeof version !== "string") return undefined;
    return { serverName, version, jetstream: jetstream === true };
  } catch {
    return undefined;
  }
}

/** Why nothing could listen there, as the system's error code ("EADDRINUSE"). Undefined if the address is free. */
export function whyNotListen(listen: { readonly host: string; readonly port: number }): Promise<string | undefined> {
  return new Promise((done) => {
    const server = createServer();
    server.on("error", (error) => done("code" in error ? String(error.code) : error.message));
    server.listen({ ...listen, exclusive: true }, () => server.close(() => done(undefined)));
  });
}
