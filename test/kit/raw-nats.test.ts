import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { connectRaw, type Frame, FrameReader, type RawMessage } from "./raw-nats.ts";
import { type Seeded, seeded, withSeed } from "./seed.ts";

describe("the raw NATS client", () => {
  test("reads frames the same however the bytes were cut, with any bytes in the body", () => {
    const token = fc.stringMatching(/^[A-Za-z0-9_.$-]{1,12}$/);
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.constantFrom("\r\n", "PING\r\n", "MSG a 1 0\r\n").map((s) => Buffer.from(s)),
    );
    const message = fc.record({
      subject: token,
      sid: fc.integer({ min: 1, max: 99 }),
      reply: fc.option(token, { nil: undefined }),
      status: fc.option(fc.integer({ min: 100, max: 599 }), { nil: undefined }),
      headers: fc.option(fc.dictionary(token, fc.stringMatching(/^([!-~äöü]+( [!-~äöü]+)*)?$/), { maxKeys: 3 }), {
        nil: undefined,
      }),
      body,
    });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(message, fc.constant("PING" as const)), { maxLength: 8 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 17 })),
        (sent, cuts) => {
          const bytes = Buffer.concat(
            sent.map((frame) => (frame === "PING" ? Buffer.from("PING\r\n") : onTheWire(frame))),
          );
          const reader = new FrameReader();
          const frames: Frame[] = [];
          for (let at = 0; at < bytes.length; ) {
            const end = at + cuts.next().value;
            frames.push(...reader.read(bytes.subarray(at, end)));
            at = end;
          }
          expect(frames.map(seen)).toEqual(
            sent.map((frame) =>
              frame === "PING"
                ? "PING"
                : {
                    subject: frame.subject,
                    sid: frame.sid,
                    reply: frame.reply,
                    status: frame.status,
                    headers: frame.headers ?? {},
                    body: Buffer.from(frame.body).toString("hex"),
                  },
            ),
          );
        },
      ),
    );

    function onTheWire({
      subject,
      sid,
      reply,
      status,
      headers,
      body,
    }: {
      subject: string;
      sid: number;
      reply: string | undefined;
      status: number | undefined;
      headers: Record<string, string> | undefined;
      body: Uint8Array;
    }): Buffer {
      const to = `${subject} ${sid}${reply === undefined ? "" : ` ${reply}`}`;
      if (headers === undefined && status === undefined)
        return Buffer.concat([Buffer.from(`MSG ${to} ${body.length}\r\n`), body, Buffer.from("\r\n")]);
      const lines = Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`);
      const head = Buffer.from(
        `NATS/1.0${status === undefined ? "" : ` ${status} Some Words`}\r\n${lines.join("")}\r\n`,
      );
      return Buffer.concat([
        Buffer.from(`HMSG ${to} ${head.length} ${head.length + body.length}\r\n`),
        head,
        body,
        Buffer.from("\r\n"),
      ]);
    }

    function seen(frame: Frame) {
      if (frame.op !== "MSG") return frame.op;
      const { subject, reply, status, headers, bytes } = frame.message;
      return {
        subject,
        sid: frame.sid,
        reply,
        status,
        headers: Object.fromEntries(headers),
        body: Buffer.from(bytes).toString("hex"),
      };
    }
  });

  test.each([
    "HELLO\r\n",
    "MSG a 1 x\r\n",
    "MSG a 1 -5\r\n",
    "HMSG a 1 9 4\r\n",
    "MSG a 1 2\r\nabcd",
    "x".repeat(70_000),
  ])("rejects bytes that no server sends (%#)", (bytes) => {
    expect(() => [...new FrameReader().read(Buffer.from(bytes))]).toThrow(
      expect.objectContaining({ code: "protocol" }),
    );
  });

  async function connected(server: StandInBroker) {
    const nats = await connectRaw(server.url);
    onTestFinished(() => nats.close());
    return nats;
  }

  test("matches requests and answers, with headers and every byte, through a server that cuts at random", async () => {
    await withSeed(async (random) => {
      const server = await standInBroker(random);
      const service = await connected(server);
      const client = await connected(server);
      expect(client.info).toMatchObject({ server_name: "stand-in" });
      service.subscribe("echo.*", ({ subject, reply, bytes }) => {
        service.publish(reply!, bytes, { headers: { "X-Subject": subject, "Nats-Service-Error-Code": "429" } });
      });
      await service.flush();
      const bodies = Array.from({ length: 40 }, (_, i) => `{"i":${i},"text":"${"ü\\r\\n".repeat(random.int(0, 50))}"}`);
      const answers = await Promise.all(bodies.map((body, i) => client.request(`echo.${i}`, body)));
      for (const [i, answer] of answers.entries()) {
        expect(answer.body).toBe(bodies[i]);
        expect(answer.json<{ i: number }>().i).toBe(i);
        expect(answer.subject).toMatch(/^_INBOX\.[\w-]+\.\d+$/);
        expect(answer.headers.get("X-Subject")).toBe(`echo.${i}`);
        expect(answer.headers.get("Nats-Service-Error-Code")).toBe("429");
        expect(answer.status).toBeUndefined();
      }
      const everyByte = Uint8Array.from({ length: 256 }, (_, i) => i);
      expect((await client.request("echo.bytes", everyByte)).bytes).toEqual(Buffer.from(everyByte));
      expect([...client.errors, ...service.errors]).toEqual([]);
    });
  });

  test("a subject without a listener answers 503 at once, and a silent listener leads to a timeout", async () => {
    const server = await standInBroker(seeded(1));
    const client = await connected(server);
    const answer = await client.request("no-responder", "", { timeoutMs: 5_000 });
    expect(answer.status).toBe(503);
    expect(answer.body).toBe("");
    const silent = client.subscribe("silent", () => {});
    await expect(client.request("silent", "", { timeoutMs: 50 })).rejects.toMatchObject({ code: "timeout" });
    silent();
    expect((await client.request("silent")).status).toBe(503);
  });

  test("a request may name its own reply subject, and the service sees it", async () => {
    const server = await standInBroker(seeded(2));
    const client = await connected(server);
    client.subscribe("ask", ({ reply }) => client.publish(reply!, `to ${reply}`));
    const answer = await client.request("ask", "", { reply: "elsewhere.1" });
    expect(answer.body).toBe("to elsewhere.1");
    expect((await client.request("elsewhere.1")).status).toBe(503); // its subscription ended with the answer
  });

  test("publishes and receives headers and reply until the subscription ends", async () => {
    const server = await standInBroker(seeded(3));
    const client = await connected(server);
    const got: RawMessage[] = [];
    const unsubscribe = client.subscribe("a.b", (message) => got.push(message));
    client.publish("a.b", "one", { headers: { Name: "value: with colon" }, reply: "r" });
    client.publish("a.b", "two");
    await client.flush();
    expect(got.map(({ body, reply }) => [body, reply])).toEqual([
      ["one", "r"],
      ["two", undefined],
    ]);
    expect(got[0]!.headers).toEqual(new Map([["Name", "value: with colon"]]));
    expect(got[1]!.headers.size).toBe(0);
    unsubscribe();
    client.publish("a.b", "three");
    await client.flush();
    expect(got).toHaveLength(2);
    expect(() => client.publish("a b", "")).toThrow("not a subject");
    expect(() => client.publish("a", "", { headers: { "x\r\ny": "" } })).toThrow("not a header");
  });

  test("keeps a -ERR and the connection", async () => {
    const server = await standInBroker(seeded(4));
    const client = await connected(server);
    client.publish("forbidden", "");
    await client.flush();
    expect(client.errors).toEqual(['Permissions Violation for Publish to "forbidden"']);
  });

  test("a lost connection fails open and later requests", async () => {
    const server = await standInBroker(seeded(5));
    const client = await connected(server);
    client.subscribe("silent", () => {});
    const open = client.request("silent");
    await client.flush();
    server.dropAll();
    await expect(open).rejects.toMatchObject({ code: "closed" });
    expect(() => client.publish("a", "")).toThrow(expect.objectContaining({ code: "closed" }));
    await expect(client.request("a")).rejects.toMatchObject({ code: "closed" });
    await client.close();
    await client.close();
  });

  test("sends the URL's user, gives it its own inboxes, and reports its refusal in the server's words", async () => {
    const server = await standInBroker(seeded(6), { user: "auditor", pass: "p@ss" });
    await expect(connectRaw(server.url)).rejects.toMatchObject({ code: "refused", message: "Authorization Violation" });
    const nats = await connectRaw(server.url.replace("//", "//auditor:p%40ss@"));
    onTestFinished(() => nats.close());
    expect(nats.inbox).toMatch(/^_INBOX\.auditor\.[\w-]+$/);
    expect((await nats.request("no-responder")).status).toBe(503);
  });

  test("repeats a login that came too late for the server, but not one that the server refused", async () => {
    let logins = 0;
    const late = createServer((socket) => {
      logins++;
      socket
        .on("error", () => {})
        .resume()
        .write("INFO {}\r\n");
      if (logins < 3) return void socket.end("-ERR 'Authentication Timeout'\r\n");
      if (logins > 3) return void socket.end("-ERR 'Authorization Violation'\r\n");
      socket.on("data", (chunk) => String(chunk).includes("PING") && socket.write("PONG\r\n"));
    });
    const url = `nats://127.0.0.1:${await listening(late)}`;
    await (await connectRaw(url)).close();
    expect(logins).toBe(3);
    await expect(connectRaw(url)).rejects.toMatchObject({ code: "refused", message: "Authorization Violation" });
    expect(logins).toBe(4);
    await new Promise((closed) => late.close(closed));
  });

  test("fails to connect with the reason if nothing listens or the server sends no INFO", async () => {
    const server = createServer(() => {});
    const port = await listening(server);
    await expect(connectRaw(`nats://127.0.0.1:${port}`, { timeoutMs: 50 })).rejects.toMatchObject({ code: "timeout" });
    await new Promise((closed) => server.close(closed));
    await expect(connectRaw(`nats://127.0.0.1:${port}`)).rejects.toMatchObject({
      code: "closed",
      message: expect.stringContaining("ECONNREFUSED"),
    });
  });
});

