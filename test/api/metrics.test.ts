// `/metrics`, read as Prometheus reads it: valid text in every state, correct numbers, few labels.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { startRemuda, stopAllRemudas } from "../kit/process.ts";
import { type Family, readPrometheus } from "../kit/prometheus.ts";
import { callerOf, lines, type Service, startService } from "./http.ts";

let service: Service;
const call: Service["call"] = (...sent) => service.call(...sent);

beforeAll(async () => {
  service = await startService();
}, 150_000);
afterAll(() => service?.stop());

const scrape = async (from = call): Promise<Map<string, Family>> => {
  const { status, headers, text } = await from("GET /metrics");
  expect([status, headers["content-type"]]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
  return readPrometheus(text);
};

/** The samples of a family with these labels, as `{state="cooling"} 3`. */
function shown(families: Map<string, Family>, name: string, pool?: string): string[] {
  const samples = families.get(name)?.samples ?? [];
  return samples
    .filter(({ labels }) => pool === undefined || labels["pool"] === pool)
    .map(({ name: full, labels: { pool: _, ...labels }, value }) => {
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${text}"`);
      return `${full.slice(name.length)}{${pairs.join(",")}} ${value}`;
    });
}

describe("of two pools", () => {
  test("has every number that the protocol's terms promise, with the correct value", async () => {
    const shop = await service.pool("shop", lines(3), { concurrency: 1 });
    const other = await service.pool("other-shop");
    const granted = [];
    for (let i = 0; i < 3; i++) granted.push((await call(`POST ${shop}/leases`)).body);
    await call(`POST ${shop}/leases`);
    await call(`POST ${shop}/leases`, { waitMs: 30 });
    await call(`POST ${shop}/leases`, { labels: { country: "XX" } });
    await call(`POST ${other}/leases`);
    await call(`POST ${shop}/outcomes`, { leaseId: granted[0].leaseId, status: 200 });
    await call(`POST ${shop}/outcomes`, { leaseId: granted[1].leaseId, status: 403 });
    await call(`DELETE ${shop}/leases/${granted[1].leaseId}`);

    const of = (families: Map<string, Family>, name: string) => shown(families, `remuda_${name}`, "shop");
    // A refusal alone is in the ledger within a second.
    const families = await eventually(async () => {
      const found = await scrape();
      expect(of(found, "refusals_total").sort()).toEqual(['{code="no-match"} 1', '{code="pool-exhausted"} 2']);
      return found;
    });
    expect(shown(families, "remuda_ready")).toEqual(["{} 1"]);
    expect(of(families, "pool_led")).toEqual(["{} 1"]);
    expect(shown(families, "remuda_pool_led", "other-shop")).toEqual(["{} 1"]);
    expect(of(families, "leader_term")).toEqual(["{} 1"]);
    expect(of(families, "leases_granted_total")).toEqual(["{} 3"]);
    expect(of(families, "leases_open")).toEqual(["{} 1"]);
    expect(of(families, "lease_requests_held_back_total")).toContain('{rule="concurrency"} 2');
    expect(of(families, "lease_requests_held_back_total")).toContain('{rule="rate"} 0');
    expect(of(families, "lease_requests_waiting")).toEqual(["{} 0"]);
    expect(of(families, "lease_requests_cancelled_total")).toEqual(["{} 0"]);
    const waits = of(families, "lease_request_duration_seconds");
    expect(waits).toContain('_count{result="granted"} 3');
    expect(waits).toContain('_count{result="refused"} 3');
    // The request that waited for 30 ms is not among those that took at most 20.
    const refusedIn = (what: string) =>
      Number(
        waits
          .find((each) => each.startsWith(what))
          ?.split(" ")
          .at(-1),
      );
    expect(refusedIn('_bucket{result="refused",le="0.02"}')).toBeLessThanOrEqual(2);
    expect(refusedIn('_bucket{result="refused",le="+Inf"}')).toBe(3);
    expect(refusedIn('_sum{result="refused"}')).toBeGreaterThanOrEqual(0.03);
    expect(of(families, "outcomes_total")).toEqual([
      '{result="succeeded"} 1',
      '{result="failed"} 1',
      '{result="neutral"} 0',
      '{result="ignored"} 0',
    ]);
    expect(of(families, "outcome_lag_seconds")).toEqual(["{} 0"]);
    expect(of(families, "proxies")).toEqual([
      '{state="available"} 1',
      '{state="in-use"} 1',
      '{state="cooling"} 1',
      '{state="exhausted"} 0',
      '{state="retired"} 0',
    ]);
    expect(of(families, "proxies_leasable")).toEqual(["{} 1"]);
    const commits = Number(of(families, "commits_total")[0]?.split(" ")[1]);
    expect(commits).toBeGreaterThan(5);
    for (const name of ["commit_duration_seconds", "commit_events", "commit_answers"])
      expect(of(families, name)).toContain(`_count{} ${commits}`);
    expect(of(families, "commit_ambiguous_attempts_total")).toEqual(["{} 0"]);
    expect(of(families, "leader_stall_seconds").at(-1)).toMatch(/^_count\{\} \d+$/);
    const [bytes, bytesMax] = ["remuda_ledger_bytes", "remuda_ledger_bytes_max"].map((name) =>
      Number(shown(families, name)[0]?.split(" ")[1]),
    );
    expect(bytes).toBeGreaterThan(1000);
    expect(bytesMax).toBe(8 * 1024 ** 3);
    expect(shown(families, "remuda_http_stall_seconds").at(-1)).toMatch(/^_count\{\} \d+$/);
  });

  test("uses only fixed words and pools' names in labels, whatever clients do", async () => {
    const before = await scrape();
    const pool = await service.pool("shop", ["http://user-name:pass-word@10.77.0.1:8080,DE"]);
    for (let i = 0; i < 20; i++) {
      const { leaseId } = (await call(`POST ${pool}/leases`, { holder: `holder-${i}`, labels: { country: "DE" } }))
        .body;
      await call(`POST ${pool}/outcomes`, { leaseId, status: 200 + i, target: `target-${i}.example` });
      await call(`GET /v1/nowhere-${i}`);
      await call(`GET ${pool}/proxies/p_${i}?label.x${i}=y`);
    }
    const { text } = await call("GET /metrics");
    expect(text).not.toMatch(/holder-|target-|nowhere-|"p_|"l_|10\.77|user-name|pass-word|"DE"|picker-/);
    const after = readPrometheus(text);
    // There are as many refusals as codes, and the first of each may be recorded a second late.
    const others = ["remuda_http_request_duration_seconds", "remuda_refusals_total"];
    const ours = [...after.keys()].filter((name) => !others.includes(name));
    expect(
      ours.map((name) => [name, (after.get(name)?.samples.length ?? 0) - (before.get(name)?.samples.length ?? 0)]),
    ).toEqual(ours.map((name) => [name, 0]));
    const labels = new Set(
      [...after.values()].flatMap(({ samples }) => samples.flatMap((each) => Object.keys(each.labels))),
    );
    expect([...labels].sort()).toEqual(["code", "le", "method", "pool", "result", "route", "rule", "state", "status"]);
  });

  test("removes a closed pool from the scrape", async () => {
    await service.pool("short-lived");
    expect(shown(await scrape(), "remuda_pool_led", "short-lived")).toEqual(["{} 1"]);
    await call("DELETE /v1/pools/short-lived");
    const families = await scrape();
    expect(
      [...families.values()].flatMap(({ samples }) => samples).filter(({ labels }) => labels["pool"] === "short-lived"),
    ).toEqual([]);
    expect(shown(families, "remuda_ready")).toEqual(["{} 1"]);
  });
});

test("reports which pools are led and which outcomes wait, with several pickers, none, or a lost leader", async () => {
  const broker = await startTestBroker();
  const env = { REMUDA_NATS_URL: broker.url };
  // The data directory of another broker has witnesses of ledgers that this one lacks.
  const dataDir = mkdtempSync(join(tmpdir(), "metrics-test-"));
  try {
    const api = await startRemuda({ dataDir, args: ["run", "api"], env });
    const ask = callerOf(api.httpUrl ?? "");
    expect(shown(await scrape(ask), "remuda_ready")).toEqual(["{} 0"]);
    const first = await startRemuda({ dataDir, args: ["run", "picker"], env });
    for (const pool of ["one", "two"]) expect((await ask(`PUT /v1/pools/${pool}`)).status).toBe(200);
    const second = await startRemuda({ dataDir, args: ["run", "picker"], env });
    expect(shown(await scrape(ask), "remuda_leader_term")).toEqual(["{} 1", "{} 1"]);
    await first.kill9();
    // The second picker takes both over. The term grows, counts from the ledger stay, and counts in memory begin again.
    const after = await eventually(async () => {
      const found = await scrape(ask);
      expect(shown(found, "remuda_leader_term")).toEqual(["{} 2", "{} 2"]);
      expect(shown(found, "remuda_ready")).toEqual(["{} 1"]);
      return found;
    });
    expect(shown(after, "remuda_commits_total")).toEqual(["{} 2", "{} 2"]);
    expect(shown(after, "remuda_commit_duration_seconds", "one")).toContain("_count{} 1");
    await second.kill9();
    await eventually(async () => {
      const found = await scrape(ask);
      expect(shown(found, "remuda_ready")).toEqual(["{} 0"]);
      expect(shown(found, "remuda_ledger_bytes").length).toBe(1);
      expect(found.get("remuda_leases_open")?.samples).toEqual([]);
    });
  } finally {
    await stopAllRemudas();
    await broker.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}, 150_000);
