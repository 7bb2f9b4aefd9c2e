// The log: the fields of its lines, and lines that repeat.
import { expect, test } from "vitest";
import { overNats } from "../../protocol/over-nats.ts";
import { refuse } from "../../protocol/refusal.ts";
import { Fault } from "../../runtime/fault.ts";
import { openLog } from "../../runtime/log.ts";

function logs({ level = "info", isTerminal = false } = {}) {
  const lines: string[] = [];
  const clock = { ms: 0 };
  const write = (line: string): void => void lines.push(line);
  const logOf = openLog({ level, version: "1.2.3", isTerminal, write, monotonic: () => clock.ms });
  return { lines, clock, log: logOf("picker"), logOf, said: () => lines.map((line) => JSON.parse(line)) };
}

test("writes one JSON object per line, with an ISO time, the level as a word, service and version", () => {
  const { lines, log, logOf, said } = logs();
  log.warn({ pool: "shop", leaseId: "l_1", requestId: "r_1", user: "alice" }, "this\nand that");
  logOf("api").error({ err: new Fault("retry-later", "away") }, "failed");
  expect(lines.every((line) => line.indexOf("\n") === line.length - 1)).toBe(true);
  const [first, second] = said();
  expect(first).toEqual({
    level: "warn",
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    service: "picker",
    version: "1.2.3",
    pool: "shop",
    leaseId: "l_1",
    requestId: "r_1",
    user: "alice",
    msg: "this\nand that",
  });
  expect(second).toMatchObject({ level: "error", service: "api", err: { message: "away", code: "retry-later" } });
});

test("logs the same error once a minute, with a count, whatever its ids are", () => {
  const { clock, log, said } = logs();
  for (let i = 0; i < 300; i++) {
    log.warn({ pool: "shop", why: "no answer", requestId: `request-${i}` }, "asking again");
    if (i < 3) log.error({ pool: "shop", err: new Error("no answer") }, "asking again");
    clock.ms += 200;
  }
  expect(said()).toHaveLength(2);
  log.warn({ pool: "shop", why: "no answer" }, "asking again");
  expect(said().at(-1)).toMatchObject({ pool: "shop", why: "no answer", repeated: 299 });
});

test("logs lines that differ: another pool, another reason, another service", () => {
  const { log, logOf, said } = logs();
  log.warn({ pool: "shop", why: "no answer" }, "asking again");
  log.warn({ pool: "other", why: "no answer" }, "asking again");
  log.warn({ pool: "shop", why: "refused" }, "asking again");
  logOf("api").warn({ pool: "shop", why: "no answer" }, "asking again");
  expect(said()).toHaveLength(4);
});

test("bounds lines that differ in a number alone", () => {
  const { log, said } = logs();
  for (let i = 0; i < 1000; i++) log.warn({ pool: "shop", why: `no answer after ${i} ms` }, "asking again");
  expect(said()).toHaveLength(20);
});

test("bounds lines that differ in their pool alone, and goes on with the pools that it knows", () => {
  const { clock, log, said } = logs();
  for (let i = 0; i < 5000; i++) log.info({ pool: `pool-${i}` }, "refused");
  expect(said()).toHaveLength(1020);
  log.info({ pool: "pool-0", why: "something else" }, "refused");
  expect(said()).toHaveLength(1021);
  clock.ms += 60_000;
  log.info({ pool: "pool-5000" }, "refused");
  expect(said()).toHaveLength(1022);
});

test("holds back neither details that were asked for nor fatal lines", () => {
  const { log, said } = logs({ level: "debug" });
  for (let i = 0; i < 3; i++) {
    log.debug("a detail");
    log.fatal("the end");
  }
  expect(said()).toHaveLength(6);
});

test("writes text on a terminal, without control characters from outside", () => {
  const { lines, log } = logs({ isTerminal: true });
  log.warn({ pool: "shop", why: "it said \u001b[2J" }, "asking \u001b]0;again");
  expect(lines[0]).toContain("picker: asking �]0;again");
  expect(lines[0]).toContain('pool=shop why="it said \\u001b[2J"');
});

test("writes on a terminal neither an error's control characters nor marks that change the direction", () => {
  const { lines, log } = logs({ isTerminal: true });
  log.error({ err: new Error("no \u001b[2J here") }, "failed for \u202Ecilbup");
  expect(lines[0]).toContain("failed for \uFFFDcilbup");
  expect(lines[0]).toMatch(/\nError: no \uFFFD\[2J here\n +at /);
});

const asked = {
  name: "release",
  subject: "remuda.release.shop",
  body: { leaseId: "l_12345678901234567890", used: "secret" },
  inbox: "_INBOX.alice.1",
  header: () => undefined,
};

test("notes a refusal with its user, pool, lease and code, without its sentence", () => {
  expect(overNats.noteOf(overNats.noted(asked), refuse("unknown-lease", "secret"))).toEqual({
    text: "a request was refused",
    fields: {
      ...{ verb: "release", pool: "shop", user: "alice", leaseId: "l_12345678901234567890", requestId: undefined },
      ...{ code: "unknown-lease", field: undefined },
    },
  });
  const unread = overNats.noted({ ...asked, body: "secret" });
  expect(JSON.stringify(overNats.noteOf(unread, refuse("invalid-request", "secret"))?.fields)).toBe(
    '{"verb":"release","pool":"shop","user":"alice","code":"invalid-request"}',
  );
});

test("notes administrative acts, the user of a key over HTTP, and no other requests", () => {
  const retire = { ...asked, name: "proxies.retire", subject: "remuda.proxies.retire.shop", body: { ids: ["p_1"] } };
  const overHttp = { ...retire, inbox: "_INBOX.http.1", header: () => "ann" };
  expect(overNats.noteOf(overNats.noted(overHttp), { changed: 1, unknown: [] })).toMatchObject({
    text: "an administrator's request was carried out",
    fields: { verb: "proxies.retire", pool: "shop", user: "ann" },
  });
  expect(overNats.noteOf(overNats.noted(asked), { leaseId: "l_1" })).toBeUndefined();
  const list = { ...asked, name: "sources.list", subject: "remuda.sources.list.shop" };
  expect(overNats.noteOf(overNats.noted(list), { sources: [] })).toBeUndefined();
});
