// Whose fault a failure is: each row of the table in docs/outcomes.md (clients/classification.json), over each of its transports, with real
// connections. The first proxy is the one that goes wrong, and beside it there is a good one.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Client, FetchInit, Options, Response } from "../../client/client.ts";
import { readClassification, type Transport, transports } from "../docs/classification.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { deadPort, firstly, startLabProxy, startTarget, type Target } from "./lab.ts";
import { type LabCase, labCases } from "./lab-cases.ts";
import { standIn } from "./stand-in.ts";

/** What this client does in a row. */
interface Case extends LabCase {
  options?: Options & { leaseMs?: number };
  init?: () => FetchInit;
  /** Before the request that goes wrong. */
  before?: (client: Client, url: string) => Promise<void>;
  /** The caller's use of the answer. Default: reads it. */
  read?: (response: Response) => Promise<unknown>;
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
    init: () => ({ signal: AbortSignal.timeout(150) }),
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
    before: async (client, url) => void (await (await client.fetch(url)).text()),
  },
  "nothing comes for `bodyTimeoutMs`": { options: { fetch: { bodyTimeoutMs: 200 } } },
  "it drips past the lease's end": { options: { leaseMs: 500 } },
  "it drips past the caller's time limit": { init: () => ({ signal: AbortSignal.timeout(500) }) },
  "the lease ends while the reader has paused": { options: { leaseMs: 500 }, read: () => sleep(700) },
  "the caller cancels it": { read: async (response) => response.body?.cancel() },
};

const cases: Record<string, Case> = Object.fromEntries(
  Object.entries(labCases).map(([what, lab]) => [what, { ...lab, ...own[what] }]),
);

const root = new URL("../../", import.meta.url).pathname;
const rows = readClassification(root).cases.flatMap(({ transports, ...row }) =>
  transports.map((transport) => ({ ...row, transport })),
);

let targets: Record<"plain" | "secure", Target>;

beforeAll(async () => {
  targets = { plain: await startTarget({ secure: false }), secure: await startTarget({ secure: true }) };
});
afterAll(() => Promise.all(Object.values(targets).map((each) => each.stop())));

let paths = 0;
async function setUp(transport: Transport, { target, proxy, dead, options = {} }: Case) {
  const [bad, good] = [await startLabProxy(), await startLabProxy()];
  proxy?.(bad);
  const scheme = transport === "SOCKS" ? "socks5" : "http";
  const badPort = dead ? await deadPort() : bad.port;
  const addresses = [badPort, good.port].map((port) => `${scheme}://127.0.0.1:${port}`);
  const fetch = { tunnelHttp: transport === "CONNECT", idleMs: 60_000, ...options.fetch };
  const tls = { targetCa: loopbackTls.cert };
  const open = standIn(addresses, { uses: 10, tls, ...options, fetch });
  const site = transport === "TLS" ? targets.secure : targets.plain;
  const path = `/${++paths}`;
  if (target !== undefined) site.plays.set(path, target);
  const end = async (): Promise<void> => {
    await open.client.close();
    await Promise.all([bad.stop(), good.stop()]);
  };
  return { ...open, url: `${site.url}${path}`, addresses, end };
}

test("has a case for each row, and a row for each case", () => {
  expect(new Set(rows.map(({ what }) => what))).toEqual(new Set(Object.keys(cases)));
  expect(rows.length).toBeGreaterThan(90);
});

// Most of them wait for a time limit, so two run at once.
describe.concurrent.each(transports)("over %s", (transport) => {
  test.for(rows.filter((row) => row.transport === transport))(
    "$phase: $what: $class, then $next",
    async ({ what, class: ending, next, phase }, { expect, onTestFinished }) => {
      const given = cases[what] as Case; // The test above has checked that.
      const target = given.target && phase !== "reuse" ? firstly(given.target) : given.target;
      const { client, outcomes, url, addresses, end } = await setUp(transport, { ...given, ...(target && { target }) });
      onTestFinished(end);
      if (given.before !== undefined) {
        await given.before(client, url);
        await expect.poll(() => outcomes.length).toBe(1);
        outcomes.length = 0;
      }
      const read = given.read ?? ((response: Response) => response.text());
      const got = await client.fetch(url, given.init?.()).then(
        async (response) => {
          await read(response).catch(() => {});
          return response.status;
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
    },
  );
});