type StandInBroker = { readonly url: string; dropAll(): void };

/**
 * As much of a NATS server as these tests need, written without the kit's reader. It splits all its output at random.
 */
async function standInBroker(random: Seeded, account?: { user: string; pass: string }): Promise<StandInBroker> {
  const clients = new Map<Socket, Map<string, string>>(); // subject by sid
  const send = (socket: Socket, text: string) => {
    for (let at = 0; at < text.length; ) {
      const end = at + random.int(1, 40);
      socket.write(text.slice(at, end), "latin1");
      at = end;
    }
  };
  const matches = (pattern: string, subject: string) =>
    pattern === subject || (pattern.endsWith(".*") && subject.startsWith(pattern.slice(0, -1)));
  const deliver = (subject: string, reply: string, head: string, body: string): boolean => {
    let delivered = false;
    for (const [socket, subscriptions] of clients) {
      for (const [sid, pattern] of subscriptions) {
        if (!matches(pattern, subject)) continue;
        const sizes = head === "" ? `${body.length}` : `${head.length} ${head.length + body.length}`;
        send(
          socket,
          `${head === "" ? "" : "H"}MSG ${subject} ${sid} ${reply && `${reply} `}${sizes}\r\n${head}${body}\r\n`,
        );
        delivered = true;
      }
    }
    return delivered;
  };
  const server = createServer({ noDelay: true }, (socket) => {
    let received = "";
    clients.set(socket, new Map());
    socket.on("close", () => clients.delete(socket)).on("error", () => {});
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      received += chunk;
      for (let end = received.indexOf("\r\n"); end !== -1; end = received.indexOf("\r\n")) {
        const [op = "", ...words] = received.slice(0, end).split(" ");
        const bodyAt = end + 2;
        const size = op.endsWith("PUB") ? Number(words.at(-1)) + 2 : 0;
        if (received.length < bodyAt + size) return;
        const payload = received.slice(bodyAt, bodyAt + size - 2);
        received = received.slice(bodyAt + size);
        if (op === "PING") send(socket, "PONG\r\n");
        if (op === "SUB") clients.get(socket)?.set(words.at(-1)!, words[0]!);
        if (op === "UNSUB") clients.get(socket)?.delete(words[0]!);
        if (op === "CONNECT") {
          const { user, pass, headers, no_responders, verbose } = JSON.parse(words.join(" "));
          expect({ headers, no_responders, verbose }).toEqual({ headers: true, no_responders: true, verbose: false });
          if (account && (user !== account.user || pass !== account.pass)) {
            send(socket, "-ERR 'Authorization Violation'\r\n");
            socket.end();
          }
        }
        if (op === "PUB" || op === "HPUB") {
          const reply = words.length === (op === "PUB" ? 3 : 4) ? words[1]! : "";
          const headLength = op === "HPUB" ? Number(words.at(-2)) : 0;
          if (words[0] === "forbidden") send(socket, `-ERR 'Permissions Violation for Publish to "forbidden"'\r\n`);
          else if (
            !deliver(words[0]!, reply, payload.slice(0, headLength), payload.slice(headLength)) &&
            reply !== ""
          ) {
            deliver(reply, "", "NATS/1.0 503\r\n\r\n", "");
          }
        }
      }
    });
    send(socket, `INFO {"server_name":"stand-in","headers":true,"max_payload":1048576} \r\nPING\r\n`);
  });
  const port = await listening(server);
  const dropAll = () => {
    for (const socket of clients.keys()) socket.destroy();
  };
  onTestFinished(async () => {
    dropAll();
    await new Promise((closed) => server.close(closed));
  });
  return { url: `nats://127.0.0.1:${port}`, dropAll };
}

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port; // it listens on TCP
}
