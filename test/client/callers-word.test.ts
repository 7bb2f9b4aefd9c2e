// The caller's own word on an answer: in `fetch`, and by a report after `lease.fetch`.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type LabProxy, startLabProxy, startTarget, type Target } from "./lab.ts";
import { type StandIn, standIn } from "./stand-in.ts";

let target: Target;
let proxy: LabProxy;
let open: StandIn | undefined;
const problems: Error[] = [];

beforeAll(async () => {
  [target, proxy] = [await startTarget({ secure: false }), await startLabProxy()];
  const page = (text: string) => `HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
  target.plays.set("/captcha", (socket) => void socket.write(page("<p>Are you human?")));
  target.plays.set("/large", (socket) => void socket.write(page(`Are you human?${"x".repeat(300_000)}`)));
  target.plays.set("/moved", (socket) =>
    socket.write("HTTP/1.1 302 Found\r\nlocation: /captcha\r\ncontent-length: 0\r\n\r\n"),
  );
});
afterEach(async () => {
  await open?.client.close();
  problems.length = 0;
});
afterAll(() => Promise.all([target.stop(), proxy.stop()]));

function through(options: Parameters<typeof standIn>[1] = {}): StandIn {
  const onProblem = (problem: Error): void => void problems.push(problem);
  open = standIn([`http://127.0.0.1:${proxy.port}`], { uses: 10, onProblem, ...options });
  return open;
}

test.each(["/captcha", "/large"])(
  "counts a captcha at %s with status 200 as blocked, and the page can still be read",
  async (path) => {
    const { client, outcomes } = through();
    const outcome = async (response: { clone(): { text(): Promise<string> } }) =>
      (await response.clone().text()).includes("human") ? ("blocked" as const) : undefined;
    const response = await client.fetch(`${target.url}${path}`, {}, { outcome });
    expect(await response.text()).toContain("human");
    await (await client.fetch(`${target.url}/page`, {}, { outcome })).text();
    await expect
      .poll(() => outcomes.map((each) => [each.class, each.status]))
      .toEqual([
        ["blocked", 200],
        ["success", 200],
      ]);
  },
);

test("asks the caller about the last answer alone, and uses its class even if the body ends later", async () => {
  const { client, outcomes } = through();
  const asked: string[] = [];
  const response = await client.fetch(
    `${target.url}/moved`,
    {},
    {
      outcome: ({ url }) => {
        asked.push(new URL(url).pathname);
        return "throttled";
      },
    },
  );
  await response.text();
  expect(asked).toEqual(["/captcha"]);
  await expect.poll(() => outcomes.map((each) => each.class)).toEqual(["success", "throttled"]);
});

test("counts an answer by its status if the caller's function throws, or returns no class", async () => {
  const { client, outcomes } = through();
  const failing = client.fetch(
    `${target.url}/page`,
    {},
    {
      outcome: () => {
        throw new Error("mistake");
      },
    },
  );
  await expect(failing).rejects.toThrow("mistake");
  const wrong = client.fetch(`${target.url}/page`, {}, { outcome: () => "captcha" as "blocked" });
  await expect(wrong).rejects.toMatchObject({ code: "wrong-options" });
  await expect.poll(() => outcomes.map((each) => each.class)).toEqual(["success", "success"]);
});

test("waits for the caller's word until the lease's end, and no longer", async () => {
  const { client, outcomes } = through({ leaseMs: 400 });
  void client.fetch(`${target.url}/page`, {}, { outcome: () => new Promise(() => {}) });
  await expect.poll(() => outcomes.map((each) => each.class)).toEqual(["success"]);
});

test("completes the outcome of lease.fetch by the report that follows it, with or without its number", async () => {
  const { client, outcomes } = through();
  await client.withLease({ uses: 2 }, async (lease) => {
    await (await lease.fetch(`${target.url}/captcha`)).text();
    lease.report({ n: 1, reason: "blocked" });
    const early = await lease.fetch(`${target.url}/captcha`);
    lease.report({ reason: "blocked" });
    await early.text();
  });
  expect(outcomes.map((each) => [each.n, each.class, each.status])).toEqual([
    [1, "blocked", 200],
    [2, "blocked", 200],
  ]);
  expect(problems).toEqual([]);
});

test("sends an outcome without a report when the next use begins, and says that a later report came too late", async () => {
  const { client, outcomes } = through();
  await client.withLease({ uses: 3 }, async (lease) => {
    await (await lease.fetch(`${target.url}/page`)).text();
    await (await lease.fetch(`${target.url}/page`)).text();
    lease.report({ n: 1, reason: "blocked" });
  });
  expect(outcomes.map((each) => [each.n, each.class])).toEqual([
    [1, "success"],
    [2, "success"],
  ]);
  expect(problems).toMatchObject([{ code: "report-late" }]);
});
