// Observes the run. Every stored commit goes through the checkers, event by event, and so does every answer. The
// checkers know only the ledger's text, the requests and answers, and the requests that the target saw.
import type { Event } from "../../events/event.ts";
import type { TokenRequested } from "../../events/token.ts";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { Checker as Auditor } from "../../services/audit/checker/checker.ts";
import { checkAnswer } from "./check-answer.ts";
import { AskedChecker } from "./check-asked.ts";
import { LedgerChecker, type ReadCommit } from "./check-ledger.ts";
import { checkOutcome, Sent } from "./check-outcome.ts";
import { RateChecker } from "./check-rate.ts";
import { checkIngested, checkReplay, checkSettled } from "./check-settle.ts";
import { TokenChecker } from "./check-token.ts";
import { WaitingChecker } from "./check-waiting.ts";
import { type Checker, Court, short } from "./court.ts";
import type { Ask, Onlooker, SimService, Turned } from "./service.ts";
import type { Transcript } from "./transcript.ts";
import type { World } from "./world.ts";

export class Observer implements Onlooker {
  readonly court: Court;
  readonly sent = new Sent();
  readonly rate: RateChecker;
  readonly tokens: TokenChecker;
  /** Executors follow the ledger. */
  onRequested: (event: TokenRequested) => void = () => {};
  #onExitRest: ((exit: string) => void)[] = [];
  commits = 0;
  events = 0;
  readonly #service: () => SimService;
  readonly #transcript: Transcript | undefined;
  readonly #asked: AskedChecker;
  readonly #waiting: WaitingChecker;
  readonly #auditor = new Auditor();
  #ledger: LedgerChecker | undefined;

