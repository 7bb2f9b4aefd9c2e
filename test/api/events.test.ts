// Connections that stay open: followers of a ledger, and their end.
import { type IncomingMessage, request } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Headers, type Json, lines, type Service, sharedService, startService } from "./http.ts";

let service: Service;
const call: Service["call"] = (...sent) => service.call(...sent);

beforeAll(async () => {
  service = await sharedService();
}, 150_000);
afterAll(() => service?.stop());

interface Message {
  id: number;
  commit: Json;
}

class Follower {
  readonly response: IncomingMessage;
  readonly messages: Message[] = [];
  ended = false;
  #rest = "";

  constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding("utf8").on("data", (chunk: string) => this.#read(chunk));
    for (const end of ["close", "error"]) response.on(end, () => (this.ended = true));
  }

  static async open(path: string, headers: Headers = {}): Promise<Follower> {
    return new Promise((resolve, reject) => {
      request(`${service.url}${path}`, { headers, agent: false }, (response) => resolve(new Follower(response)))
        .on("error", reject)
        .end();
    });
  }

  hangUp(): void {
    this.response.destroy();
  }

  /** The messages, once there are this many. */
  async first(count: number): Promise<Message[]> {
    return eventually(() => {
      expect(this.messages.length).toBeGreaterThanOrEqual(count);
      return this.messages.slice(0, count);
    });
  }

  #read(chunk: string): void {
    const blocks = (this.#rest + chunk).split("\n\n");
    this.#rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(
        block.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]),
      );
      const data = fields.get("data");
      if (data !== undefined) this.messages.push({ id: Number(fields.get("id")), commit: JSON.parse(data) });
    }
  }
}

const followers = async (): Promise<number> =>
  Number(/^remuda_event_followers (\d+)$/m.exec((await call("GET /metrics")).text)?.[1]);

describe("events", () => {
  test("sends every commit from the first with ?from=0, numbered without gaps, and then new ones", async () => {
    const pool = await service.pool("whole", lines(2));
    const follower = await Follower.open(`${pool}/events?from=0`);
    expect(follower.response.headers["content-type"]).toBe("text/event-stream; charset=utf-8");
    const [opened, added] = await follower.first(2);
    expect(opened?.commit.events.map(({ type }: Json) => type)).toContain("PoolOpened");
    expect(added?.commit.events.map(({ type }: Json) => type)).toEqual(["ProxyAdded", "ProxyAdded"]);
    const { leaseId } = (await call(`POST ${pool}/leases`)).body;
    const [, , granted] = await follower.first(3);
    expect(granted?.commit.events[0]).toMatchObject({ type: "LeaseGranted", leaseId });
    expect(follower.messages.map(({ commit }) => commit.n)).toEqual([1, 2, 3]);
    follower.hangUp();
  });

  test("begins with new commits if no place is given", async () => {
    const pool = await service.pool("now", lines(1));
    const follower = await Follower.open(`${pool}/events`);
    const { leaseId } = (await call(`POST ${pool}/leases`)).body;
    const [first] = await follower.first(1);
    expect(first?.commit.events[0]).toMatchObject({ type: "LeaseGranted", leaseId });
    follower.hangUp();
  });

  test("continues exactly after Last-Event-ID, whatever ?from= says", async () => {
    const pool = await service.pool("resume", lines(20));
    const all = await Follower.open(`${pool}/events?from=0`);
    const early = await Follower.open(`${pool}/events?from=0`);
    await call(`POST ${pool}/leases`);
    const seen = await early.first(3);
    early.hangUp();
    for (let i = 0; i < 10; i++) await call(`POST ${pool}/leases`);
    const ids = (await all.first(13)).map(({ id }) => id);
    const last = String(seen.at(-1)?.id);
    const back = await Follower.open(`${pool}/events?from=0`, { "Last-Event-ID": last });
    expect([...seen, ...(await back.first(10))].map(({ id }) => id)).toEqual(ids);
    const from = await Follower.open(`${pool}/events?from=${ids[5]}`);
    expect((await from.first(8)).map(({ id }) => id)).toEqual(ids.slice(5));
    for (const each of [all, back, from]) each.hangUp();
  });

  test("stops following for a client that has hung up", async () => {
    const pool = await service.pool("gone", lines(1));
    await eventually(async () => expect(await followers()).toBe(0));
    const many = await Promise.all(Array.from({ length: 5 }, () => Follower.open(`${pool}/events?from=0`)));
    await Promise.all(many.map((each) => each.first(2)));
    expect(await followers()).toBe(5);
    for (const each of many) each.hangUp();
    await eventually(async () => expect(await followers()).toBe(0));
  });

  test("refuses a follower beyond the maximum with `overloaded`", async () => {
    const pool = await service.pool("crowd");
    const many = await Promise.all(Array.from({ length: 100 }, () => Follower.open(`${pool}/events`)));
    const { status, headers, body } = await call(`GET ${pool}/events`);
    expect([status, body.code, headers["retry-after"]]).toEqual([503, "overloaded", "5"]);
    for (const each of many) each.hangUp();
    await eventually(async () => expect(await followers()).toBe(0));
  });

  test.each([
    ["/v1/pools/nowhere/events", {}, 404, "unknown-pool"],
    ["/v1/pools/default/events?from=x", {}, 400, "invalid-request"],
    ["/v1/pools/default/events", { "Last-Event-ID": "-1" }, 400, "invalid-request"],
  ])("refuses %s with %j with %i", async (path, headers, status, code) => {
    const reply = await call(`GET ${path}`, undefined, headers);
    expect([reply.status, reply.body.code]).toEqual([status, code]);
  });
});

test("ends the service in time, though clients wait and follow", async () => {
  const own = await startService();
  try {
    const pool = await own.pool("end", lines(1), { concurrency: 1 });
    await own.call(`POST ${pool}/leases`);
    const waiting = own.call(`POST ${pool}/leases`, { waitMs: 60_000 }).catch((error: Error) => error);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request(`${own.url}${pool}/events`, { agent: false }, resolve).on("error", reject).end();
    });
    const ended = new Promise((resolve) =>
      response
        .on("close", resolve)
        .on("error", () => {})
        .resume(),
    );
    const { code, ms } = await own.remuda.interrupt();
    expect(code).toBe(0); // It ended in order. A late end would be forced.
    expect(ms).toBeLessThan(2000);
    await ended;
    expect(await waiting).toMatchObject({ status: 503, body: { code: "unavailable" } });
  } finally {
    await own.stop();
  }
}, 150_000);
