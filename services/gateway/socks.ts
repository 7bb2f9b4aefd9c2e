// SOCKS 5 as a server: CONNECT alone (RFC 1928), with and without user name and password (RFC 1929). Names are never
// resolved here. SOCKS 4 is refused.
import type { Socket } from "node:net";
import { canonicalHost } from "../../protocol/host.ts";
import type { Target } from "./address.ts";
import { type Credentials, emptyLogin } from "./credentials.ts";

const handshakeMsMax = 30_000;
/** A client that sends more before its answer is dropped. */
const bytesMax = 64 * 1024;
const noLogin = 0;
const withLogin = 2;
const unacceptable = 255;

export interface SocksRequest {
  credentials: Credentials;
  target: Target;
  /** Client bytes that follow the request. */
  first: Buffer;
}

export interface SocksPorts {
  /** Without a login nothing is allowed. */
  needsKey: boolean;
  isAllowed(credentials: Credentials): boolean;
}

/** Undefined: the handshake failed, and the client has its answer. The socket is paused then. */
export async function readSocks(
  socket: Socket,
  { needsKey, isAllowed }: SocksPorts,
): Promise<SocksRequest | undefined> {
  const late = setTimeout(() => socket.destroy(), handshakeMsMax);
  const reader = new Reader(socket);
  try {
    const [, count = 0] = await reader.take(2);
    const methods = await reader.take(count);
    const method = methods.includes(withLogin)
      ? withLogin
      : methods.includes(noLogin) && !needsKey
        ? noLogin
        : unacceptable;
    socket.write(Buffer.of(5, method));
    if (method === unacceptable) return refuse(socket);
    const credentials = method === withLogin ? await readLogin(reader) : emptyLogin;
    if (method === withLogin) {
      const isLetIn = isAllowed(credentials);
      socket.write(Buffer.of(1, isLetIn ? 0 : 1));
      if (!isLetIn) return refuse(socket);
    }
    const [version, command, , type] = await reader.take(4);
    if (version !== 5) return refuse(socket, 1);
    const host = await readHost(reader, type);
    if (host === undefined) return refuse(socket, 8);
    const port = (await reader.take(2)).readUInt16BE(0);
    if (command !== 1) return refuse(socket, 7);
    const name = canonicalHost(host) ?? (/^[a-z0-9_.-]{1,253}$/i.test(host) ? host.toLowerCase() : undefined);
    if (name === undefined || port === 0) return refuse(socket, 1);
    return { credentials, target: { scheme: "https", host: name, port, path: "" }, first: reader.rest() };
  } catch {
    socket.destroy(); // It left, or said nothing in time.
    return undefined;
  } finally {
    clearTimeout(late);
    reader.close();
  }
}

/** @param code 0: the tunnel is open. */
export function replyOf(code: number): Buffer {
  return Buffer.of(5, code, 0, 1, 0, 0, 0, 0, 0, 0);
}

function refuse(socket: Socket, code?: number): undefined {
  if (code === undefined) socket.end();
  else socket.end(replyOf(code));
  socket.setTimeout(1000, () => socket.destroy()).resume();
  return undefined;
}

async function readLogin(reader: Reader): Promise<Credentials> {
  const [, nameBytes = 0] = await reader.take(2);
  const username = (await reader.take(nameBytes)).toString("utf8");
  const [passwordBytes = 0] = await reader.take(1);
  return { username, password: (await reader.take(passwordBytes)).toString("utf8") };
}

async function readHost(reader: Reader, type: number | undefined): Promise<string | undefined> {
  if (type === 1) return [...(await reader.take(4))].join(".");
  if (type === 3) {
    const [bytes = 0] = await reader.take(1);
    return (await reader.take(bytes)).toString("latin1").replace(/\.$/, "");
  }
  if (type !== 4) return undefined;
  const bytes = await reader.take(16);
  return Array.from({ length: 8 }, (_, place) => bytes.readUInt16BE(place * 2).toString(16)).join(":");
}

/** Takes bytes off a socket, and knows how many are left over. */
class Reader {
  readonly #socket: Socket;
  #have = Buffer.alloc(0);
  #waiting: { bytes: number; resolve: (bytes: Buffer) => void; reject: (error: Error) => void } | undefined;
  #isGone = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", this.#onData).on("end", this.#onGone).on("close", this.#onGone).resume();
  }

  take(bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#waiting = { bytes, resolve, reject };
      this.#serve();
    });
  }

  rest(): Buffer {
    return this.#have;
  }

  close(): void {
    this.#socket.off("data", this.#onData).off("end", this.#onGone).off("close", this.#onGone).pause();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#have = Buffer.concat([this.#have, chunk]);
    if (this.#have.length > bytesMax) this.#socket.destroy();
    this.#serve();
  };

  readonly #onGone = (): void => {
    this.#isGone = true;
    this.#serve();
  };

  #serve(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    if (this.#have.length >= waiting.bytes) {
      this.#waiting = undefined;
      const taken = this.#have.subarray(0, waiting.bytes);
      this.#have = this.#have.subarray(waiting.bytes);
      waiting.resolve(taken);
    } else if (this.#isGone) waiting.reject(new Error("The client left."));
  }
}
