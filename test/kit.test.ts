// The test kit tested: whoever measures with it must be able to believe it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { fetch, ProxyAgent } from "undici";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { expectAlike } from "./kit/alike.ts";
import { type ForwardProxy, startForwardProxy } from "./kit/forward-proxy.ts";
import { startGuestSite } from "./kit/guest-site.ts";
import { eventually } from "./kit/poll.ts";
import { groupMembers, runCli, startRemuda, stopAllRemudas } from "./kit/process.ts";
import { connectRaw, type Frame, FrameReader, type RawMessage } from "./kit/raw-nats.ts";
import { type Seeded, seeded, withSeed } from "./kit/seed.ts";
import { maxInAnyWindow, startTarget, type Target } from "./kit/target.ts";
import { within } from "./kit/within.ts";

describe("the target and the forward proxies", () => {
  async function started(options: Parameters<typeof startForwardProxy>[0]): Promise<ForwardProxy> {
    const proxy = await startForwardProxy(options);
    onTestFinished(() => proxy.stop());
    return proxy;
  }

  async function startedTarget(): Promise<Target> {
    const target = await startTarget();
    onTestFinished(() => target.stop());
    return target;
  }

  function through(url: string, { tunnel }: { tunnel: boolean }): ProxyAgent {
    const agent = new ProxyAgent({ uri: url, proxyTunnel: tunnel });
    onTestFinished(() => agent.destroy());
    return agent;
  }

  function statusOf(asking: ClientRequest): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      const answered = (response: IncomingMessage) => {
        resolve(response.statusCode);
        asking.destroy();
      };
      asking.on("response", answered).on("connect", answered).on("error", reject).end();
    });
  }

  test.each([{ tunnel: false }, { tunnel: true }])(
    "a request reaches the target from the proxy's exit (by CONNECT: $tunnel)",
    async ({ tunnel }) => {
      const target = await startedTarget();
      const seven = await started({ exit: "127.0.0.7" });
      const eight = await started({ exit: "127.0.0.8" });
      const before = performance.now();
      for (const proxy of [seven, seven, eight]) {
        const response = await fetch(target.url, { dispatcher: through(proxy.url, { tunnel }) });
        expect(response.status).toBe(200);
        await response.text();
      }
      expect(target.arrivals.map(({ exit }) => exit)).toEqual(["127.0.0.7", "127.0.0.7", "127.0.0.8"]);
      const instants = [before, ...target.arrivals.map(({ at }) => at), performance.now()];
      expect(instants).toEqual(instants.toSorted((a, b) => a - b));
      expect(target.countByExit()).toEqual(
        new Map([
          ["127.0.0.7", 2],
          ["127.0.0.8", 1],
        ]),
      );
      expect(target.maxInWindow(60_000)).toEqual(
        new Map([
          ["127.0.0.7", 2],
          ["127.0.0.8", 1],
        ]),
      );
      expect([seven.requests, eight.requests]).toEqual([2, 1]);
    },
  );

  test("a site counts how many fetch a token at once, and not who has hung up", async () => {
    const site = await startGuestSite();
    onTestFinished(() => site.stop());
    const connect = () => dial(Number(new URL(site.url).port), "127.0.0.1").on("error", () => {});
    const ask = "POST /guest HTTP/1.1\r\nHost: site\r\nContent-Length: 0\r\n\r\n";
    site.delayMs = 60_000;
    const first = connect();
    first.write(ask);
    await eventually(() => expect(site.fetching).toBe(1));
    for (let n = 0; n < 2; n++) connect().end(ask); // What is read is over already.
    await eventually(() => expect(site.minted).toHaveLength(2));
    first.destroy();
    await eventually(() => expect(site.fetching).toBe(0));
    const second = connect();
    second.write(ask);
    await eventually(() => expect(site.fetching).toBe(1));
    expect(site.atOnce).toBe(1);
    const third = connect();
    third.write(ask);
    await eventually(() => expect(site.atOnce).toBe(2));
    for (const each of [second, third]) each.destroy();
  });

  test("many requests over one kept connection are counted one by one", async () => {
    const target = await startedTarget();
    const proxy = await started({ exit: "127.0.0.9" });
    const agent = through(proxy.url, { tunnel: false });
    for (let i = 0; i < 5; i++) await (await fetch(target.url, { dispatcher: agent })).text();
    expect(target.countByExit()).toEqual(new Map([["127.0.0.9", 5]]));
    expect(proxy.requests).toBe(5);
  });

  test("the target answers with the status and the Retry-After that the request asks for", async () => {
    const target = await startedTarget();
    const response = await fetch(`${target.url}?status=429&retryAfter=120`, {
      method: "POST",
      body: "x".repeat(100_000),
    });
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("120");
    expect(await response.text()).toBe("seen\n");
    expect(target.countByExit()).toEqual(new Map([["127.0.0.1", 1]]));
  });

  test("a proxy with credentials answers 407 to who has none or others, and lets nothing through", async () => {
    const target = await startedTarget();
    const proxy = await started({ exit: "127.0.0.7", credentials: { username: "us er", password: "p:@ss/%" } });
    const wrong = `Basic ${Buffer.from("us er:wrong").toString("base64")}`;
    for (const headers of [{}, { "Proxy-Authorization": wrong }]) {
      // By hand, since undici's agent makes an error of a 407.
      const asks = { host: proxy.host, port: proxy.port, headers };
      expect(await statusOf(request({ ...asks, path: target.url }))).toBe(407);
      expect(await statusOf(request({ ...asks, method: "CONNECT", path: `127.0.0.1:${target.port}` }))).toBe(407);
    }
    const bare = `http://${proxy.host}:${proxy.port}`;
    for (const tunnel of [false, true]) {
      await expect(fetch(target.url, { dispatcher: through(bare, { tunnel }) })).rejects.toThrow("fetch failed");
    }
    expect(target.arrivals).toEqual([]);
    expect(proxy.requests).toBe(0);
    for (const tunnel of [false, true]) {
      const response = await fetch(target.url, { dispatcher: through(proxy.url, { tunnel }) });
      expect(response.status).toBe(200);
      await response.text();
    }
    expect(target.countByExit()).toEqual(new Map([["127.0.0.7", 2]]));
    expect(proxy.requests).toBe(2);
  });

  test.each([{ tunnel: false }, { tunnel: true }])(
    "a proxy can fail in every way, and none reaches the target (by CONNECT: $tunnel)",
    async ({ tunnel }) => {
      const target = await startedTarget();
      let failure: "reset" | "hang" | { status: number } | undefined;
      const proxy = await started({ exit: "127.0.0.7", failWith: () => failure });
      const ask = (signal?: AbortSignal) =>
        fetch(target.url, { dispatcher: through(proxy.url, { tunnel }), ...(signal && { signal }) });

      failure = { status: 502 };
      if (tunnel) await expect(ask()).rejects.toThrow("fetch failed");
      else expect((await ask()).status).toBe(502);
      failure = "reset";
      await expect(ask()).rejects.toThrow("fetch failed");
      failure = "hang";
      const leaving = new AbortController();
      const hung = ask(leaving.signal);
      await eventually(() => expect(proxy.requests).toBe(3));
      leaving.abort();
      await expect(hung).rejects.toThrow("abort");
      failure = undefined;
      const response = await ask();
      expect(response.status).toBe(200);
      await response.text();
      expect(target.arrivals).toHaveLength(1);
      await proxy.stop();
      await expect(ask()).rejects.toThrow("fetch failed");
    },
  );

  test("a delay is waited before the request goes on, and who leaves meanwhile has sent nothing", async () => {
    const target = await startedTarget();
    let delays = 0;
    const proxy = await started({ exit: "127.0.0.7", delayMs: () => [120, 1500][delays++] ?? 0 });
    const before = performance.now();
    await (await fetch(target.url, { dispatcher: through(proxy.url, { tunnel: false }) })).text();
    expect(target.arrivals[0]!.at - before).toBeGreaterThan(115);
    const leaving = new AbortController();
    const left = fetch(target.url, { dispatcher: through(proxy.url, { tunnel: false }), signal: leaving.signal });
    await eventually(() => expect(delays).toBe(2));
    leaving.abort();
    await expect(left).rejects.toThrow("abort");
    // A third request that waits as long, and began later, proves that the second would have been there by now.
    delays = 1;
    await (await fetch(target.url, { dispatcher: through(proxy.url, { tunnel: false }) })).text();
    expect(target.arrivals).toHaveLength(2);
  });
});

