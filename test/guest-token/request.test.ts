// The request of one refresh, and the reading of its answer. Every answer of a source gives a token or a reason why
// not.

import { createServer as createTcpServer, type Socket } from "node:net";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { TokenSource } from "../../events/token-policy.ts";
import type { TokenJob } from "../../protocol/token.ts";
import { readToken } from "../../services/guest-token/answer.ts";
import { Expressions } from "../../services/guest-token/expressions.ts";
import { fetchToken } from "../../services/guest-token/request.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { type SocksProxy, startSocksProxy } from "../kit/socks-proxy.ts";
import { within } from "../kit/within.ts";

const expressions = new Expressions();
let proxy: SocksProxy;
let port: number;
let requests: string[] = [];
let answer: (socket: Socket) => void;
const sockets = new Set<Socket>();
const server = createTcpServer((socket) => {
  sockets.add(socket);
  socket.on("error", () => {});
  socket.once("data", (data) => {
    requests.push(data.toString("latin1"));
    answer(socket);
  });
});

beforeAll(async () => {
  proxy = await startSocksProxy({ exit: "127.0.0.31" });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as { port: number }).port; // It listens on TCP.
});

afterEach(() => {
  requests = [];
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

afterAll(async () => {
  expressions.close();
  server.close();
  await proxy?.stop();
});

const base: TokenSource = {
  method: "POST",
  url: "",
  headers: {},
  body: null,
  timeoutMs: 5000,
  value: { jsonPointer: "/t" },
  life: null,
};

function fetched(
  source: Partial<TokenSource> = {},
  leftMs = 5000,
  through?: Pick<TokenJob, "scheme" | "host" | "port">,
) {
  const { hostname: host, port: proxyPort } = new URL(`socks5://${proxy.address}`);
  const names = { tokenId: "t", leaseId: "l", proxyId: "p" };
  const address = { url: "", scheme: "socks5" as const, host, port: Number(proxyPort), ...through };
  const asked = { ...base, url: `http://127.0.0.1:${port}/guest`, ...source };
  const job: TokenJob = { ...names, ...address, leftMs, deadlineMs: leftMs, source: asked };
  return fetchToken(job, performance.now() + leftMs, { expressions, outbound: loopbackAllowed });
}

const http =
  (head: string, body: string | Buffer = "") =>
  (socket: Socket): void => {
    const bytes = Buffer.from(body);
    socket.write(`HTTP/1.1 ${head}\r\ncontent-length: ${bytes.length}\r\nconnection: close\r\n\r\n`);
    socket.end(bytes);
  };
const good = '{"t":"hush"}';

describe("a source's answer", () => {
  test("is read, and its request was the one that the policy describes", async () => {
    answer = http("200 OK", good);
    const brought = await fetched({ method: "PUT", headers: { "x-a": "b" }, body: "all of it" });
    expect(brought).toMatchObject({ value: "hush", outcome: { status: 200, bytes: 12 } });
    expect(requests).toHaveLength(1);
    expect(requests[0]).toContain("PUT ");
    expect(requests[0]).toContain("x-a: b");
  });

  test.each<[string, (socket: Socket) => void, string]>([
    ["a redirect is not followed", http("302 Found\r\nlocation: /elsewhere", good), "status"],
    ["a header larger than any real one", http(`200 OK\r\nx-much: ${"x".repeat(100_000)}`, good), "too-large"],
    [
      "a length beyond the bound is refused before it is read",
      http(`200 OK`, `"${"x".repeat(2_000_000)}"`),
      "too-large",
    ],
    ["an answer that is not HTTP", (socket) => socket.end("hush hush hush\r\n\r\n"), "unreachable"],
    [
      "an end in the middle",
      (socket) => socket.end(`HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n${good}`),
      "unreachable",
    ],
    ["no answer at all", (socket) => socket.destroy(), "unreachable"],
    ["bytes that are not UTF-8", http("200 OK", Buffer.from([0x22, 0xff, 0x22])), "unreadable"],
    ["a compression that is broken", http("200 OK\r\ncontent-encoding: gzip", good), "unreadable"],
    ["one that is not known", http("200 OK\r\ncontent-encoding: compress", good), "unreadable"],
  ])("%s", async (_title, given, why) => {
    answer = given;
    const brought = await fetched();
    expect(brought).toMatchObject({ why });
    expect(JSON.stringify(brought)).not.toContain("hush");
    expect(requests).toHaveLength(1);
  });

  test("is reported with its retry time, for the proxy's sake", async () => {
    answer = http("429 Too Many Requests\r\nretry-after: 70");
    expect(await fetched()).toMatchObject({ why: "status", outcome: { status: 429, retryAfterMs: 70_000 } });
    answer = http("503 Busy\r\nretry-after: 5");
    expect(await fetched()).toMatchObject({ why: "status", outcome: { status: 503, retryAfterMs: 5000 } });
    answer = http("200 OK\r\nretry-after: 5", good);
    expect(await fetched()).not.toHaveProperty("outcome.retryAfterMs");
  });

  test("is known to refuse by its head, without waiting for the body", async () => {
    answer = (socket) => socket.write("HTTP/1.1 429 Wait\r\nretry-after: 9\r\ncontent-length: 1000\r\n\r\nx");
    expect(await fetched({ timeoutMs: 300 })).toMatchObject({
      why: "status",
      outcome: { status: 429, retryAfterMs: 9000 },
    });
    // A later end of the body has no effect.
    await new Promise((resolve) => setTimeout(resolve, 100));
  });

  test("counts against the proxy if it is a forwarding proxy's own", async () => {
    const through = { scheme: "http", host: "127.0.0.1", port } as const;
    const source = { url: "http://target.example/guest" };
    answer = http('502 Bad Gateway\r\nproxy-status: one; error="connection_refused"');
    expect(await fetched(source, 5000, through)).toMatchObject({
      why: "status",
      outcome: { status: 502, reason: "proxy-error" },
    });
    answer = http("502 Bad Gateway");
    expect(await fetched(source, 5000, through)).not.toHaveProperty("outcome.reason");
    expect(requests[0]).toContain("POST http://target.example/guest");
  });

  test("does not count against the proxy if the refresh's end leaves too little time", async () => {
    answer = () => {};
    expect(await fetched({ timeoutMs: 10_000 }, 200)).toMatchObject({
      why: "timeout",
      outcome: { reason: "client-abort" },
    });
    expect(await fetched({ timeoutMs: 300 }, 200)).toMatchObject({ why: "timeout", outcome: { reason: "timeout" } });
  });

  test("is cut at the end of its time if it comes drop by drop", async () => {
    let dripping: NodeJS.Timeout | undefined;
    answer = (socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
      dripping = setInterval(() => socket.write("x"), 20);
    };
    const brought = await within(2000, fetched({ timeoutMs: 200 }));
    expect(brought).toMatchObject({ why: "timeout", outcome: { reason: "timeout" } });
    clearInterval(dripping);
  });

  test("is not requested from an invalid URL", async () => {
    expect(await fetched({ url: "http://[bad/x" })).toEqual({ why: "unreachable" });
  });

  test("is not requested when no time is left", async () => {
    answer = http("200 OK", good);
    expect(await fetched({}, 0)).toEqual({ why: "not-sent" });
    expect(requests).toEqual([]);
  });

  test.each([
    ["gzip", gzipSync],
    ["br", brotliCompressSync],
    ["zstd", zstdCompressSync],
  ])("is read if compressed by %s, and is too large if its content is", async (encoding, compress) => {
    answer = http(`200 OK\r\ncontent-encoding: ${encoding}`, compress(good));
    expect(await fetched()).toMatchObject({ value: "hush" });
    answer = http(`200 OK\r\ncontent-encoding: ${encoding}`, compress(`"${"x".repeat(2_000_000)}"`));
    expect(await fetched()).toMatchObject({ why: "too-large" });
  });
});

describe("a token in a header or on a page in any encoding", () => {
  const cookies = "set-cookie: guest_id=v1%3A1; Path=/\r\nset-cookie: gt=1638794849876054017; Max-Age=10800; Secure";
  const inCookie = { header: "Set-Cookie", regex: "\\bgt=(\\d+)" };

  test("is found in the second of several cookies, and never read as a cookie with its attributes", async () => {
    answer = http(`200 OK\r\n${cookies}`, "<html></html>");
    expect(await fetched({ value: inCookie })).toMatchObject({ value: "1638794849876054017" });
    expect(await fetched({ value: { header: "set-cookie" } })).toMatchObject({ why: "no-value" });
    expect(await fetched({ value: { header: "set-cookie", regex: "absent=(\\d+)" } })).toMatchObject({
      why: "no-value",
    });
  });

  test("is found by an expression in any other header, and so is its life", async () => {
    answer = http("200 OK\r\nauthorization: Bearer abc.def; expires=60\r\ncache: max-age=30", "");
    const value = { header: "authorization", regex: "Bearer ([^;]+)" };
    expect(await fetched({ value, life: { header: "cache", regex: "max-age=(\\d+)" } })).toMatchObject({
      value: "abc.def",
      lifeMs: 30_000,
    });
  });

  const utf16 = (text: string, mark = "\ufeff") => Buffer.from(mark + text, "utf16le");
  const latin1 = (text: string) => Buffer.from(text, "latin1");
  test.each<[string, string, Buffer]>([
    ["the content type's charset", "text/html; charset=windows-1251", latin1("<p>\xcf\xf0 gt=42")],
    ["a quoted charset", 'text/html;Charset="UTF-16LE"', utf16("<p>\u041f gt=42", "")],
    ["a byte order mark", "text/html; charset=utf-8", utf16("<p>\u041f gt=42")],
    ["the page's meta element", "text/html", latin1('<meta charset="shift_jis"><p>\x83\x65 gt=42')],
    [
      "the page's older meta element",
      "text/html",
      latin1('<meta http-equiv=x content="text/html; charset=gbk"><p>\xc4\xe3 gt=42'),
    ],
    ["the declaration of XML", "text/xml", latin1('<?xml version="1.0" encoding="ISO-8859-1"?><p>\xe9 gt=42')],
    ["nothing, and wrong bytes", "text/html", latin1("<p>\xe9\xff gt=42")],
  ])("is read by %s", async (_title, type, body) => {
    answer = http(`200 OK\r\ncontent-type: ${type}`, body);
    expect(await fetched({ value: { regex: "gt=(\\d+)" } })).toMatchObject({ value: "42" });
  });

  test("is read from JSON in another encoding, and from none that is not known", async () => {
    answer = http("200 OK\r\ncontent-type: application/json; charset=utf-16le", utf16(good, ""));
    expect(await fetched()).toMatchObject({ value: "hush" });
    answer = http("200 OK\r\ncontent-type: application/json; charset=klingon", good);
    expect(await fetched()).toMatchObject({ why: "unreadable" });
  });
});

describe("reading a token", () => {
  const read = async (body: string, source: Partial<TokenSource> = {}, headers = {}) =>
    readToken({ headers, body: Buffer.from(body) }, { ...base, ...source }, { expressions });

  test.each<[string, string, Partial<TokenSource>, object]>([
    ["a number is taken as it is written", '{"t": 1234567890123456789012}', {}, { value: "1234567890123456789012" }],
    ["a small number is taken as well", '{"t": 42}', {}, { value: "42" }],
    ["a byte order mark is passed over", '\ufeff{"t": "a"}', {}, { value: "a" }],
    [
      "a value deep in lists is found",
      '[[{"a/b": {"m~n": "v"}}]]',
      { value: { jsonPointer: "/0/0/a~1b/m~0n" } },
      { value: "v" },
    ],
    ["an inherited property is not read", "{}", { value: { jsonPointer: "/constructor/name" } }, { why: "no-value" }],
    ["an empty value is rejected", '{"t": ""}', {}, { why: "no-value" }],
    ["a value that ends with a space is rejected", '{"t": "a "}', {}, { why: "no-value" }],
    ["a value that is too long is rejected", `{"t": "${"x".repeat(16_385)}"}`, {}, { why: "no-value" }],
    ["the group of an expression is read", "gt=123; x", { value: { regex: "gt=(\\d+)" } }, { value: "123" }],
    ["the whole match is read if there is no group", "gt=123; x", { value: { regex: "gt=\\d+" } }, { value: "gt=123" }],
    ["a group that did not match gives no value", "b", { value: { regex: "(a)|b" } }, { why: "no-value" }],
    [
      "a life that is not a number is rejected",
      '{"t": "a", "e": "soon"}',
      { life: { jsonPointer: "/e" } },
      { why: "no-life" },
    ],
    ["a life of 0 is rejected", '{"t": "a", "e": 0}', { life: { jsonPointer: "/e" } }, { why: "no-life" }],
    ["seconds", '{"t": "a", "e": "1.5"}', { life: { jsonPointer: "/e" } }, { value: "a", lifeMs: 1500 }],
    ["milliseconds", '{"t": "a", "e": 7}', { life: { jsonPointer: "/e", unit: "ms" } }, { value: "a", lifeMs: 7 }],
  ])("%s", async (_title, body, source, expected) => {
    expect(await read(body, source)).toEqual(expected);
  });

  test("finds nothing with an endless expression, and blocks nothing meanwhile", async () => {
    let turns = 0;
    const turn = (): void => {
      turns += 1;
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    const found = await Promise.all(
      Array.from({ length: 4 }, () => read("a".repeat(60), { value: { regex: "^(a+)+$x" } })),
    );
    clearImmediate(next);
    expect(found).toEqual(Array.from({ length: 4 }, () => ({ why: "no-value" })));
    // In this thread the four would leave no or only a few turns to other work, however fast the machine is.
    expect(turns).toBeGreaterThan(50);
    expect(await read("gt=1", { value: { regex: "gt=(\\d)" } })).toEqual({ value: "1" });
  });

  test("serves the pools in turn, so that the endless expressions of one do not hold up another", async () => {
    const ended: string[] = [];
    const ask = async (pool: string, text: string): Promise<void> => {
      await expressions.of(pool).firstMatch(text, "^(a+)+$x");
      ended.push(pool);
    };
    const endless = Array.from({ length: 4 }, () => ask("flood", "a".repeat(60)));
    await Promise.all([...endless, ask("other", "b")]);
    expect(ended.indexOf("other")).toBeLessThan(3); // After at most two of the flood.
  });

  test("answers a waiting expression when the thread is ended, and starts a thread for the next", async () => {
    const waiting = expressions.firstMatch("a".repeat(60), "^(a+)+$x");
    expressions.close();
    expect(await waiting).toBeUndefined();
    expect(await expressions.firstMatch("gt=1", "gt=(\\d)")).toBe("1");
  });
});
