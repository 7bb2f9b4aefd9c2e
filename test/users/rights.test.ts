// The rights of each user on NATS, and their bounds, tested on the wire. This includes a detour: an allowed request
// whose answer would go to a forbidden subject.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { confOf } from "../../cli/login.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

let dataDir: string;
let remuda: RemudaProcess;
let client: RawNats;
let operator: RawNats;
let auditor: RawNats;
let ledger: RawNats;
let follower: RawNats;
const opened: RawNats[] = [];

const as = async (user: string): Promise<RawNats> => {
  const nats = await connectRaw(remuda.natsUrlAs(user));
  opened.push(nats);
  return nats;
};

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "users-test-"));
  remuda = await startRemuda({ dataDir });
  const logins = ["operator", "client", "auditor", "ledger", "follower"].map(as);
  [operator, client, auditor, ledger, follower] = (await Promise.all(logins)) as [
    RawNats,
    RawNats,
    RawNats,
    RawNats,
    RawNats,
  ];
  const proxies = Array.from({ length: 20 }, (_, i) => `user:secret@192.0.2.${i + 1}:8080`);
  expect(await ask(operator, "remuda.proxies.add.default", { proxies })).toMatchObject({ added: 20 });
}, 150_000);
afterAll(async () => {
  await Promise.all(opened.map((nats) => nats.close()));
  await remuda?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

// biome-ignore lint/suspicious/noExplicitAny: each test knows which reply it reads
const ask = async (nats: RawNats, subject: string, body: object | string = ""): Promise<any> =>
  (await nats.request(subject, typeof body === "string" ? body : JSON.stringify(body))).json();

/** How many messages a stream holds, and its configuration. */
async function streams() {
  const look = async (nats: RawNats, stream: string) => {
    const { state, config, error } = await ask(nats, `$JS.API.STREAM.INFO.${stream}`);
    expect(error).toBeUndefined();
    return { messages: state.messages, first: state.first_seq, config };
  };
  return {
    ledger: await look(ledger, "REMUDA_LEDGER"),
    secrets: await look(ledger, "KV_remuda-secrets"),
    outcomes: await look(follower, "REMUDA_OUTCOMES"),
  };
}

/** The server denies it. */
async function isForbidden(nats: RawNats, what: string, act: () => void): Promise<void> {
  const before = nats.errors.length;
  act();
  await nats.flush();
  expect([what, nats.errors.slice(before).join("; ")]).toEqual([
    what,
    expect.stringContaining(`Permissions Violation for ${what}`),
  ]);
}

const publishing = (nats: RawNats, subject: string, body = "{}", reply?: string): Promise<void> =>
  isForbidden(nats, `Publish to "${subject}"`, () => nats.publish(subject, body, reply === undefined ? {} : { reply }));

const subscribing = (nats: RawNats, subject: string): Promise<void> =>
  isForbidden(nats, `Subscription to "${subject}"`, () => void nats.subscribe(subject, () => {}));

/** The pool is led, and its chain of commits goes on. */
async function poolGoesOn(): Promise<void> {
  const { commits } = await ask(client, "remuda.pool.stats.default");
  const lease = await ask(client, "remuda.lease.default", {});
  expect(lease).toMatchObject({ leaseId: expect.stringMatching(/^l_/) });
  await ask(client, "remuda.release.default", { leaseId: lease.leaseId, used: 0 });
  expect((await ask(client, "remuda.pool.stats.default")).commits).toBeGreaterThan(commits);
}

describe("without a login", () => {
  test.each(["", "client:wrong@", "client:@", "unknown:unknown@", "token@"])("rejects login %s", async (login) => {
    const url = remuda.bareNatsUrl.replace("://", `://${login}`);
    await expect(connectRaw(url)).rejects.toMatchObject({ message: "Authorization Violation" });
  });
});

describe("a client", () => {
  test("may use the whole worker protocol", async () => {
    const lease = await ask(client, "remuda.lease.default", { uses: 2 });
    expect(await ask(client, "remuda.outcome.default", { leaseId: lease.leaseId, n: 1, status: 200 })).toMatchObject({
      stream: "REMUDA_OUTCOMES",
    });
    expect((await ask(client, "$SRV.PING.remuda")).name).toBe("remuda");
    expect((await ask(client, "remuda.pool.list.all")).pools).toHaveLength(1);
    expect(await client.request("remuda.lease.not-open")).toMatchObject({ status: 503 });
    expect(await client.request("remuda.lease.no.name")).toMatchObject({ status: 503 });
    client.subscribe("remuda.notice.*", () => {})();
    client.subscribe("remuda.notice.default", () => {})();
    await client.flush();
    expect(client.errors).toEqual([]);
    // The next test counts commits. So this one ends after the outcome's commit.
    await eventually(async () => {
      const proxy = await ask(operator, "remuda.proxies.get.default", { id: lease.proxyId });
      expect(proxy).toMatchObject({ totals: { succeeded: 1 } });
    });
  });

  test("cannot write a ledger, call the subjects of pickers, export passwords, or create streams and consumers", async () => {
    const before = await streams();
    for (const reply of [undefined, `${client.inbox}.x`]) {
      for (const subject of [
        "remuda.ledger.default",
        "remuda.ledger.other",
        "remuda.leader.default",
        "remuda.notice.default",
        ...["add", "list", "get", "export", "retire", "rest", "revive"].map((verb) => `remuda.proxies.${verb}.default`),
        ...["open", "policy", "close", "metrics"].map((verb) => `remuda.pool.${verb}.default`),
        ...["list", "put", "remove", "read"].map((verb) => `remuda.sources.${verb}.default`),
        "remuda.audit.proxies.default",
        "remuda.token.take.default",
        "_INBOX.other.1",
        "$KV.remuda-secrets.default.x",
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.DELETE.REMUDA_OUTCOMES",
        "$JS.API.STREAM.PURGE.REMUDA_OUTCOMES",
        "$JS.API.STREAM.MSG.GET.REMUDA_OUTCOMES",
        "$JS.API.CONSUMER.CREATE.REMUDA_OUTCOMES.mine",
        "$JS.API.CONSUMER.MSG.NEXT.REMUDA_OUTCOMES.mine",
        "$JS.API.STREAM.MSG.GET.KV_remuda-secrets",
        "$JS.API.DIRECT.GET.KV_remuda-secrets",
        "$JS.API.DIRECT.GET.KV_remuda-secrets.$KV.remuda-secrets.default.x",
        "$JS.API.CONSUMER.CREATE.REMUDA_LEDGER.mine",
        "$SYS.REQ.SERVER.PING",
      ]) {
        await publishing(client, subject, "{}", reply);
      }
    }
    expect(await streams()).toEqual(before);
    await poolGoesOn();
  });

  test("receives only messages to its own inboxes", async () => {
    for (const subject of [
      "_INBOX.>",
      "_INBOX.other.>",
      "_INBOX.*.x",
      "_INBOX.auditor.>",
      ">",
      "remuda.>",
      "remuda.lease.*",
      "remuda.lease.default",
      "remuda.ledger.>",
      "remuda.outcome.>",
      "$KV.>",
      "$KV.remuda-secrets.>",
      "$JS.>",
      "$SRV.PING",
    ]) {
      await subscribing(client, subject);
    }
  });

  test("cannot get an answer written where it may not write itself, whatever reply subject it names", async () => {
    const lease = await ask(client, "remuda.lease.default", { uses: 50 });
    await ask(client, "remuda.outcome.default", { leaseId: lease.leaseId, n: 1, status: 200 });
    await eventually(async () =>
      expect((await ask(client, "remuda.pool.stats.default")).outcomes.succeeded).toBeGreaterThan(0),
    );
    const before = await streams();
    let published = 0;
    const replies = [
      "remuda.ledger.default",
      "remuda.ledger.other",
      "$KV.remuda-secrets.default.x",
      "$JS.API.STREAM.NAMES",
      ...["DELETE", "PURGE", "MSG.DELETE", "UPDATE", "SNAPSHOT", "LEADER.STEPDOWN"].flatMap((call) =>
        ["REMUDA_LEDGER", "REMUDA_OUTCOMES", "KV_remuda-secrets"].map((stream) => `$JS.API.STREAM.${call}.${stream}`),
      ),
    ];
    for (const reply of replies) {
      client.publish("remuda.outcome.default", JSON.stringify({ leaseId: lease.leaseId, n: 2, status: 200 }), {
        reply,
      });
      client.publish("remuda.outcome.default", "[]", { reply });
      client.publish("remuda.outcome.default", "[]", { reply, headers: { "Nats-Expected-Last-Sequence": "77777" } });
      published += 2; // The last one is refused.
      for (const verb of ["lease", "report", "pool.get", "leases.list", "token.get"]) {
        client.publish(`remuda.${verb}.default`, "{}", { reply });
        client.publish(`remuda.${verb}.default`, "not json", { reply });
      }
      client.publish("remuda.pool.list.all", "", { reply });
      client.publish("$SRV.INFO.remuda", "", { reply });
    }
    await client.flush();
    await eventually(async () =>
      expect((await streams()).outcomes.messages).toBe(before.outcomes.messages + published),
    );
    const written = await messages(ledger);
    for (const text of written) expect(JSON.parse(text)).toMatchObject({ v: 2, n: expect.any(Number) });
    const after = await streams();
    expect(after.secrets).toEqual(before.secrets);
    expect(after.outcomes.first).toBe(before.outcomes.first);
    expect(after.ledger.config).toEqual(before.ledger.config);
    expect((await ask(auditor, "$JS.API.STREAM.NAMES", { subject: "remuda.ledger.other" })).streams).toEqual([
      "REMUDA_LEDGER",
    ]);
    await poolGoesOn();
  });
});

/** Every message of the ledger, as it was stored. */
async function messages(nats: RawNats): Promise<string[]> {
  const all: string[] = [];
  for (let seq = 1; ; seq++) {
    const { message } = await ask(nats, "$JS.API.STREAM.MSG.GET.REMUDA_LEDGER", { seq });
    if (message === undefined) return all;
    all.push(Buffer.from(message.data, "base64").toString());
  }
}

test("bounds the connections of each account, so that workers leave room for pickers and the services that read", () => {
  const bounds = confOf([]).matchAll(
    /^ {2}(\w+) \{\n(?: {4}jetstream: enabled\n)? {4}limits \{ max_connections: (\d+)/gm,
  );
  expect(Object.fromEntries([...bounds].map(([, account, max]) => [account, Number(max)]))).toEqual({
    LEDGER: 1000,
    WORK: 10_000,
    AUDIT: 500,
  });
});

test("makes the NATS server remember the way of an answer for ten seconds at most", () => {
  const exported = confOf([]).match(/\{ service: "\$JS[^}]*\}/g) ?? [];
  expect(exported.length).toBeGreaterThan(4);
  for (const each of exported) expect(each.includes("threshold") || each.includes("account:")).toBe(true);
  expect(exported.join()).toContain('threshold: "10s", accounts: [AUDIT]');
});

describe("an auditor", () => {
  test("reads the whole ledger message by message", async () => {
    const { streams: names } = await ask(auditor, "$JS.API.STREAM.NAMES", { subject: "remuda.ledger.default" });
    expect(names).toEqual(["REMUDA_LEDGER"]);
    const { state } = await ask(auditor, "$JS.API.STREAM.INFO.REMUDA_LEDGER");
    expect(await messages(auditor)).toHaveLength(state.messages);
    expect((await auditor.request("$JS.API.DIRECT.GET.REMUDA_LEDGER", '{"seq":1}')).json()).toMatchObject({ n: 1 });
  });

  test("reads it in batches of direct gets", async () => {
    const expected = await messages(auditor);
    const read: string[] = [];
    let isOver = false;
    const inbox = `${auditor.inbox}.batch`;
    auditor.subscribe(inbox, ({ status, body }) => {
      if (status === 204) isOver = true;
      else read.push(body);
    });
    const request = { seq: 1, next_by_subj: "remuda.ledger.default", batch: 256, max_bytes: 2 ** 20 };
    auditor.publish("$JS.API.DIRECT.GET.REMUDA_LEDGER", JSON.stringify(request), { reply: inbox });
    await eventually(() => expect(isOver).toBe(true));
    expect(read.slice(0, expected.length)).toEqual(expected);
    const last = (await auditor.request("$JS.API.DIRECT.GET.REMUDA_LEDGER.remuda.ledger.default")).body;
    expect(JSON.parse(last)).toMatchObject({ n: expect.any(Number) });
    expect(auditor.errors).toEqual([]);
  });

  test("has at most 10 000 subscriptions on a connection", async () => {
    const many = await as("auditor");
    // One is there already, for answers to requests.
    for (let i = 1; i < 10_000; i++) many.subscribe(`${many.inbox}.${i}`, () => {});
    await many.flush();
    expect(many.errors).toEqual([]);
    many.subscribe(`${many.inbox}.more`, () => {});
    await many.flush();
    expect(many.errors).toContainEqual(expect.stringMatching(/maximum subscriptions exceeded/i));
    await many.close();
  });

  test("can do nothing else: no lease, report, write, secrets or outcomes", async () => {
    const before = await streams();
    for (const subject of [
      "remuda.lease.default",
      "remuda.report.default",
      "remuda.pool.get.default",
      "remuda.pool.list.all",
      "remuda.outcome.default",
      "remuda.ledger.default",
      "$SRV.PING",
      "$KV.remuda-secrets.default.x",
      "$JS.API.INFO",
      "$JS.API.STREAM.LIST",
      "$JS.API.STREAM.CREATE.MINE",
      "$JS.API.STREAM.UPDATE.REMUDA_LEDGER",
      "$JS.API.STREAM.DELETE.REMUDA_LEDGER",
      "$JS.API.STREAM.PURGE.REMUDA_LEDGER",
      "$JS.API.STREAM.MSG.DELETE.REMUDA_LEDGER",
      "$JS.API.STREAM.SNAPSHOT.REMUDA_LEDGER",
      "$JS.API.STREAM.INFO.KV_remuda-secrets",
      "$JS.API.STREAM.MSG.GET.KV_remuda-secrets",
      "$JS.API.DIRECT.GET.KV_remuda-secrets",
      "$JS.API.CONSUMER.CREATE.KV_remuda-secrets.mine",
      "$JS.API.CONSUMER.CREATE.REMUDA_LEDGER",
      "$JS.API.CONSUMER.CREATE.REMUDA_LEDGER.mine",
      "$JS.API.CONSUMER.CREATE.REMUDA_LEDGER.mine.remuda.ledger.default",
      "$JS.API.CONSUMER.DURABLE.CREATE.REMUDA_LEDGER.mine",
      "$JS.API.CONSUMER.MSG.NEXT.REMUDA_LEDGER.mine",
      "$JS.API.CONSUMER.DELETE.REMUDA_LEDGER.mine",
      "$JS.ACK.REMUDA_LEDGER.mine.1.1.1.1.1",
      "$JS.API.STREAM.MSG.GET.REMUDA_OUTCOMES",
      "_INBOX.client.x",
    ]) {
      await publishing(auditor, subject, "{}", `${auditor.inbox}.x`);
    }
    for (const subject of ["_INBOX.>", "_INBOX.client.>", "_INBOX.ledger.>", "remuda.>", "$KV.>", ">"]) {
      await subscribing(auditor, subject);
    }
    expect(await streams()).toEqual(before);
  });

  test("cannot direct answers to where it may not write", async () => {
    const before = await streams();
    const targets = [
      "remuda.ledger.default",
      "remuda.ledger.other",
      "$KV.remuda-secrets.default.x",
      "$JS.API.STREAM.DELETE.REMUDA_LEDGER",
      "$JS.API.STREAM.PURGE.REMUDA_LEDGER",
      "$JS.API.STREAM.DELETE.KV_remuda-secrets",
    ];
    for (const reply of targets) {
      auditor.publish("$JS.API.STREAM.NAMES", "", { reply });
      auditor.publish("$JS.API.STREAM.INFO.REMUDA_LEDGER", "", { reply });
      auditor.publish("$JS.API.STREAM.MSG.GET.REMUDA_LEDGER", '{"seq":1}', { reply });
      // Answers without a body. Some calls treat them as a request.
      auditor.publish("$JS.API.DIRECT.GET.REMUDA_LEDGER", '{"seq":99999999}', { reply });
      auditor.publish("$JS.API.DIRECT.GET.REMUDA_LEDGER", '{"seq":1,"batch":3}', { reply });
    }
    await auditor.flush();
    await poolGoesOn(); // By now every forwarded message has arrived.
    const after = await streams();
    expect(after.secrets).toEqual(before.secrets);
    expect(after.ledger.first).toBe(before.ledger.first);
    for (const text of await messages(ledger)) expect(JSON.parse(text)).toMatchObject({ v: 2, n: expect.any(Number) });
  });
});

test("sends the picker's answers to inboxes only, and gives its connections only the rights that they need", async () => {
  const front = await as("front");
  for (const subject of ["remuda.ledger.default", "remuda.outcome.default", "$JS.API.STREAM.NAMES"]) {
    await publishing(front, subject);
  }
  for (const subject of ["remuda.ledger.default", "remuda.lease.default", "$JS.API.STREAM.DELETE.REMUDA_OUTCOMES"]) {
    await publishing(follower, subject);
  }
  for (const subject of ["remuda.lease.default", "remuda.outcome.default"]) await publishing(ledger, subject);
  const http = await as("http");
  for (const subject of ["remuda.proxies.export.default", "remuda.leader.default", "$JS.API.STREAM.NAMES"]) {
    await publishing(http, subject);
  }
});
