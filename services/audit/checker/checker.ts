// The independent checker. It reads a ledger commit by commit, and reports what is wrong with each. It shares no code
// with the decisions or the fold; from events/ it uses only the names of fields. It goes on after a finding. It stops
// only at an event of unknown meaning, because nothing after that could be checked.
import { hash } from "node:crypto";
import { type CommitEnvelope, commitVersion } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import type { Entry } from "../source.ts";
import { brakesOf } from "./brakes.ts";
import { isSpentAwake } from "./causes.ts";
import { isResting } from "./entities.ts";
import { checkClosing, checkGrant, checkRenewal } from "./leases.ts";
import { Model } from "./model.ts";
import { checkUse } from "./outcomes.ts";
import { quotaOf } from "./past.ts";
import { checkArchived, checkClaim, checkClosed, checkOpened, checkPolicy, checkRestored } from "./pools.ts";
import { checkAdded, checkChanged, checkRetired } from "./proxies.ts";
import { Reader } from "./reader.ts";
import { checkRefused } from "./refusals.ts";
import { checkRest, checkRestEnd } from "./rests.ts";
import { isWhole, type Strangers } from "./shape.ts";
import { checkToken } from "./tokens.ts";

/** One commit holds at most this many events that are due by time. */
const tickEventsMax = 500;
const sweepEvery = 4096;
/** Events that may come before a pool is opened. */
const mayComeFirst = new Set<Event["type"]>(["LeaderClaimed", "PoolOpened", "HeadSigned"]);

export class Checker {
  readonly model = new Model();
  readonly #brakes = brakesOf(this.model);
  /** An event of unknown meaning ends the checking. */
  stopped = false;
  /** False if the reading began in the middle of a ledger. Then only the document can be checked, not the decisions. */
  checksDecisions = true;
  /** Of the last commit read. */
  n = 0;
  hash = "";
  sequence = 0;
  line = 0;
  #term = 0;
  #cursor = { seq: 0, at: 0, taken: 0 };
  #isFirst = true;
  readonly #inTheMiddle: boolean;
  readonly #strangers: Strangers = new Set();
  readonly #reader = new Reader();
  /** The fields of the last commit's events were checked as they were read. */
  #isRead = false;

  /**
   * @param given.inTheMiddle the reading need not begin at the ledger's beginning.
   * @param given.isOther this is an alternative history (what-if/), not a recorded one.
   */
  constructor({ inTheMiddle = false, isOther = false }: { inTheMiddle?: boolean; isOther?: boolean } = {}) {
    this.#inTheMiddle = inTheMiddle;
    this.model.isOther = isOther;
  }

  /** While silent, it follows the ledger without listing or counting findings. */
  set silent(silent: boolean) {
    this.model.findings.silent = this.model.tally.silent = silent;
  }

  /** @param entry the next commit of the ledger. Returns the commit as far as it could be read. */
  check(entry: Entry): CommitEnvelope | undefined {
    const { model } = this;
    const { findings, tally } = model;
    const { seq: sequence, line, bytes } = entry;
    const before = findings.place;
    findings.place = { n: this.n + 1, sequence, line, at: model.at };
    const commit = this.#read(bytes);
    if (!tally.silent) {
      tally.commits++;
      tally.bytes += bytes.length;
    }
    if (commit !== undefined) {
      if (this.#isFirst && this.#inTheMiddle && commit.n > 1) this.#beginAt(commit);
      findings.place = { n: commit.n, sequence, line, at: commit.at };
      this.#checkEnvelope(commit, before);
      if (this.checksDecisions) this.#checkEvents(commit);
      else if (!tally.silent) tally.events += commit.events.length;
      this.n = commit.n;
      this.#term = commit.term;
    } else this.n++;
    this.#isFirst = false;
    this.hash = hash("sha256", bytes, "base64url");
    this.sequence = sequence;
    this.line = line;
    return commit;
  }

  #beginAt({ n, prev, term }: CommitEnvelope): void {
    this.checksDecisions = false;
    this.n = n - 1;
    this.hash = prev;
    this.#term = term;
  }

