// Bodies as people send them: without a content type, with a wrong one, empty, broken, far too long.
import { spawn } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lines, type Service, sharedService } from "./http.ts";

let service: Service;
const call: Service["call"] = (...sent) => service.call(...sent);

beforeAll(async () => {
  service = await sharedService();
}, 150_000);
afterAll(() => service?.stop());

describe("JSON", () => {
  test.each([
    "",
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/xml",
    "json",
    ";;;",
    "multipart/form-data",
  ])("is read as JSON with the content type %j", async (type) => {
    const headers: Record<string, string> = type === "" ? {} : { "Content-Type": type };
    const { status, body } = await call("POST /v1/pools/default/leases", '{"uses":0}', headers);
    expect([status, body.field]).toEqual([400, "uses"]);
  });

  test("reads an empty body as {}, with and without a content type, and in chunks", async () => {
    const pool = await service.pool("empty", lines(9));
    expect((await call(`POST ${pool}/leases`)).status).toBe(201);
    expect((await call(`POST ${pool}/leases`, "")).status).toBe(201);
    expect((await call(`POST ${pool}/leases`, " \n", { "Content-Type": "application/json" })).status).toBe(201);
    expect((await call(`POST ${pool}/leases`, "", { "Content-Type": "application/json" })).status).toBe(201);
    expect((await call(`POST ${pool}/leases`, "", { "Transfer-Encoding": "chunked" })).status).toBe(201);
  });

  test.each(["{bad", "null", '"text"', "[]", "5", "[".repeat(50_000)])(
    "refuses a lease request that is not an object: %#",
    async (body) => {
      const { status, body: refusal } = await call("POST /v1/pools/default/leases", body);
      expect([status, refusal.code]).toEqual([400, "invalid-request"]);
    },
  );

  test("passes on an unknown field, without losing or refusing it", async () => {
    const pool = await service.pool("fields", lines(1));
    expect((await call(`POST ${pool}/leases`, { later: { version: 2 }, __proto__: null })).status).toBe(201);
  });

  test("refuses a body over 512 KB with 413 too-large", async () => {
    const { status, body } = await call("POST /v1/pools/default/leases", { holder: "x".repeat(600_000) });
    expect([status, body.code]).toEqual([413, "too-large"]);
  });
});

