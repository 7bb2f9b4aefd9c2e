// Deliberate faults: each a small change of one or two sources, made while the simulator loads them, so that the code
// that runs in earnest carries no switch. A piece of source that is not found exactly once is an error: then the code
// has changed and the fault has to be written anew.
import { readFileSync } from "node:fs";
import { registerHooks, stripTypeScriptTypes } from "node:module";
import { loadersOf, readSources, type Sources } from "../borders.ts";
import { core, type Edit, type Fault } from "./edit.ts";
import { exitFaults } from "./exit-faults.ts";
import { tokenFaults } from "./token-faults.ts";
import { waitingFaults } from "./waiting-faults.ts";

const root = new URL("../../", import.meta.url);

export const faults: Record<string, Fault> = {
  "rate-off-by-one": {
    what: "one use more than the limit is granted in a window",
    edits: [
      core(
        "rules/rate.ts",
        "  return Array.isArray(of) ? of : [of];",
        "  return [of].flat().map((each) => ({ ...each, limit: each.limit + 1 }));",
      ),
    ],
    by: ["rate"],
    quick: 1,
  },
  "count-from-grant": {
    what: "a use is counted from its grant, though the policy says from its report",
    edits: [core("decide/grant.ts", '...(policy.countFrom === "grant" && { slotAt: turn.at })', "slotAt: turn.at")],
    by: ["rate"],
    quick: 2,
  },
  "no-grace": {
    what: "a request that failed on its way is taken to have arrived by its report",
    edits: [
      core(
        "decide/report.ts",
        "(reason) => reason === read.kind) ? graceMs : 0",
        "(reason) => reason === read.kind) ? 0 : 0",
      ),
    ],
    by: ["rate"],
    quick: 2,
  },
  "no-grace-at-lease-end": {
    what: "a use that was not reported is taken to have arrived by the end of its lease",
    edits: [
      core("decide/lease.ts", "slotAt: end.endedAt + graceOf(turn.state, lease)", "slotAt: end.endedAt"),
      core("rules/rate.ts", "open.expiresAt + graceOf(state, open)", "open.expiresAt"),
    ],
    by: ["rate"],
    quick: 2,
  },
  "margin-ignored": {
    what: "slots are free at once when their window is over, whatever clocks do",
    edits: [
      core("rules/rate.ts", "state.at - windowMs - state.rules.policy.marginMs", "state.at - windowMs"),
      core("rules/rate.ts", "  const { marginMs } = state.rules.policy;\n", "  const marginMs = 0;\n"),
    ],
    by: ["rate"],
    quick: 1,
  },
  "wall-clock-followed": {
    what: "a leader's time follows the wall clock, which steps back and forth",
    edits: [
      {
        file: "runtime/clock.ts",
        find: "start.at + Math.floor(clock.monotonic() - start.on)",
        put: "Math.max(start.at, clock.wall()) + 0 * start.on",
      },
    ],
    by: ["ledger", "rate"],
    quick: 1,
  },
  "wall-clock-at-claim": {
    what: "a new leader begins at the time of its own wall clock",
    edits: [
      {
        file: "services/picker/pool-time.ts",
        find: "const brokerAt = await ports.ledger.now();",
        put: "const brokerAt = ports.clock.wall();",
      },
    ],
    by: ["rate", "ledger"],
    quick: 1,
  },
  "lag-forgotten": {
    what: "a new leader begins at the broker's time, though the one before it was behind that",
    edits: [
      {
        file: "services/picker/pool-time.ts",
        find: "Math.max(state.at, last.storedAt)",
        put: "Math.max(state.at, 0 * last.storedAt)",
      },
    ],
    by: ["rate"],
    quick: 214,
  },
  "broker-clock-at-claim": {
    what: "a new leader goes on by the broker's clock alone, though that was set forward since the last commit",
    edits: [
      {
        file: "services/picker/pool-time.ts",
        find: "Math.min(...passedMs)",
        put: "Number(passedMs[0])",
      },
    ],
    by: ["rate", "token"],
    quick: 63,
  },
  "concurrency-off-by-one": {
    what: "one lease more than the limit is open on an exit",
    edits: [
      core("rules/concurrency.ts", "leasesOf(exit).length >= exit.limits", "leasesOf(exit).length > exit.limits"),
    ],
    quick: 2,
  },
  "usage-off-by-one": {
    what: "a usage quota has one use more than the limit",
    edits: [
      core("rules/usage.ts", "minUses > exit.limits.usage.limit", "minUses > exit.limits.usage.limit + 1"),
      core(
        "rules/usage.ts",
        "exit.limits.usage.limit - usesSinceRestOf",
        "exit.limits.usage.limit + 1 - usesSinceRestOf",
      ),
      core(
        "rules/usage.ts",
        "usesSinceRestOf(exit) < rule.limit || leases",
        "usesSinceRestOf(exit) < rule.limit + 1 || leases",
      ),
    ],
    quick: 3,
  },
  "bytes-forgotten-early": {
    what: "reported bytes count for half of their window only",
    edits: [core("rules/bytes.ts", "const from = state.at - windowMs;", "const from = state.at - windowMs / 2;")],
    quick: 11,
  },
  "refund-forgotten": {
    what: "returned uses are not grantable again in the usage quota",
    edits: [core("fold/evolve.ts", "exit.usesSinceRest -= lease.uses - event.used;", "")],
    by: ["usage", "waiting", "refusal"],
    quick: 8,
  },
  "release-counts-nothing": {
    what: "a release returns all uses, even those that were made",
    edits: [
      core(
        "decide/lease.ts",
        '{ how: "released", used, endedAt',
        '{ how: "released", used: Math.min(highestReported(lease), lease.uses), endedAt',
      ),
    ],
    by: ["rate", "usage", "answer"],
    quick: 3,
  },
  "epoch-ignored": {
    what: "an outcome of an older epoch begins a rest",
    edits: [core("decide/report.ts", "isCurrent: lease.epoch === proxy.epoch,", "isCurrent: true,")],
    quick: 4,
  },
  "late-outcome-extends-rest": {
    what: "a failure that is reported during a rest begins another one",
    edits: [
      core(
        "decide/rest.ts",
        "if (!outcome.isCurrent || isResting(proxy)) {",
        "if (!outcome.isCurrent && !isResting(proxy)) {",
      ),
    ],
    quick: 4,
  },
  "short-backoff": {
    what: "the first failure in a row rests the base, not twice the base",
    edits: [core("rules/backoff.ts", "baseMs * 2 ** Math.min(n, 40)", "baseMs * 2 ** Math.min(n - 1, 40)")],
    quick: 2,
  },
  "jitter-forgotten": {
    what: "a share of the rest as jitter is drawn twice as long",
    edits: [
      core("rules/backoff.ts", "Math.floor(leastMs * rule.jitterShare)", "2 * Math.floor(leastMs * rule.jitterShare)"),
    ],
    quick: 2,
  },
  "failures-not-strict": {
    what: "as many failures as the limit begin a rest, not only more",
    edits: [
      core(
        "rules/failures.ts",
        "failuresInWindow(state, proxy, asOf) <= rule.limit",
        "failuresInWindow(state, proxy, asOf) < rule.limit",
      ),
    ],
    quick: 7,
  },
  "failures-not-checked-again": {
    what: "failures reported during a rest are not checked when it ends",
    edits: [core("decide/rest.ts", 'how: "over" });\n  restForFailures(turn, proxy, until);', 'how: "over" });')],
    quick: 24,
  },
  "streak-outlives-success": {
    what: "a success does not end the streak",
    edits: [core("decide/report.ts", "succeeded ? 0 : proxy.streak", "succeeded ? proxy.streak : proxy.streak")],
    quick: 1,
  },
  "score-unbounded": {
    what: "the score is not clamped",
    edits: [
      core(
        "decide/report.ts",
        "Math.min(policy.score.max, Math.max(policy.score.min, proxy.score + rule.score))",
        "proxy.score + rule.score",
      ),
    ],
    quick: 7,
  },
  "duplicate-outcome-counts-twice": {
    what: "a second copy of an outcome counts as well",
    edits: [
      core("decide/report.ts", "if (isReported(lease, n)) {", "if (isReported(lease, n) && n < 0) {"),
      core(
        "fold/uses.ts",
        "  if (isReported(lease, n)) throw new Error(",
        "  if (isReported(lease, n)) return;\n  if (n < 0) throw new Error(",
      ),
    ],
    quick: 1,
  },
  "rest-not-ended": {
    what: "rests are ended 400 ms after they are over",
    edits: [
      core(
        "decide/rest.ts",
        "rests.top; proxy !== undefined && proxy.until <= turn.at; proxy",
        "rests.top; proxy !== undefined && proxy.until + 400 <= turn.at; proxy",
      ),
    ],
    by: ["rest", "replay", "retry-after"],
    quick: 1,
  },
  "answer-before-ack": {
    what: "a lease is answered before its commit is stored",
    edits: [
      {
        file: "runtime/loop.ts",
        find: "      const stillLeads = await this.#settle(draft);\n",
        put: "      this.#owner.stored(this.#seq);\n      const stillLeads = await this.#settle(draft);\n",
      },
    ],
    by: ["answer"],
    quick: 2,
  },
  "skipped-catch-up": {
    what: "a new leader serves before it has ingested the outcomes stored before its claim",
    edits: [
      {
        file: "state-machines/engine.ts",
        find: "    return this.#serves;\n",
        put: "    return true;\n",
      },
    ],
    by: ["catch-up"],
    quick: 6,
  },
  "request-id-forgotten": {
    what: "the same request again is granted a second lease",
    edits: [
      core(
        "decide/lease.ts",
        "if (lease.user === user && sameRequest(lease.request, recordOf(request)))\n    return",
        "if (sameRequest(lease.request, recordOf(request))) return undefined;\n  if (state.at < 0)\n    return",
      ),
    ],
    quick: 5,
  },
  "stale-retry-after": {
    what: "`retryAfterMs` is one margin too short",
    edits: [core("rules/rate.ts", "return base + windowMs + marginMs + 1;", "return base + windowMs + marginMs;")],
    by: ["retry-after", "waiting"],
    quick: 2,
  },
  "retry-after-forgets-failures": {
    what: "`retryAfterMs` ignores failures that will be checked when a rest is over",
    edits: [
      core(
        "rules/failures.ts",
        "until) > rule.limit) return until + rule.restMs;",
        "until) > Infinity) return until + rule.restMs;",
      ),
    ],
    by: ["retry-after", "waiting", "refusal"],
    quick: 152,
  },
  "retry-after-of-any-sibling": {
    what: "`retryAfterMs` for a shared exit is the exit's, and ignores the rests that its proxies still have to begin",
    edits: [
      core(
        "candidates/candidate-index.ts",
        "earliest = Math.min(earliest, leasableAt(this.#state, proxy, this.terms.minUses));",
        "earliest = Math.min(earliest, Math.max(from, proxy.until));",
      ),
    ],
    by: ["retry-after"],
    quick: 1205,
  },
  "best-takes-the-worst": {
    what: "`best` prefers the lower score",
    edits: [
      core(
        "candidates/strategies.ts",
        "[proxy.granted > 0 ? 1 : 0, -proxy.score, leastRecentlyUsed(proxy)]",
        "[proxy.granted > 0 ? 1 : 0, proxy.score, leastRecentlyUsed(proxy)]",
      ),
    ],
    quick: 15,
  },
  "password-in-labels": {
    what: "a proxy's password is stored among its labels",
    edits: [
      {
        file: "services/picker/entries.ts",
        find: "...given.moreLabels, ...given.labels },\n",
        put: "...given.moreLabels, ...given.labels, ...(proxy.password === undefined ? {} : { note: proxy.password }) },\n",
      },
    ],
    by: ["secret"],
    quick: 2,
  },
  "closed-pool-grants": {
    what: "a pool that was closed in the same turn still grants",
    edits: [
      core(
        "decide/lease.ts",
        "if (!state.opened) return refuse(",
        "if (state.draining && !state.opened) return refuse(",
      ),
    ],
    quick: 315,
  },
  "term-not-grown": {
    what: "a new leader claims under the old one's term",
    edits: [core("decide.ts", "term: turn.state.term + 1", "term: Math.max(1, turn.state.term)")],
    quick: 2,
  },
  "fold-forgets-score": {
    what: "the live state and the replayed state differ, because something is counted outside the fold",
    edits: [
      core(
        "decide/lease.ts",
        "  const { proxy } = lease;\n  const state = proxy.state ===",
        "  const { proxy } = lease;\n  proxy.neutral++;\n  const state = proxy.state ===",
      ),
    ],
    by: ["replay", "totals"],
    quick: 2,
  },
  ...exitFaults,
  ...tokenFaults,
  ...waitingFaults,
};