  #read(bytes: Buffer): CommitEnvelope | undefined {
    const { findings } = this.model;
    let commit: CommitEnvelope;
    try {
      const read = this.#reader.read(bytes);
      this.#isRead = read !== undefined;
      commit = read ?? (JSON.parse(bytes.toString("utf8")) as CommitEnvelope); // Checked next.
    } catch {
      findings.add("unreadable", "this is not a commit: its bytes are not JSON");
      findings.damaged = true;
      return undefined;
    }
    const isWhole =
      commit?.v === commitVersion &&
      Number.isSafeInteger(commit.n) &&
      Number.isSafeInteger(commit.term) &&
      Number.isSafeInteger(commit.at) &&
      typeof commit.prev === "string" &&
      Number.isSafeInteger(commit.cursor?.seq) &&
      Number.isSafeInteger(commit.cursor?.at) &&
      Number.isSafeInteger(commit.cursor.taken ?? 0) &&
      Array.isArray(commit.events);
    if (isWhole) return commit;
    const version: unknown = commit?.v;
    const isOther = Number.isSafeInteger(version) && version !== commitVersion;
    findings.add(
      "unreadable",
      isOther
        ? `this commit is of version ${String(version)}, and this program reads version ${commitVersion}`
        : "this is not a commit: fields of its head are missing or have the wrong type",
    );
    findings.damaged = true;
    return undefined;
  }

  #checkEnvelope(commit: CommitEnvelope, before: { n: number; sequence: number; line: number; at: number }): void {
    const { model } = this;
    const { findings } = model;
    if (commit.n !== this.n + 1) {
      const missing = commit.n > this.n + 1 ? ` (${commit.n - this.n - 1} missing)` : "";
      findings.add("number", `expected commit ${this.n + 1}, found ${commit.n}${missing}`);
      findings.damaged = true;
    } else if (commit.prev !== this.hash) {
      // This commit was not written after the previous one. Either of them may have been changed.
      const where = before.n === 0 ? "the beginning" : `commit ${before.n}`;
      findings.add(
        "chain",
        `the bytes of ${where} are not those that commit ${commit.n} follows: one of the two was changed`,
        this.n === 0 ? findings.place : before,
      );
      findings.damaged = true;
    }
    if (commit.at < model.at)
      findings.add("time", `its time ${commit.at} is before that of its predecessor, ${model.at}`);
    const claims = (commit.events[0] as Event | undefined)?.type === "LeaderClaimed";
    if (commit.term !== this.#term && !claims)
      findings.add("term", `it is of term ${commit.term}, after term ${this.#term} without a claim`);
    const { chance } = commit;
    model.chance = typeof chance === "string" && /^[0-9a-f]{32}$/.test(chance) ? chance : undefined;
    if (commit.chance !== model.chance) findings.add("unreadable", "its chance is not 32 hex digits");
    model.before = model.at;
    model.at = Math.max(commit.at, model.at);
    this.#checkCursor(commit.cursor);
    if (commit.events.length === 0) findings.add("unreadable", "it has no events");
  }

  /** A broker that crashed may use sequences again. Then the stored time still moves forward. */
  #checkCursor({ seq, at, taken = 0 }: CommitEnvelope["cursor"]): void {
    const last = this.#cursor;
    const isBack =
      (seq < last.seq && at <= last.at) ||
      (seq === last.seq && (at < last.at || (at === last.at && taken < last.taken)));
    const { findings } = this.model;
    if (isBack) findings.add("cursor", `its cursor goes back from ${last.seq} to ${seq}`);
    else if (seq < last.seq)
      findings.notice("cursor", `the outcomes stream used sequences again, from ${last.seq} to ${seq}`);
    this.#cursor = { seq, at, taken };
  }

  #checkEvents(commit: CommitEnvelope): void {
    const { model } = this;
    model.forget();
    model.forgetSessions();
    if (commit.n % sweepEvery === 0) model.forgetRetired();
    let ticks = 0;
    let grants = 0;
    const { events } = commit;
    for (let i = 0; i < events.length && !this.stopped; i++) {
      const event = events[i] as Event; // Checked next, or when it was read.
      if (!this.#isRead && !isWhole(event, model.findings, { place: i, strangers: this.#strangers })) {
        model.findings.damaged = true;
        continue;
      }
      const { type } = event;
      model.place = i;
      const isByTime = type === "RestEnded" || (type === "LeaseClosed" && event.how === "expired");
      if (!model.wasOpened && !mayComeFirst.has(type)) this.#tooEarly(event);
      if (type === "LeaseGranted") grants++;
      else if (isByTime || type === "RestBegan" || type === "TokenRefused") ticks++;
      if (isByTime || type === "LeaseGranted") model.takesOver = false;
      this.#checkEvent(event, commit, i === 0);
      for (const brake of this.#brakes) brake.check(event);
    }
    if (!model.tally.silent) model.tally.events += events.length;
    this.#settle({ isSettled: grants > 0 && ticks < tickEventsMax });
  }

  #checkEvent(event: Event, commit: CommitEnvelope, first: boolean): void {
    const { model } = this;
    const { tally, findings } = model;
    switch (event.type) {
      case "LeaseGranted":
        return checkGrant(model, event, this.#brakes);
      case "UseReported":
        return checkUse(model, event);
      case "LeaseClosed":
        return checkClosing(model, event);
      case "LeaseRenewed":
        return checkRenewal(model, event);
      case "RestBegan":
        return checkRest(model, event);
      case "RestEnded":
        return checkRestEnd(model, event);
      case "TokenRequested":
      case "TokenMinted":
      case "TokenRefused":
      case "TokenRejected":
        return checkToken(model, event);
      case "RequestsRefused":
        checkRefused(model, event, commit, this.#brakes);
        return tally.count(tally.refused, event.code, event.count);
      case "OutcomesIgnored":
        if (event.why === "duplicate" || event.why === "no-result") model.mayHaveSaidLast += event.count;
        return tally.count(tally.ignored, event.why, event.count);
      case "ProxyAdded":
        return checkAdded(model, event);
      case "ProxyChanged":
        return checkChanged(model, event);
      case "ProxyRetired":
        return checkRetired(model, event);
      case "PoolOpened":
        return checkOpened(model, event);
      case "PolicyChanged":
        return checkPolicy(model, event);
      case "PoolClosed":
        return checkClosed(model, event);
      case "LeaderClaimed":
        return checkClaim(model, event, {
          ...{ term: commit.term, before: this.#term, first },
          isBeginning: commit.n === 1,
        });
      case "HeadSigned":
        if (event.n !== commit.n - 1 || event.hash !== this.hash) {
          findings.add("head", `the head that is signed (commit ${event.n}) is not the one before this commit`);
        }
        if (!tally.silent) tally.headsSigned++;
        return;
      case "SegmentArchived":
        return checkArchived(model, event, commit.n);
      case "LedgerRestored":
        return checkRestored(model, event, commit);
      default:
        return this.#stranger(event);
    }
  }

  #tooEarly({ type, inert }: { type: string; inert?: unknown }): void {
    if (inert !== true) this.model.findings.add("pool", `${type} before the pool is opened`);
  }

  #stranger(event: never): void {
    const { type, inert } = event as { type?: unknown; inert?: unknown };
    if (inert === true) return;
    this.model.findings.add(
      "unknown-event",
      `an event of the type ${JSON.stringify(type)} is not known here${this.model.writer}: nothing after it can be checked`,
    );
    this.stopped = true;
  }

  /**
   * This commit must contain everything that its events called for. If it granted leases, it must also contain
   * everything that was due by time.
   */
  #settle({ isSettled }: { isSettled: boolean }): void {
    if (this.stopped) return;
    const { model } = this;
    const { findings, at } = model;
    for (const [proxy, causes] of model.mustRest) {
      findings.add("rest", `${proxy.id} must rest for ${causes.map((cause) => cause.reason).join(", ")}, and does not`);
    }
    for (const exit of model.mayBeSpent) {
      if (isSpentAwake(exit))
        findings.add("usage", `exit ${exit.key} has ${quotaOf(exit)} uses in its usage quota, and no rest begins`);
    }
    for (const proxy of model.mustRetire)
      findings.add("streak", `${proxy.id} must be retired after ${proxy.streakRests} rests for a streak, and is not`);
    for (const lease of new Set(model.mustClose.filter(({ closedAt }) => closedAt === 0)))
      findings.add(
        "closing",
        `${lease.isFinal ? "the last use" : "all uses"} of ${lease.id} ${lease.isFinal ? "is" : "are"} reported, and it is not closed`,
      );
    for (const { id } of model.endedEarly.slice(model.mayHaveSaidLast)) {
      const why = "its uses are not all reported, and no outcome is marked final";
      findings.add("closing", `${id} is completed, ${why}`);
    }
    if (model.mustRest.size > 0) model.mustRest.clear();
    if (model.mayBeSpent.size > 0) model.mayBeSpent.clear();
    if (model.mustRetire.size > 0) model.mustRetire.clear();
    if (model.mustClose.length > 0) model.mustClose.length = 0;
    if (model.endedEarly.length > 0) model.endedEarly.length = 0;
    model.mayHaveSaidLast = 0;
    while (model.expiries.first <= at) {
      const lease = model.expiries.take();
      if (lease.closedAt !== 0) continue;
      if (lease.expiresAt > at) continue; // Renewed. Its new end is in the queue too.
      this.#overdue.push(() => lease.closedAt === 0 && `${lease.id} is still open after its end at ${lease.expiresAt}`);
    }
    while (model.restEnds.first <= at) {
      const proxy = model.restEnds.take();
      if (!isResting(proxy) || proxy.until > at || model.proxies.get(proxy.id) !== proxy) continue;
      const { until } = proxy;
      this.#overdue.push(() => isResting(proxy) && proxy.until === until && `${proxy.id} still rests after ${until}`);
    }
    while (model.refreshEnds.first <= at) {
      const { token, tokenId } = model.refreshEnds.take();
      this.#overdue.push(
        () => token.refresh?.tokenId === tokenId && `the refresh ${tokenId} goes on after its deadline`,
      );
    }
    if (this.#overdue.length === 0) return;
    this.#overdue = this.#overdue.filter((still) => still() !== false);
    if (!isSettled) return;
    for (const still of this.#overdue) findings.add("expiry", `${still()}, and other leases are granted meanwhile`);
    this.#overdue = [];
  }

  /** Ended by time, and not yet in the ledger. This is allowed until the leader serves again. */
  #overdue: (() => string | false)[] = [];
}