  constructor(given: {
    world: World;
    clockMs: number;
    service: () => SimService;
    transcript: Transcript | undefined;
    alone?: Checker | undefined;
  }) {
    this.court = new Court(given.world, given.alone);
    this.#service = given.service;
    this.#transcript = given.transcript;
    this.rate = new RateChecker(this.court);
    this.tokens = new TokenChecker(this.court, given.clockMs, () => this.#service().broker.aheadMs);
    this.#asked = new AskedChecker(this.court);
    this.#waiting = new WaitingChecker(this.court, given.service);
  }

  told(who: string, what: string): void {
    this.#transcript?.note(this.court.world.now, who, what);
    if (what.startsWith("another process") && this.#service().lives.some((life) => life.leads))
      this.court.saw("two leaders at once");
  }

  asked(ask: Ask): void {
    this.#waiting.asked(ask);
    this.tokens.asked(ask);
    this.#transcript?.asked(this.court.world.now, ask);
  }

  answered(ask: Ask): void {
    this.#transcript?.answered(this.court.world.now, ask);
    checkAnswer(this.court, ask);
    this.tokens.answered(ask);
    this.#waiting.answered(ask);
  }

  turned(turn: Turned): void {
    this.#waiting.turned(turn);
  }

  stored(stored: StoredCommit): void {
    try {
      this.#ledger ??= new LedgerChecker(this.court, this.#service().broker);
      this.#read(this.#ledger.read(stored));
    } catch (error) {
      this.court.find("ledger", error instanceof Error ? error.message : String(error));
    }
    this.#audit(stored);
  }

  /** A second observer: the audit's checker, which reads only the ledger. */
  #audit({ seq, storedAt, bytes }: StoredCommit): void {
    const { findings } = this.#auditor.model;
    const before = findings.count;
    this.#auditor.check({ seq, storedAt, line: 0, bytes: Buffer.from(bytes) });
    if (findings.count === before) return;
    const found = findings.listed[before];
    this.court.find("audit", `commit ${found?.n}: ${found?.rule}: ${found?.what}`);
  }

  arrived(leaseId: string): void {
    this.#transcript?.note(this.court.world.now, "target", `sees a request of ${short(leaseId)}`);
    this.rate.arrived(leaseId);
  }

  /** The exit whose rest begins next. */
  exitRests(): Promise<string> {
    return new Promise((resolve) => this.#onExitRest.push(resolve));
  }

  /** Call it when the run has settled. */
  close(): void {
    const service = this.#service();
    checkReplay(this.court, service);
    checkIngested(this.court, service);
    checkSettled(this.court, service);
    for (const ask of [...this.#waiting.unanswered, ...this.tokens.unanswered])
      this.court.find(
        "settle",
        `a ${ask.verb} of ${ask.arrivedAt}, waiting ${String(ask.body["waitMs"])} ms, was never answered`,
      );
  }

  /** During the run: checks that the live state equals the state folded from the ledger. */
  compare(): void {
    checkReplay(this.court, this.#service());
  }

  #read(commit: ReadCommit): void {
    const { book } = this.court;
    this.commits++;
    this.events += commit.events.length;
    this.#transcript?.committed(this.court.world.now, commit);
    const leader = commit.events.find((event) => event.type === "LeaderClaimed")?.leader ?? book.leader;
    const turn = this.#waiting.turnOf(leader, commit.n);
    if (turn === undefined) return this.court.find("ledger", `commit ${commit.n} was not decided by a leader`);
    book.advance(commit.at);
    this.#asked.begin([...turn.asks, ...this.#waiting.asksOf(turn.life)]);
    const refreshes = new Set(commit.events.map((event) => event.type === "TokenRequested" && event.leaseId));
    for (const event of commit.events) {
      this.#before(event, { turn, refreshes });
      book.write(event);
    }
    this.tokens.end();
    if (!turn.led) return;
    this.#waiting.end(turn);
    for (const lease of book.open) {
      if (lease.expiresAt <= book.at)
        this.court.find(
          "lease",
          `${short(lease.id)} is still open at ${book.at}, and should have ended at ${lease.expiresAt}`,
        );
    }
    for (const proxy of book.proxies.values()) {
      if (proxy.resting && proxy.until <= book.at)
        this.court.find("rest", `${short(proxy.id)} still rests at ${book.at}; its rest was over at ${proxy.until}`);
    }
  }

  #before(event: Event, { turn, refreshes }: { turn: Turned; refreshes: ReadonlySet<string | false> }): void {
    const { court } = this;
    const { book } = court;
    this.#asked.before(event);
    this.tokens.before(event);
    switch (event.type) {
      case "LeaseGranted":
        court.saw(`strategy: ${event.strategy}`);
        if (event.uses > 1) court.saw("lease: a block");
        if (event.request.session !== undefined) court.saw("lease: of a session");
        if (court.boundProxy({ ...event.request, minUses: event.request.minUses ?? 1 }, book.at) !== undefined)
          court.saw("lease: of a bound session");
        // A refresh comes before waiting requests.
        if (refreshes.has(event.leaseId)) return;
        return this.#waiting.beforeGrant(event, turn);
      case "TokenRequested":
        return this.onRequested(event);
      case "RestBegan":
        if (event.exitUntil === undefined) return;
        for (const tell of this.#onExitRest.splice(0)) tell(book.proxy(event.proxyId).account.key);
        return;
      case "UseReported":
        return checkOutcome(court, event, this.sent);
      case "LeaseClosed":
        return court.saw(`lease: ${event.how}`);
      case "LeaseRenewed":
        return court.saw("lease: renewed");
      case "PolicyChanged":
        court.saw(book.open.size > 0 ? "policy: changed while leases are open" : "policy: changed");
        if (event.policy.strategy.kind !== book.rules.strategy.kind) court.saw("policy: another strategy");
        if (event.policy.countFrom !== book.rules.countFrom)
          court.saw(`policy: counts from the ${event.policy.countFrom} now`);
        return;
      case "ProxyAdded":
        if (book.proxies.has(event.proxyId)) court.saw("proxy: retired and added again");
        return;
      case "ProxyChanged":
        if (book.proxy(event.proxyId).exit !== event.exit) court.saw("proxy: another exit");
        return;
      case "PoolClosed":
        return court.saw(event.draining ? "pool: drains" : "pool: closed");
      case "OutcomesIgnored":
        return court.saw(`ignored: ${event.why}`);
    }
  }
}
