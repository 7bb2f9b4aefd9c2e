// Sessions and holders in forged ledgers: a session stays with its proxy, and a holder within its number of leases.
import { describe, expect, test } from "vitest";
import { decodeCommit } from "../../events/commit.ts";
import type { Finding } from "../../services/audit/checker/finding.ts";
import { verify } from "../../services/audit/verify.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";

const policy = {
  rate: { limit: 6, windowMs: 5000 },
  concurrency: 2,
  backoff: { kind: "exponential", baseMs: 500, maxMs: 3000, jitterMs: 0, jitterShare: 0.2, baseMsBy: {} },
  lease: { ttlMs: 2000, ttlMsMax: 5000, graceMs: 200, usesMax: 10 },
};

async function findingsIn(commits: readonly Buffer[]): Promise<Finding[]> {
  return (await verify(sourceOf(commits), {})).findings;
}

describe("names", () => {
  const named = { ...policy, session: { ttlMs: 60_000, patienceMs: 1000, max: 50 }, usage: null };

  test("finds a lease of a session on a proxy that is not the session's", async () => {
    const ledger = makeLedger(400, { policy: named, chaos: 2, failures: 1, proxies: 3, names: true });
    expect(await findingsIn(ledger)).toEqual([]);
    // A session that continues with the proxy of its previous lease, and requests nothing that another proxy would not
    // have.
    const last = new Map<string, unknown>();
    const { index, place } = findEvent(ledger, (event, commit) => {
      if (!hasName(event, "session")) return false;
      const { session, labels, exclude } = event["request"] as Record<string, string>;
      const isBound = last.get(session!) === event["proxyId"] && commit.n > 50;
      last.set(session!, event["proxyId"]);
      return isBound && labels === undefined && exclude === undefined;
    });
    const { session } = (decodeCommit(ledger[index]!.toString()).events[place] as { request: { session: string } })
      .request;
    // Another proxy, with every other field made to match: only the session can tell.
    const forged = forge(ledger, index, (commit) => {
      const event = commit.events[place] as { proxyId: string; epoch: number };
      const other = ["0", "1", "2"].map((i) => `p_${i.padStart(16, "0")}`).find((id) => id !== event.proxyId)!;
      Object.assign(event, { proxyId: other });
    });
    const findings = await findingsIn(forged);
    expect(findings).toContainEqual(
      expect.objectContaining({
        rule: "session",
        n: index + 1,
        what: expect.stringContaining(`the session ${session}`),
      }),
    );
  });

  test("finds a lease over its holder's cap", async () => {
    const ledger = makeLedger(300, { policy: named, chaos: 2, proxies: 6, names: true });
    const changed = forge(ledger, 0, (commit) => {
      const opened = commit.events[1] as { policy: { holder: { leasesMax: number } } };
      opened.policy.holder.leasesMax = 1;
    });
    const findings = await findingsIn(changed);
    expect(findings.map(({ rule }) => rule)).toContain("holder");
    expect(findings.every(({ rule }) => rule === "holder")).toBe(true);
  });

  function hasName(event: Record<string, unknown>, name: "session" | "holder"): boolean {
    return (event["request"] as Record<string, unknown> | undefined)?.[name] !== undefined;
  }
});