describe("maxInAnyWindow", () => {
  test("a window is half-open: what is exactly one window apart does not share one", () => {
    expect(maxInAnyWindow([0, 1000], 1000)).toBe(1);
    expect(maxInAnyWindow([0, 999], 1000)).toBe(2);
    expect(maxInAnyWindow([], 1000)).toBe(0);
    expect(maxInAnyWindow([5, 5, 5], 1)).toBe(3);
    expect(maxInAnyWindow([5, 5, 5], 0)).toBe(0);
  });

  test("it says what trying every window says, and does not touch its argument", () => {
    // Between whole numbers, a window of whole width holds the same instants as one that starts at a whole number.
    const instant = fc.integer({ min: 0, max: 60 });
    fc.assert(
      fc.property(fc.array(instant, { maxLength: 40 }), fc.integer({ min: 0, max: 70 }), (instants, windowMs) => {
        const given = [...instants];
        let most = 0;
        for (let t = -windowMs - 1; t <= 61; t++) {
          most = Math.max(most, instants.filter((at) => t < at && at <= t + windowMs).length);
        }
        expect(maxInAnyWindow(instants, windowMs)).toBe(most);
        expect(instants).toEqual(given);
      }),
      { numRuns: 500 },
    );
  });
});

describe("the raw NATS client", () => {
  test("frames are read the same however the bytes were cut, and bodies may hold anything", () => {
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
  ])("what no server says is an error (%#)", (bytes) => {
    expect(() => [...new FrameReader().read(Buffer.from(bytes))]).toThrow(
      expect.objectContaining({ code: "protocol" }),
    );
  });

  async function connected(server: StandInBroker) {
    const nats = await connectRaw(server.url);
    onTestFinished(() => nats.close());
    return nats;
  }

  test("requests find their answers, with headers and every byte, through a server that cuts at random", async () => {
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

  test("a subject without a listener answers 503 at once, and one that stays silent times out", async () => {
    const server = await standInBroker(seeded(1));
    const client = await connected(server);
    const answer = await client.request("nobody", "", { timeoutMs: 5_000 });
    expect(answer.status).toBe(503);
    expect(answer.body).toBe("");
    const silent = client.subscribe("silent", () => {});
    await expect(client.request("silent", "", { timeoutMs: 50 })).rejects.toMatchObject({ code: "timeout" });
    silent();
    expect((await client.request("silent")).status).toBe(503);
  });

  test("a request may name its own reply subject, which the service sees", async () => {
    const server = await standInBroker(seeded(2));
    const client = await connected(server);
    client.subscribe("ask", ({ reply }) => client.publish(reply!, `to ${reply}`));
    const answer = await client.request("ask", "", { reply: "elsewhere.1" });
    expect(answer.body).toBe("to elsewhere.1");
    expect((await client.request("elsewhere.1")).status).toBe(503); // its subscription has ended with the answer
  });

  test("publish and subscribe, headers and reply, until the subscription is ended", async () => {
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

  test("a -ERR is kept, and the connection lives on", async () => {
    const server = await standInBroker(seeded(4));
    const client = await connected(server);
    client.publish("forbidden", "");
    await client.flush();
    expect(client.errors).toEqual(['Permissions Violation for Publish to "forbidden"']);
  });

  test("a lost connection fails what is open, and what comes after", async () => {
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

  test("the URL's user is sent, has inboxes of its own, and is refused in the server's words", async () => {
    const server = await standInBroker(seeded(6), { user: "auditor", pass: "p@ss" });
    await expect(connectRaw(server.url)).rejects.toMatchObject({ code: "refused", message: "Authorization Violation" });
    const nats = await connectRaw(server.url.replace("//", "//auditor:p%40ss@"));
    onTestFinished(() => nats.close());
    expect(nats.inbox).toMatch(/^_INBOX\.auditor\.[\w-]+$/);
    expect((await nats.request("nobody")).status).toBe(503);
  });

  test("a login that came too late for the server is made again, and one that it refuses is not", async () => {
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

  test("where nobody listens, and where nobody says INFO, connecting fails with the reason", async () => {
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

describe("processes", () => {
  let dataDir: string;
  let entry: string;
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), "remuda-kit-"));
    entry = join(dataDir, "stand-in.mjs");
    await writeFile(entry, STAND_IN_COMMAND);
  });
  afterEach(stopAllRemudas);
  afterAll(() => rm(dataDir, { recursive: true, force: true }));

  const isAlone = (pid: number) => eventually(() => expect(groupMembers(pid)).toEqual([]));

  test("it is ready when it says so, with ports and data directory from the kit and nothing of the test's own", async () => {
    const remuda = await startRemuda({ dataDir, entry, env: { EXTRA: "yes", HOME: undefined } });
    expect(remuda.readyLine).toBe("remuda is ready: nats://127.0.0.1:4333, http://127.0.0.1:7481.");
    expect(remuda.natsUrl).toBe("nats://127.0.0.1:4333");
    expect(remuda.httpUrl).toBe("http://127.0.0.1:7481");
    // Another pipe than the ready line's: it may be read a moment later.
    await eventually(() => expect(remuda.output()).toContain("on stderr: ü"));
    const said: unknown = JSON.parse(/^environment (.*)$/m.exec(remuda.output())?.[1] ?? "");
    expect(said).toEqual({
      args: ["up"],
      REMUDA_DATA_DIR: dataDir,
      REMUDA_NATS_PORT: "0",
      REMUDA_HTTP_PORT: "0",
      EXTRA: "yes",
    });
    expect(remuda.child.pid).toBe(remuda.pid);
  });

  test("an interrupt is waited for and timed, to the process or as Ctrl-C to the group", async () => {
    for (const wholeGroup of [false, true]) {
      const remuda = await startRemuda({ dataDir, entry });
      const { code, signal, ms } = await remuda.interrupt({ wholeGroup });
      expect({ code, signal }).toEqual({ code: 0, signal: null });
      expect(ms).toBeGreaterThan(0);
      expect(remuda.output()).toContain("interrupted");
      await remuda.stop();
    }
  });

  test("kill -9 ends the process alone, stop ends the rest of its group", async () => {
    const remuda = await startRemuda({ dataDir, entry, env: { WITH_CHILD: "1" } });
    expect(groupMembers(remuda.pid)).toHaveLength(2);
    await remuda.kill9();
    expect(await remuda.exited).toEqual({ code: null, signal: "SIGKILL" });
    expect(groupMembers(remuda.pid)).toHaveLength(1);
    await remuda.stop();
    expect(groupMembers(remuda.pid)).toEqual([]);
    await remuda.kill9();
    await remuda.interrupt({ wholeGroup: true });
    await remuda.stop();
  });

  test("who ends or stays silent instead of getting ready is an error with what it said, and leaves nothing", async () => {
    await expect(startRemuda({ dataDir, entry, args: ["fail"] })).rejects.toThrow(/ended \(3\).*no port left/s);
    await expect(startRemuda({ dataDir, entry, args: ["silent"], readyWithinMs: 300 })).rejects.toThrow(
      "was not ready",
    );
  });

  test("when the test process is killed, its groups are ended all the same", async () => {
    const kit = fileURLToPath(new URL("./kit/process.ts", import.meta.url));
    const script = `
      const { startRemuda } = await import(${JSON.stringify(kit)});
      const remuda = await startRemuda(${JSON.stringify({ dataDir, entry, env: { WITH_CHILD: "1" } })});
      console.log(remuda.pid);`;
    const tests = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(tests.stdout, "data");
    const pid = Number(String(line));
    expect(groupMembers(pid)).toHaveLength(2);
    tests.kill("SIGKILL");
    await isAlone(pid);
  });

  test("a command is run to its end, with its input, and its outputs kept apart", async () => {
    const done = await runCli(["cat", "x"], { dataDir, entry, stdin: "ü\n" });
    expect(done).toEqual({ code: 0, stdout: "ü\n", stderr: "cat x\n" });
    expect((await runCli(["fail"], { dataDir, entry })).code).toBe(3);
    expect((await runCli(["suicide"], { dataDir, entry, stdin: "x".repeat(1 << 20) })).code).toBe(128 + 15);
    await expect(runCli(["silent"], { dataDir, entry, timeoutMs: 300 })).rejects.toThrow("remuda silent did not end");
  });
});

describe("eventually", () => {
  test("gives the first answer that is no complaint", async () => {
    let tries = 0;
    const answer = await eventually(
      () => {
        tries += 1;
        if (tries < 3) throw new Error("not yet");
        return "so";
      },
      { everyMs: 1 },
    );
    expect([answer, tries]).toEqual(["so", 3]);
  });

  test("ends with the last complaint, also when a check hangs", async () => {
    const never = () => Promise.reject(new Error("still 3"));
    await expect(eventually(never, { timeoutMs: 30, everyMs: 5 })).rejects.toThrow("not so within 30 ms: still 3");
    const hangs = () => new Promise<never>(() => {});
    await expect(eventually(hangs, { timeoutMs: 30, everyMs: 5 })).rejects.toThrow("the check never answered");
  });
});

describe("within", () => {
  test("gives what comes in time, its error too, and gives up what does not come", async () => {
    expect(await within(1000, Promise.resolve("so"))).toBe("so");
    await expect(within(1000, Promise.reject(new Error("no")))).rejects.toThrow("no");
    await expect(within(50, new Promise(() => {}))).rejects.toThrow("it was not there within 50 ms");
  });

  test("what this process is given no turn for does not count", async () => {
    const soon = new Promise((resolve) => setTimeout(resolve, 60, "so"));
    const looked = within(200, soon);
    const until = performance.now() + 400;
    while (performance.now() < until);
    expect(await looked).toBe("so");
  });
});

describe("expectAlike", () => {
  test("is toEqual: fields that are undefined are none, and whatever else differs is told", () => {
    const document = () => ({ a: [1, { b: "x" }], c: null, d: undefined as unknown });
    expectAlike(document(), document());
    expectAlike(document(), { a: [1, { b: "x" }], c: null });
    expectAlike({ a: new Map([[1, 2]]) }, { a: new Map([[1, 2]]) });
    for (const other of [
      { a: [1, { b: "y" }], c: null },
      { a: [1, { b: "x" }, 2], c: null },
      { a: [1, { b: "x" }], c: undefined },
      { a: [1, { b: "x" }], c: null, d: 0 },
      { a: new Map([[1, 2]]) },
      [1],
      null,
    ]) {
      expect(() => expectAlike(document(), other)).toThrow();
      expect(() => expectAlike(other, document())).toThrow();
    }
    expect(() => expectAlike({ a: new Map([[1, 2]]) }, { a: new Map([[1, 3]]) })).toThrow();
  });
});

describe("seeded chance", () => {
  test("the same seed gives the same draws, within bounds, and all of them", () => {
    const draws = (random: Seeded) => Array.from({ length: 200 }, () => random.int(-2, 3));
    expect(draws(seeded(7))).toEqual(draws(seeded(7)));
    expect(draws(seeded(7))).not.toEqual(draws(seeded(8)));
    expect(new Set(draws(seeded(7)))).toEqual(new Set([-2, -1, 0, 1, 2, 3]));
    const random = seeded(9);
    expect(random.pick(["only"])).toBe("only");
    expect(() => random.pick([])).toThrow(RangeError);
    expect(Array.from({ length: 50 }, () => [random.chance(0), random.chance(1)])).toEqual(
      Array(50).fill([false, true]),
    );
  });

  test("a failure prints its seed, a success nothing", async () => {
    const printed: string[] = [];
    const print = (line: string) => printed.push(line);
    expect(await withSeed(({ seed }) => seed, { seed: 42, print })).toBe(42);
    expect(printed).toEqual([]);
    const failing = withSeed(() => Promise.reject(new Error("no")), { seed: 42, print });
    await expect(failing).rejects.toThrow("no");
    expect(printed).toEqual(["failed with seed 42; REMUDA_TEST_SEED=42 runs it again"]);
  });
});

const STAND_IN_COMMAND = `
import { spawn } from "node:child_process";
const [verb, ...rest] = process.argv.slice(2);
if (verb === "fail") { console.error("no port left"); process.exit(3); }
if (verb === "suicide") { process.kill(process.pid, "SIGTERM"); }
if (verb === "silent") { setInterval(() => {}, 1000); }
if (verb === "cat") { console.error([verb, ...rest].join(" ")); process.stdin.pipe(process.stdout); }
if (verb === "up") {
  const seen = Object.entries(process.env).filter(([name]) => /^(REMUDA_(?!NATS_SERVER)|VITEST|NODE_ENV|EXTRA|HOME)/.test(name));
  console.error("on stderr: ü");
  console.log("environment " + JSON.stringify({ args: [verb, ...rest], ...Object.fromEntries(seen) }));
  if (process.env.WITH_CHILD) {
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
    await new Promise((resolve) => child.once("spawn", resolve));
  }
  process.on("SIGINT", () => { console.log("interrupted"); process.exit(0); });
  setInterval(() => {}, 1000);
  process.stdout.write("remuda is rea");
  setImmediate(() => process.stdout.write("dy: nats://127.0.0.1:4333, http://127.0.0.1:7481.\\n"));
}
`;

type StandInBroker = { readonly url: string; dropAll(): void };

/** As much of a NATS server as these tests need, written without the kit's reader. It cuts all it sends at random. */
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
