// Exits whose proxies were forgotten or have moved: the checker agrees with the decisions, and finds a forged rest.
import { expect, test } from "vitest";
import type { Limits } from "../../events/policy.ts";
import { verify } from "../../services/audit/verify.ts";
import { sourceOf } from "./ledgers.ts";
import { addition, Script } from "./scripted.ts";

/** Adds a proxy that leaves through an exit of that name, or moves it there. */
function come(script: Script, id: string, exit: string, limits?: Limits): void {
  const { type, newcomer } = addition(id, "198.51.100.1", { exit });
  script.do({ type, newcomer: { ...newcomer, limits } });
}

test("finds nothing wrong when a proxy joins an exit whose retired proxies are forgotten", async () => {
  const usage = { limit: 4, restMs: 60_000 };
  const script = new Script("2026-03-01T10:00:00Z", { rate: null, usage, lease: { ttlMs: 10_000 } }, 0);
  const limits = { usage: { limit: 2, restMs: 60_000 } };
  const { type, newcomer } = addition("p_gone000000000000", "198.51.100.9", { exit: "a" });
  script.do({ type, newcomer: { ...newcomer, limits } });
  script.release(script.lease());
  script.do({ type: "retire", proxyId: "p_gone000000000000", reason: undefined });
  script.pass(3_700_000);
  come(script, "p_next000000000000", "a");
  script.release(script.lease({ uses: 4, minUses: 4 }));
  const report = await verify(sourceOf(script.commits), {});
  expect(report.findings).toEqual([]);
  expect(report.leases.granted).toBe(2);
});

// Seeds 752 and 784 of the simulator.
test("finds nothing wrong when a proxy brings its uses from an exit without a window, which forgets them", async () => {
  const policy = { rate: { limit: 2, windowMs: 10_000 }, countFrom: "grant" };
  const script = new Script("2026-03-01T10:00:00Z", policy, 0);
  come(script, "p_one0000000000000", "a");
  come(script, "p_free000000000000", "b", { rate: null });
  const block = script.lease({ uses: 2, exclude: ["p_one0000000000000"] });
  script.pass(100);
  script.report(block, { n: 1, status: 200 });
  come(script, "p_free000000000000", "a", { rate: null });
  expect(script.lease({ uses: 2, minUses: 2, exclude: ["p_one0000000000000"] })).not.toBe("");
  expect((await verify(sourceOf(script.commits), {})).findings).toEqual([]);
});

// Seed 908 of the simulator.
test("counts no bytes of an exit that a proxy came to after another one had left it while the rule was off", async () => {
  const script = new Script("2026-03-01T10:00:00Z", { rate: null, bytes: null }, 0);
  come(script, "p_one0000000000000", "a");
  const late = script.lease();
  come(script, "p_one0000000000000", "b"); // b counts the uses granted through a.
  come(script, "p_two0000000000000", "a");
  script.policy({ bytes: { limit: 100, windowMs: 60_000 } });
  script.report(script.lease({ exclude: ["p_one0000000000000"] }), { status: 200, bytes: 100 });
  script.report(late, { status: 200, bytes: 10 });
  expect(script.lease({ exclude: ["p_two0000000000000"] })).not.toBe("");
  expect((await verify(sourceOf(script.commits), {})).findings).toEqual([]);
});

test("finds a rest of an exit that ends a usage quota without a cause, whichever proxy records it", async () => {
  const script = new Script("2026-03-01T10:00:00Z", { rate: null, usage: { limit: 4, restMs: 60_000 } }, 0);
  come(script, "p_one0000000000000", "a");
  come(script, "p_two0000000000000", "a");
  come(script, "p_alone00000000000", "b");
  const open = script.lease({ uses: 3, exclude: ["p_one0000000000000", "p_two0000000000000"] });
  script.release(script.lease({ uses: 4, exclude: ["p_alone00000000000"] }));
  come(script, "p_alone00000000000", "a");
  const { restUntil } = script.state.exits.get("a")!;
  // As if another proxy of the exit joined late, and ended the usage quota that came along.
  const proxyId = "p_one0000000000000";
  const rest = { state: "exhausted", until: restUntil, reasons: ["usage"], epoch: 1, exitUntil: restUntil } as const;
  script.do({ type: "record", events: [{ type: "RestBegan", proxyId, ...rest, reasons: ["usage"] }] });
  expect(open).not.toBe("");
  const { findings } = await verify(sourceOf(script.commits), {});
  expect(findings.map(({ rule }) => rule)).toContain("usage");
  expect(findings[0]?.what).toMatch(/exit a rests with 3 uses in its usage quota and 1 leases open/);
});