describe("proxy lists", () => {
  test("keep the numbers of lines, with comments, blank lines, BOM and CRLF", async () => {
    const pool = await service.pool("lines");
    const list = "\uFEFF# ours\r\n10.3.0.1:80\r\n\r\n1.2.3.4\r\n10.3.0.2:80:user:secret\r\n10.3.0.3:99999\r\n";
    const { status, body } = await call(`POST ${pool}/proxies`, list, { "Content-Type": "text/plain" });
    expect(status).toBe(200);
    expect(body).toMatchObject({ added: 2, already: 0, updated: 0, rejectedCount: 2 });
    expect(body.rejected.map(({ line }: { line: number }) => line)).toEqual([4, 6]);
    const again = await call(`POST ${pool}/proxies`, list, { "Content-Type": "text/plain" });
    expect(again.body).toMatchObject({ added: 0, already: 2 });
  });

  test("are read as CSV by the header", async () => {
    const pool = await service.pool("csv");
    const list = "ip,port,username,password,country\n10.3.1.1,80,user,se:cret,DE\n";
    const { body } = await call(`POST ${pool}/proxies`, list, { "Content-Type": "text/csv; charset=utf-8" });
    expect(body).toMatchObject({ added: 1, rejected: [] });
    expect((await call(`POST ${pool}/leases`)).body).toMatchObject({ password: "se:cret", labels: { country: "DE" } });
  });

  test.each([
    ["an array", ["10.3.2.1:80", { url: "socks5://10.3.2.2:1080", labels: { country: "US" } }, "nonsense"]],
    ["the request of NATS", { proxies: ["10.3.2.1:80", { url: "socks5://10.3.2.2:1080" }, "nonsense"] }],
    ["what vendors send", { results: [{ proxy_address: "10.3.2.1", port: 80 }, { ip: "10.3.2.2", port: "1080" }, 5] }],
  ])("are read as JSON: %s; a bad entry is named by its place", async (what, list) => {
    const pool = await service.pool(`json-${what.length}`);
    const { status, body } = await call(`POST ${pool}/proxies`, list);
    expect([status, body.added, body.rejectedCount, body.rejected[0].line]).toEqual([200, 2, 1, 3]);
  });

  test("refuses content that is neither JSON nor text, and reads a list without a content type", async () => {
    const pool = await service.pool("untyped");
    for (const body of ["{bad", '["10.3.3.1:80",', ""])
      expect((await call(`POST ${pool}/proxies`, body)).body).toMatchObject({ code: "invalid-request" });
    const typed = await call(`POST ${pool}/proxies`, "10.3.3.1:80", { "Content-Type": "application/json" });
    expect(typed.status).toBe(400);
    expect((await call(`POST ${pool}/proxies`, "10.3.3.1:80\n[2001:db8::1]:80\n")).body).toMatchObject({ added: 2 });
    expect((await call(`POST ${pool}/proxies`, "[2001:db8::2]:80\n")).body).toMatchObject({ added: 1 });
    const empty = await call(`POST ${pool}/proxies`, "# nothing yet\n", { "Content-Type": "text/plain" });
    expect([empty.status, empty.body.added]).toEqual([200, 0]);
  });

  test("answers 404 for a pool that is not open, even for an empty list", async () => {
    const { status, body } = await call("POST /v1/pools/nowhere/proxies", "", { "Content-Type": "text/plain" });
    expect([status, body.code]).toEqual([404, "unknown-pool"]);
  });

  test("reads 5 MB of lines, each by its number, and answers 413 over 32 MiB", { timeout: 120_000 }, async () => {
    const pool = await service.pool("long");
    const long = `${"#".repeat(1000)}\n`;
    const list = lines(5000).map((line, i) => `${i % 1250 === 1249 ? "nonsense" : line}\n${long}`);
    expect(list.join("").length).toBeGreaterThan(5_000_000);
    const { status, body } = await call(`POST ${pool}/proxies`, list.join(""), { "Content-Type": "text/plain" });
    expect(status).toBe(200);
    expect(body).toMatchObject({ added: 4996, rejectedCount: 4 });
    expect(body.rejected.map(({ line }: { line: number }) => line)).toEqual([2499, 4999, 7499, 9999]);

    const tooLong = await call(`POST ${pool}/proxies`, Buffer.alloc(33 * 1024 * 1024, "#")).catch(() => undefined);
    // The service may answer before it has read everything. Then the connection breaks for a client that still sends.
    if (tooLong !== undefined) expect([tooLong.status, tooLong.body.code]).toEqual([413, "too-large"]);
    expect((await call("GET /livez")).status).toBe(200);
  });
});

