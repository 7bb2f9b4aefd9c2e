// A real SOCKS proxy (versions 4, 4a and 5, CONNECT only) with its own address, like the forward proxy. It records the
// requested destinations, so that a test can tell a name from an address.
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export type SocksProxy = {
  /** Without a scheme: `[user:password@]host:port`. */
  readonly address: string;
  readonly exit: string;
  /** `4 host:port` or `5 host:port`, as requested. Requests with wrong credentials are not listed. */
  readonly asked: readonly string[];
  stop(): Promise<void>;
};

export type SocksCredentials = { username: string; password: string };

/** SOCKS 4 compares only the user name: it has no password. */
export async function startSocksProxy({
  exit,
  credentials,
}: {
  exit: string;
  credentials?: SocksCredentials;
}): Promise<SocksProxy> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => socket.destroy());
    // The client left, or sent an invalid message.
    serve(socket, { exit, credentials, asked, sockets }).catch(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, exit, resolve));
  const { port } = server.address() as AddressInfo; // It listens on TCP.
  const login = credentials
    ? `${encodeURIComponent(credentials.username)}:${encodeURIComponent(credentials.password)}@`
    : "";
  return {
    address: `${login}${exit}:${port}`,
    exit,
    asked,
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

type Serving = { exit: string; credentials: SocksCredentials | undefined; asked: string[]; sockets: Set<Socket> };

async function serve(socket: Socket, serving: Serving): Promise<void> {
  const read = reader(socket);
  const [version = 0] = await read(1);
  if (version === 4) await serve4(socket, read, serving);
  else if (version === 5) await serve5(socket, read, serving);
  else socket.destroy();
}

type Read = (bytes: number) => Promise<Buffer>;

async function serve4(socket: Socket, read: Read, { credentials, ...serving }: Serving): Promise<void> {
  const head = await read(7);
  const user = await untilZero(read);
  const address = head.subarray(3, 7);
  const named = address[0] === 0 && address[1] === 0 && address[2] === 0 && address[3] !== 0;
  const host = named ? await untilZero(read) : [...address].join(".");
  const answer = (code: number): Buffer => Buffer.from([0, code, 0, 0, 0, 0, 0, 0]);
  if (credentials !== undefined && user !== credentials.username) return void socket.end(answer(93));
  const port = head.readUInt16BE(1);
  serving.asked.push(`4 ${host}:${port}`);
  join(socket, { host, port }, serving, (reached) => answer(reached ? 90 : 91));
}

async function serve5(socket: Socket, read: Read, { credentials, ...serving }: Serving): Promise<void> {
  const methods = await read((await read(1))[0] ?? 0);
  const method = credentials === undefined ? 0 : 2;
  if (!methods.includes(method)) return void socket.end(Buffer.from([5, 255]));
  socket.write(Buffer.from([5, method]));
  if (credentials !== undefined) {
    const user = (await read((await read(2))[1] ?? 0)).toString();
    const password = (await read((await read(1))[0] ?? 0)).toString();
    const right = user === credentials.username && password === credentials.password;
    socket.write(Buffer.from([1, right ? 0 : 1]));
    if (!right) return void socket.end();
  }
  const type = (await read(4))[3];
  const host = await hostOfType(type, read);
  const port = (await read(2)).readUInt16BE(0);
  serving.asked.push(`5 ${host}:${port}`);
  join(socket, { host, port }, serving, (reached) => Buffer.from([5, reached ? 0 : 5, 0, 1, 0, 0, 0, 0, 0, 0]));
}

async function hostOfType(type: number | undefined, read: Read): Promise<string> {
  if (type === 1) return [...(await read(4))].join(".");
  if (type === 3) return (await read((await read(1))[0] ?? 0)).toString();
  const bytes = await read(16);
  return Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16)).join(":");
}

function join(
  socket: Socket,
  target: { host: string; port: number },
  { exit, sockets }: Pick<Serving, "exit" | "sockets">,
  answer: (reached: boolean) => Buffer,
): void {
  const onward = connect({ ...target, localAddress: exit, family: 4 });
  sockets.add(onward);
  onward.on("close", () => sockets.delete(onward));
  onward.once("connect", () => {
    socket.write(answer(true));
    socket.pipe(onward).pipe(socket);
  });
  onward.on("error", () => (onward.connecting || !socket.writable ? socket.destroy() : socket.end(answer(false))));
  socket.on("close", () => onward.destroy());
  onward.on("close", () => socket.end());
}

async function untilZero(read: Read): Promise<string> {
  let text = "";
  for (;;) {
    const [byte = 0] = await read(1);
    if (byte === 0) return text;
    text += String.fromCharCode(byte);
  }
}

/** Takes this many bytes off the stream and leaves the remainder there. */
function reader(socket: Socket): Read {
  return async (bytes) => {
    if (bytes === 0) return Buffer.alloc(0);
    for (;;) {
      const chunk = socket.read(bytes) as Buffer | null; // No encoding is set.
      if (chunk !== null) return chunk;
      if (socket.destroyed || socket.readableEnded) throw new Error("it left");
      await new Promise<void>((resolve) => {
        const go = (): void => {
          socket.off("readable", go).off("close", go);
          resolve();
        };
        socket.once("readable", go).once("close", go);
      });
    }
  };
}
