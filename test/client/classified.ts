// Whose fault a failure is: each row of the table in docs/outcomes.md (clients/classification.json), over each of its
// transports, with real connections. The first proxy is the one that goes wrong, and beside it there is a good one. All
// ways in which this client sends requests share these cases.
import { setTimeout as sleep } from "node:timers/promises";
import { type ExpectStatic, expect as sharedExpect } from "vitest";
import type { Client, Options } from "../../client/client.ts";
import { readClassification, type Transport } from "../docs/classification.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { deadPort, firstly, startLabProxy, startTarget, type Target } from "./lab.ts";
import { type LabCase, labCases } from "./lab-cases.ts";
import { standIn } from "./stand-in.ts";

export interface Init {
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** As much of an answer as the cases use. */
export interface Answer {
  status: number;
  text(): Promise<string>;
  /** Reads no further. */
  cancel(): Promise<unknown> | undefined;
}

/** Sends a request through the client, in one of its ways. */
export type Send = (client: Client, url: string, init?: Init) => Promise<Answer>;

/** What the caller does in a row. */
interface Case extends LabCase {
  options?: Options & { leaseMs?: number };
  init?: () => Init;
  /** Before the request that goes wrong. */
  before?: (send: Send, client: Client, url: string) => Promise<unknown>;
  /** The caller's use of the answer. Default: reads it. */
  read?: (answer: Answer) => Promise<unknown> | undefined;
}

const short = { fetch: { connectTimeoutMs: 150 } };

const own: Record<string, Omit<Case, keyof LabCase>> = {
  "the proxy does not answer in time": { options: short },
  "the other side does not answer in time": { options: short },
  "the target's certificate is not valid": { options: { tls: {} } },
  "the answer is a 304 with a Content-Length": { init: () => ({ headers: { "if-none-match": '"x"' } }) },
  "no answer comes within `headersTimeoutMs`": { options: { fetch: { headersTimeoutMs: 300 } } },
  "the caller's time limit ends, and the proxy has had half of it": {
    init: () => ({ signal: AbortSignal.timeout(400) }),
  },
  "the caller's time limit ends, and the proxy has had less than half of it": {
    init: () => ({ signal: AbortSignal.timeout(100) }),
  },
  "the caller aborts": {
    init: () => {
      const given = new AbortController();
      setTimeout(() => given.abort(), 300);
      return { signal: given.signal };
    },
  },
  "the lease ends, and the request has had half of it": { options: { leaseMs: 400 } },
  "a kept connection closes before any answer": {
    before: async (send, client, url) => (await send(client, url)).text(),
  },
  "nothing comes for `bodyTimeoutMs`": { options: { fetch: { bodyTimeoutMs: 200 } } },
  "it drips past the lease's end": { options: { leaseMs: 500 } },
  "it drips past the caller's time limit": { init: () => ({ signal: AbortSignal.timeout(500) }) },
  "the lease ends while the reader has paused": { options: { leaseMs: 500 }, read: () => sleep(700) },
  "the caller cancels it": { read: (answer) => answer.cancel() },
};

export const cases: Record<string, Case> = Object.fromEntries(
  Object.entries(labCases).map(([what, lab]) => [what, { ...lab, ...own[what] }]),
);

const root = new URL("../../", import.meta.url).pathname;
export const rows = readClassification(root).cases.flatMap(({ transports, ...row }) =>
  transports.map((transport) => ({ ...row, transport })),
);
export type Row = (typeof rows)[number];

export class ClassifiedTargets {
  readonly #plain: Target;
  readonly #secure: Target;
  #paths = 0;

  constructor(plain: Target, secure: Target) {
    this.#plain = plain;
    this.#secure = secure;
  }

  static async start(): Promise<ClassifiedTargets> {
    return new ClassifiedTargets(await startTarget({ secure: false }), await startTarget({ secure: true }));
  }

  stop(): Promise<unknown> {
    return Promise.all([this.#plain.stop(), this.#secure.stop()]);
  }

  /** Brings the row about, sends a request, and compares the outcomes with the row. */
  async check(row: Row, send: Send, expect: ExpectStatic = sharedExpect): Promise<void> {
    const { what, class: ending, next, phase, transport } = row;
    const given = cases[what] as Case; // A test checks that there is one for each row.
    const target = given.target && phase !== "reuse" ? firstly(given.target) : given.target;
    const { client, outcomes, url, addresses, stop } = await this.#setUp(transport, {
      ...given,
      ...(target && { target }),
    });
    try {
      if (given.before !== undefined) {
        await given.before(send, client, url);
        await expect.poll(() => outcomes.length).toBe(1);
        outcomes.length = 0;
      }
      const read = given.read ?? ((answer: Answer) => answer.text());
      const got = await send(client, url, given.init?.()).then(
        async (answer) => {
          await read(answer)?.catch(() => {});
          return answer.status;
        },
        (error: Error) => error,
      );
      const tries = next === "never" ? 1 : 2;
      await expect.poll(() => outcomes.length).toBe(tries);
      await client.close(); // No further outcome comes.
      const [first = "", second = ""] = addresses;
      const wrong = { class: ending, proxy: first };
      const right = { class: "success", status: 200, proxy: next === "again" ? first : second };
      expect(outcomes).toMatchObject(next === "never" ? [wrong] : [wrong, right]);
      if (next !== "never") expect(got).toBe(200);
    } finally {
      await stop();
    }
  }

  async #setUp(transport: Transport, { target, proxy, dead, options = {} }: Case) {
    const [bad, good] = [await startLabProxy(), await startLabProxy()];
    proxy?.(bad);
    const scheme = transport === "SOCKS" ? "socks5" : "http";
    const badPort = dead ? await deadPort() : bad.port;
    const addresses = [badPort, good.port].map((port) => `${scheme}://127.0.0.1:${port}`);
    const fetch = { tunnelHttp: transport === "CONNECT", idleMs: 60_000, ...options.fetch };
    const tls = { targetCa: loopbackTls.cert };
    const open = standIn(addresses, { uses: 10, tls, ...options, fetch });
    const site = transport === "TLS" ? this.#secure : this.#plain;
    const path = `/${++this.#paths}`;
    if (target !== undefined) site.plays.set(path, target);
    const stop = async (): Promise<void> => {
      await open.client.close();
      await Promise.all([bad.stop(), good.stop()]);
    };
    return { ...open, url: `${site.url}${path}`, addresses, stop };
  }
}
