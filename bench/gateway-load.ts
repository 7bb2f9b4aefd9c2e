// The clients of the gateway's benchmark, over bare sockets, so that they cost little.
import { connect, type Socket } from "node:net";
import { answerBytes, muchBytes } from "./gateway-site.ts";

/** Sends one request, and resolves with its answer. One connection at most per instance. */
export interface Worker {
  ask(): Promise<void>;
  end(): void;
}

/** A name outside of this machine: it is never resolved, because the proxies are the target as well. */
const target = "127.0.0.1:80";
const plainRequest = Buffer.from(`GET http://${target}/page HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
const connectRequest = Buffer.from(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
const message = Buffer.of(0, 1, 2, 3);

/** Requests in absolute form over a kept connection. */
export function plain(port: number): Worker {
  let line: Line | undefined;
  return {
    async ask() {
      if (line === undefined || line.socket.destroyed) line = await dial(port);
      line.write(plainRequest);
      await line.answer();
    },
    end: () => line?.socket.destroy(),
  };
}

/** A tunnel for each request. */
export function perRequest(port: number): Worker {
  let line: Line | undefined;
  return {
    async ask() {
      line = await tunnel(port);
      line.write(message);
      await line.bytes(answerBytes);
      line.socket.destroy();
    },
    end: () => line?.socket.destroy(),
  };
}

/** All requests in one tunnel. */
export function kept(port: number): Worker {
  let line: Line | undefined;
  return {
    async ask() {
      if (line === undefined || line.socket.destroyed) line = await tunnel(port);
      line.write(message);
      await line.bytes(answerBytes);
    },
    end: () => line?.socket.destroy(),
  };
}

/** Megabytes per second. */
export async function throughput(port: number): Promise<number> {
  const { socket, write, bytes } = await tunnel(port);
  const startedAt = performance.now();
  write(Buffer.from("g"));
  await bytes(muchBytes);
  socket.destroy();
  return muchBytes / 1024 ** 2 / ((performance.now() - startedAt) / 1000);
}

export interface Round {
  count: number;
  failed: number;
  p50Ms: number;
  seconds: number;
}

/** All workers ask for this long, or so many requests in all. */
export async function run(
  workers: Worker[],
  { ms, requests = Infinity }: { ms: number; requests?: number },
): Promise<Round> {
  const startedAt = performance.now();
  const times: number[] = [];
  let [failed, begun] = [0, 0];
  const one = async (worker: Worker): Promise<void> => {
    while (performance.now() < startedAt + ms && begun < requests) {
      begun += 1;
      const askedAt = performance.now();
      try {
        await worker.ask();
        if (times.length < 1_000_000) times.push(performance.now() - askedAt);
      } catch {
        failed += 1;
      }
    }
  };
  await Promise.all(workers.map(one));
  for (const worker of workers) worker.end();
  const seconds = (performance.now() - startedAt) / 1000;
  times.sort((a, b) => a - b);
  return { count: begun - failed, failed, p50Ms: times[Math.floor(times.length / 2)] ?? Number.NaN, seconds };
}

export interface Line {
  socket: Socket;
  write(bytes: Buffer): void;
  /** Resolves after a whole answer of HTTP with `Content-Length`. @throws if its status is not 200. */
  answer(): Promise<void>;
  /** Resolves after so many bytes. */
  bytes(count: number): Promise<void>;
}

export async function tunnel(port: number): Promise<Line> {
  const line = await dial(port);
  line.write(connectRequest);
  await line.answer();
  return line;
}

async function dial(port: number): Promise<Line> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  let waiting: { resolve: () => void; reject: (error: Error) => void; take: (chunk: Buffer) => boolean } | undefined;
  const gone = (): void => {
    socket.destroy();
    waiting?.reject(new Error("The connection ended."));
  };
  socket.on("data", (chunk: Buffer) => {
    if (waiting?.take(chunk) !== true) return;
    const { resolve } = waiting;
    waiting = undefined;
    resolve();
  });
  socket.on("error", gone).on("end", gone).on("close", gone);
  const wait = (take: (chunk: Buffer) => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      waiting = { resolve, reject, take };
      if (socket.destroyed) gone();
    });
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("close", reject));
  return {
    socket,
    write: (bytes) => void socket.write(bytes),
    answer() {
      let head = "";
      let left = -1;
      return wait((chunk) => {
        if (left >= 0) left -= chunk.length;
        else {
          head += chunk.toString("latin1");
          const end = head.indexOf("\r\n\r\n");
          if (end < 0) return false;
          if (!head.startsWith("HTTP/1.1 200")) {
            socket.destroy(new Error(head));
            return false;
          }
          left = Number(/\r\ncontent-length: *(\d+)/i.exec(head.slice(0, end))?.[1] ?? 0) - (head.length - end - 4);
        }
        return left <= 0;
      });
    },
    bytes(count) {
      let left = count;
      return wait((chunk) => {
        left -= chunk.length;
        return left <= 0;
      });
    },
  };
}