export function faultNamed(name: string): Fault {
  const fault = faults[name];
  if (fault === undefined)
    throw new Error(`--break ${name}: there is no such fault. Known: ${Object.keys(faults).join(", ")}`);
  return fault;
}

/** The source with the fault in it. @throws where a piece is not there exactly once. */
export function broken({ what, edits }: Pick<Fault, "what" | "edits">, file: string, source: string): string {
  for (const { find, put } of edits.filter((edit) => edit.file === file)) {
    const times = source.split(find).length - 1;
    if (times !== 1)
      throw new Error(`${file}: "${find}" is there ${times} times, and the fault (${what}) needs it exactly once`);
    source = source.replace(find, () => put);
  }
  return source;
}

/**
 * Not a fault. An exit of very many proxies needs several commits for its rests. With `narrow`, an exit of a few needs
 * several, too.
 */
export const narrowed: readonly Edit[] = [
  core(
    "fold/state.ts",
    "export const spreadFrom = 400;",
    "export let spreadFrom = 400; export const narrow = (to: number): void => { spreadFrom = to; };",
  ),
];

/**
 * From now on, sources that this thread loads can be narrowed. A module that is imported with `?fault=name` has the
 * fault. The edited files, and the files that load them, are loaded anew for it. All others are loaded once. Call it
 * before the modules are loaded.
 */
