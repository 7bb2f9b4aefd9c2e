// docs/architecture.md names the files that a lease request travels through. Here a request travels through them, and
// the interpreter reports which of the named functions were called.

import { existsSync, readFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { systemClock } from "../../runtime/clock.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { Requests } from "../../services/picker/requests.ts";
import { foldedLeader } from "../kit/leader.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { loopbackAllowed } from "../kit/outbound.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const page = readFileSync(`${root}docs/architecture.md`, "utf8");
const path = [...page.matchAll(/^\| (\d+) \| `([^`]+)` \| `([^`]+)` \|/gm)].map(([, place, file, name]) => ({
  place: Number(place),
  file: file ?? "",
  name: name ?? "",
}));
/** Their functions talk to NATS. Requests over it are tested in test/protocol. The schema is not a function. */
const notHere = ["runtime/responder.ts", "runtime/ledger-jetstream.ts", "protocol/lease.ts"];

test("the path names at most 20 files, each once and in order, and each contains the named functions", () => {
  expect(path.length).toBeGreaterThan(10);
  expect(path.length).toBeLessThanOrEqual(20);
  expect(path.map(({ place }) => place)).toEqual(path.map((_step, i) => i + 1));
  expect(new Set(path.map(({ file }) => file)).size).toBe(path.length);
  for (const { file, name } of path)
    expect([file, name, readFileSync(root + file, "utf8")]).toEqual([
      file,
      name,
      expect.stringMatching(`\\b${name}\\b`),
    ]);
});

test("every folder and page that the architecture names exists", () => {
  for (const [, target = ""] of page.matchAll(/\]\(([^)#]+)/g))
    expect([target, existsSync(`${root}docs/${target}`)]).toEqual([target, true]);
  for (const [, folder = ""] of page.matchAll(/^\| `(\w+)\/` \|/gm))
    expect([folder, existsSync(`${root}state-machines/${folder}`)]).toEqual([folder, true]);
});

test("a lease request calls every function that the path names", async () => {
  const { leader, ask } = await lead();
  await ask("open", {});
  await ask("proxies.add", { proxies: ["192.0.2.1:8080"] });
  const inspector = new Session();
  inspector.connect();
  await inspector.post("Profiler.enable");
  await inspector.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
  expect(await ask("lease", {})).toMatchObject({ host: "192.0.2.1" });
  const { result } = await inspector.post("Profiler.takePreciseCoverage");
  inspector.disconnect();
  leader.stop();
  const called = new Set(
    result.flatMap(({ url, functions }) =>
      functions
        .filter(({ ranges }) => (ranges[0]?.count ?? 0) > 0)
        .map(
          ({ functionName }) => `${url.replace(/^file:\/\//, "").replace(root, "")} ${functionName.replace(/^#/, "")}`,
        ),
    ),
  );
  const missed = path.filter(({ file, name }) => !notHere.includes(file) && !called.has(`${file} ${name}`));
  expect(missed).toEqual([]);
});

async function lead() {
  const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");
  const leader = await foldedLeader({
    pool: "test",
    id: "leader",
    ledger: new MemoryLedger(),
    feed: { follow: () => {}, last: async () => undefined, stop: () => {} },
    clock: systemClock,
    key,
    secrets: noSecrets,
    tell: () => {},
  });
  const requests = new Requests({
    outbound: loopbackAllowed,
    leader,
    secrets: noSecrets,
    key,
    newLeaseId: () => `l_${"0".repeat(22)}`,
  });
  const ask = (verb: "open" | "lease" | "proxies.add", body: object): Promise<object> =>
    new Promise((resolve) => {
      if (verb !== "open") return requests.handle(verb, body, resolve);
      requests.open(body, resolve);
      void leader.lead();
    });
  return { leader, ask };
}
