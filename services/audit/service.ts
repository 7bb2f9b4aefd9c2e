// The audit as a process. It answers questions about the past on NATS, `remuda.audit.<what>.<pool>`, from the ledger
// alone. It does one fold at a time. A long fold goes on after its caller was told to retry, and saves checkpoints, so
// the next answer is fast.
import { join } from "node:path";
import type { Logger } from "pino";
import { withWarnings } from "../../protocol/fields.ts";
import { overNats, poolIn } from "../../protocol/over-nats.ts";
import { pastRequestSchema } from "../../protocol/proxy.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { readRequest } from "../../protocol/request.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import type { Archive } from "../../runtime/archive/archive.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";
import { Responder } from "../../runtime/responder.ts";
import { checkpointsIn } from "./checkpoint.ts";
import { type Past, stateAt } from "./history.ts";
import type { Moment } from "./moment.ts";
import { pageOf } from "./past-page.ts";
import { NoLedger, streamSourceOn } from "./stream-source.ts";

export interface AuditOptions {
  /** One connection answers requests. The other reads ledgers, with an auditor's rights. */
  natsUrls: { front: string; ledger: string };
  /** A file with the certificates that the connections trust. */
  caFile: string | undefined;
  /** For checkpoints. Each pool has a folder in it. */
  folder: string;
  /** Of this machine. */
  archive: Archive;
  log: Logger;
}

export interface RunningAudit {
  stop(): Promise<void>;
}

/** A caller waits this long for a fold. Then it is told to retry, and the fold goes on. */
const patienceMs = 8000;
const retryAfterMs = 2000;
/** The most moments that are being folded or wait for it. */
const foldsMax = 16;
/** The most pages that are being filled or wait for it. */
const pagesMax = 100;
/** The states of the last answers are kept for the next pages of a list. */
const keptMax = 2;

export async function startAudit({ natsUrls, caFile, folder, archive, log }: AuditOptions): Promise<RunningAudit> {
  const front = await openBus(natsUrls.front, "remuda audit", { caFile });
  const ledger = await openBus(natsUrls.ledger, "remuda audit ledger", { caFile }).catch(async (error) => {
    await front.close();
    throw error;
  });
  const pasts = new Pasts(ledger, folder, archive);
  const verb = "audit.proxies";
  const served = { name: verb, subject: requestSubject(verb, "*"), queue: "remuda-audit" };
  const subscription = new Responder(front.nc, overNats, log).serve(served, ({ subject, body, respond }) => {
    const pool = poolIn(subject, verb);
    if ("refusal" in pool) return respond(pool.refusal);
    void answerProxies(pasts, pool.value, body)
      .catch((cause: unknown) => refusalOf(cause, log))
      .then(respond);
  });
  await front.nc.flush();
  return {
    async stop() {
      subscription.unsubscribe();
      pasts.stop();
      await Promise.all([front.close(), ledger.close()]);
    },
  };
}

async function answerProxies(pasts: Pasts, pool: string, body: unknown): Promise<object> {
  const read = readRequest(pastRequestSchema, body);
  if ("refusal" in read) return read.refusal;
  const { at, sequence, ...asked } = read.value;
  if ((at === undefined) === (sequence === undefined)) {
    return refuse(
      "invalid-request",
      "at: is missing, or given with sequence. Give one of at (epoch milliseconds) and sequence.",
      { field: "at" },
    );
  }
  const past = await pasts.at(pool, at === undefined ? { sequence: sequence ?? 0 } : { at });
  if ("code" in past) return past;
  const page = await pasts.inTurn(() => pageOf(past.state, asked));
  return "code" in page ? page : withWarnings({ ...placeOf(past), ...page }, read.warnings);
}

function placeOf({ state, mark }: Past): { at: number; commit: number; sequence: number } {
  return { at: state.at, commit: mark.n, sequence: mark.sequence };
}

/** States of the past. One is folded at a time, because a fold takes a whole core. */
class Pasts {
  readonly #ledger: Bus;
  readonly #folder: string;
  readonly #archive: Archive;
  readonly #folds = new Map<string, Promise<Past>>();
  readonly #kept = new Map<string, Past>();
  readonly #stopping = new AbortController();
  #last: Promise<unknown> = Promise.resolve();
  #pages = 0;
  #lastPage: Promise<unknown> = Promise.resolve();

  constructor(ledger: Bus, folder: string, archive: Archive) {
    this.#ledger = ledger;
    this.#folder = folder;
    this.#archive = archive;
  }

  async at(pool: string, moment: Moment): Promise<Past | Refusal> {
    const key = `${pool} ${JSON.stringify(moment)}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined && (await this.#isPast(pool, kept, moment))) return kept;
    let fold = this.#folds.get(key);
    if (fold === undefined) {
      if (this.#folds.size >= foldsMax)
        return refuse("overloaded", `${foldsMax} moments are being folded already. Retry later.`, { retryAfterMs });
      fold = this.#last.then(() => this.#fold(pool, moment));
      this.#last = fold.catch(() => {});
      this.#folds.set(key, fold);
      fold
        .then((past) => this.#keep(key, past))
        .catch(() => {}) // Reported to the caller.
        .finally(() => this.#folds.delete(key));
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<Refusal>((resolve) => {
      const message = "The ledger is being folded up to that moment. Retry in a few seconds.";
      timer = setTimeout(() => resolve(refuse("unavailable", message, { retryAfterMs })), patienceMs);
    });
    try {
      return await Promise.race([fold, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** One page after the other: many slices at the same time would be one long one. */
  async inTurn<Page>(fill: () => Promise<Page>): Promise<Page | Refusal> {
    if (this.#pages >= pagesMax)
      return refuse("overloaded", `${pagesMax} pages are being filled already. Retry later.`, { retryAfterMs });
    this.#pages++;
    const page = this.#lastPage.then(fill).finally(() => this.#pages--);
    this.#lastPage = page.catch(() => {}); // Reported to the caller.
    return page;
  }

  stop(): void {
    this.#stopping.abort();
  }

  async #fold(pool: string, moment: Moment): Promise<Past> {
    const source = await streamSourceOn(this.#ledger, pool, { archive: this.#archive });
    const checkpoints = checkpointsIn(join(this.#folder, pool));
    if ("at" in moment && moment.at > Date.now() + futureMs)
      throw new Fault("fix-setup", "is in the future. Give a past moment.");
    return stateAt(source, moment, { checkpoints, signal: this.#stopping.signal });
  }

  /** False if a commit since then may belong before the moment. */
  async #isPast(pool: string, past: Past, moment: Moment): Promise<boolean> {
    if ("sequence" in moment) return past.mark.sequence === moment.sequence;
    const source = await streamSourceOn(this.#ledger, pool);
    return (await source.last())?.seq === past.mark.sequence || moment.at < Date.now() - futureMs;
  }

  #keep(key: string, past: Past): void {
    this.#kept.set(key, past);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= keptMax) return;
      this.#kept.delete(oldest);
    }
  }
}

/** Clocks may differ by this much. */
const futureMs = 60_000;

function refusalOf(cause: unknown, log: Logger): Refusal {
  if (cause instanceof NoLedger) return refuse("unknown-pool", "The pool has no ledger: it was never opened.");
  if (cause instanceof Fault) {
    if (cause.code !== "fix-setup") return refuse("unavailable", cause.message, { retryAfterMs });
    return refuse("invalid-request", `at: ${cause.message}`, { field: "at" });
  }
  log.error({ err: cause }, "a question about the past failed because of a bug");
  return refuse("unavailable", "The audit cannot answer now. Retry later.", { retryAfterMs });
}