export function breakOnLoad(): void {
  const stripped = new Map<string, string>();
  const affected = affectedBy(() => readSources(root.pathname));
  registerHooks({
    resolve(specifier, context, next) {
      const resolved = next(specifier, context);
      const fault = faultIn(context.parentURL);
      const file = fileOf(resolved.url);
      if (fault === undefined || file === undefined || !affected(fault).has(file)) return resolved;
      return { ...resolved, url: `${resolved.url}?fault=${fault}` };
    },
    load(url, context, next) {
      const [fault, file] = [faultIn(url), fileOf(url)];
      if (file === undefined) return next(url, context);
      const given = fault === undefined ? { what: "none", edits: [] } : faultNamed(fault);
      const all = { what: given.what, edits: [...narrowed, ...given.edits] };
      const isEdited = all.edits.some((edit) => edit.file === file);
      const text = () => readFileSync(new URL(file, root), "utf8");
      if (fault === undefined) {
        const loaded = next(url, context);
        return isEdited ? { ...loaded, source: broken(all, file, text()) } : loaded;
      }
      if (isEdited) return plain(stripTypeScriptTypes(broken(all, file, text())));
      const source = stripped.get(file) ?? stripTypeScriptTypes(text());
      stripped.set(file, source);
      return plain(source);
    },
  });
}

function plain(source: string) {
  return { format: "module", source, shortCircuit: true };
}

/** By fault: the edited files, and all that load them. */
function affectedBy(read: () => Sources): (fault: string) => ReadonlySet<string> {
  const known = new Map<string, ReadonlySet<string>>();
  let sources: Sources | undefined;
  return (fault) => {
    const files = faultNamed(fault).edits.map(({ file }) => file);
    sources ??= read();
    const affected = known.get(fault) ?? loadersOf(sources, files);
    known.set(fault, affected);
    return affected;
  };
}

function faultIn(url = "file:"): string | undefined {
  return new URL(url).searchParams.get("fault") ?? undefined;
}

/** Relative to the root of the project; undefined for a package's. */
function fileOf(url: string): string | undefined {
  const [path = ""] = url.split("?");
  return path.startsWith(root.href) && !path.includes("/node_modules/") ? path.slice(root.href.length) : undefined;
}