describe("a body so long that a thread reads it", () => {
  const entries = Array.from({ length: 2400 }, (_, i) => ({
    ip: `10.5.${i >> 8}.${i & 255}`,
    port: 80,
    note: "x".repeat(200),
  }));

  test.each(["", "application/json", "text/plain", "application/vnd.list+json"])(
    "reads a JSON list with the content type %j",
    async (type) => {
      const pool = await service.pool(`long-${type.replaceAll(/\W/g, "") || "none"}`);
      const body = `\uFEFF ${JSON.stringify({ results: [...entries.slice(0, 10), { ip: "nowhere", port: 0 }, ...entries.slice(10)] }, null, 1)}`;
      const { status, body: reply } = await call(
        `POST ${pool}/proxies`,
        body,
        type === "" ? {} : { "Content-Type": type },
      );
      expect([status, reply]).toEqual([
        200,
        {
          added: 2400,
          already: 0,
          updated: 0,
          rejected: [{ line: 11, input: "***", why: expect.any(String) }],
          rejectedCount: 1,
        },
      ]);
    },
  );

  test("refuses a cut-off list and adds nothing of it, and reads one JSON object per line as a list", async () => {
    const pool = await service.pool("long-broken");
    const { status, body } = await call(`POST ${pool}/proxies`, JSON.stringify(entries).slice(0, -20));
    expect([status, body.code]).toEqual([400, "invalid-request"]);
    expect((await call(`GET ${pool}/proxies`)).body.proxies).toEqual([]);
    const perLine = entries.map((entry) => JSON.stringify(entry)).join("\n");
    expect((await call(`POST ${pool}/proxies`, perLine)).body).toMatchObject({ added: 2400, rejectedCount: 0 });
  });

  test("answers several at once, each by itself, and reads a bracketed list that is not JSON as lines", async () => {
    const pools = await Promise.all(["a", "b", "c", "d"].map((name) => service.pool(`at-once-${name}`)));
    const replies = await Promise.all(
      pools.map((pool, i) => call(`POST ${pool}/proxies`, JSON.stringify(entries.slice(0, 2000 + i)))),
    );
    expect(replies.map(({ body }) => body.added)).toEqual([2000, 2001, 2002, 2003]);
    const long = "#".repeat(300);
    const six = Array.from({ length: 1500 }, (_, i) => `[2001:db8::${i.toString(16)}]:8080\n${long}`).join("\n");
    expect((await call(`POST ${pools[0]}/proxies`, six)).body).toMatchObject({ added: 1500, rejectedCount: 0 });
  });

  test("ingests each outcome, ignores unreadable ones, and refuses a body that is not a JSON array", async () => {
    const pool = await service.pool("long-outcomes", lines(1), { rate: null, usage: null, lease: { usesMax: 5000 } });
    const { leaseId } = (await call(`POST ${pool}/leases`, { uses: 5000 })).body;
    const outcomes: unknown[] = Array.from({ length: 5000 }, (_, i) => ({
      leaseId,
      n: i + 1,
      status: 200,
      target: "x".repeat(40),
    }));
    outcomes.splice(3, 0, "nonsense");
    for (const [sent, expected] of [
      [outcomes, { accepted: 5000, ignored: [{ leaseId: "", n: 0, why: "unreadable" }] }],
      [{ outcomes }, { accepted: 0, ignored: { length: 100 }, ignoredCount: 5001 }],
    ])
      expect((await call(`POST ${pool}/outcomes`, sent as object)).body).toMatchObject(expected as object);
    const cut = await call(`POST ${pool}/outcomes`, JSON.stringify(outcomes).slice(0, -3));
    expect([cut.status, cut.body.code]).toEqual([400, "invalid-request"]);
    const object = await call(`POST ${pool}/outcomes`, { outcomes: { "0": "x".repeat(300_000) } });
    expect([object.status, object.body.field]).toEqual([400, "outcomes"]);
  });
});

test("refuses an endlessly nested body as the client's error, and ignores only such an outcome", async () => {
  const pool = await service.pool("deep", lines(1));
  const deep = "[".repeat(100_000) + "]".repeat(100_000);
  for (const [path, body] of [
    ["leases", `{"labels": ${deep}}`],
    ["leases", `{"unknown": ${deep}}`],
    ["outcomes", `{"outcomes": {"a": ${deep}}}`],
  ])
    expect(await call(`POST ${pool}/${path}`, body)).toMatchObject({ status: 400, body: { code: "invalid-request" } });
  for (const padding of ["", " ".repeat(300_000)]) {
    const { leaseId } = (await call(`POST ${pool}/leases`)).body;
    const outcomes = `[${deep}, {"leaseId": "${leaseId}", "status": 200}]${padding}`;
    const { status, body } = await call(`POST ${pool}/outcomes`, outcomes);
    expect([status, body]).toMatchObject([200, { accepted: 1, ignored: [{ why: "unreadable" }] }]);
  }
});

describe("curl", () => {
  const curl = async (...args: string[]): Promise<string> => {
    const child = spawn("curl", ["-sS", "--max-time", "115", ...args], { stdio: ["ignore", "pipe", "inherit"] });
    return text(child.stdout);
  };

  test("works with -X POST without a body, -d with JSON, and --data-binary with a file", {
    timeout: 120_000,
  }, async () => {
    expect(await curl("--version")).toMatch(/^curl /);
    const pool = await service.pool("curl", ["10.4.0.1:80"]);
    expect(JSON.parse(await curl("-X", "POST", `${service.url}${pool}/leases`)).uses).toBe(1);
    expect(JSON.parse(await curl("-d", '{"uses":3}', `${service.url}${pool}/leases`)).uses).toBe(3);
    const file = join(service.dataDir, "list.txt");
    const entries = lines(20_000).map((line) => `http://user-${"x".repeat(220)}@${line}`);
    await writeFile(file, entries.join("\n"));
    expect(entries.join("\n").length).toBeGreaterThan(4_500_000);
    const answer = JSON.parse(await curl("--data-binary", `@${file}`, `${service.url}${pool}/proxies`));
    expect(answer).toMatchObject({ added: 20_000, rejectedCount: 0 });
    await rm(file);
  });
});
