// The thread that answers questions about the past. Folding a ledger, and loading or storing a checkpoint, takes a core
// for seconds.

import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import type { z } from "zod";
import { given } from "../../protocol/given.ts";
import type { explainRequestSchema, pastRequestSchema } from "../../protocol/proxy.ts";
import { isRefusal, type Refusal, refuse } from "../../protocol/refusal.ts";
import { Archive } from "../../runtime/archive/archive.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";
import { type Checkpoints, checkpointsIn } from "./checkpoint.ts";
import { type Explanation, explainMoment, explainProxy } from "./explain/explain.ts";
import { stateAt } from "./history.ts";
import type { Moment } from "./moment.ts";
import { pageOf } from "./past-page.ts";
import { Pasts, retryAfterMs, Turns } from "./pasts.ts";
import type { LedgerSource } from "./source.ts";
import { NoLedger, streamSourceOn } from "./stream-source.ts";

export interface PastSettings {
  /** With an auditor's rights. */
  natsUrl: string;
  /** A file with the certificates that the connection trusts. */
  caFile: string | undefined;
  /** For checkpoints. Each pool has a folder in it. */
  folder: string;
  /** Of this machine. */
  archiveFolder: string;
}

/** It has one of `at` and `sequence`. */
export type PastQuestion = { pool: string; user: string } & (
  | ({ verb: "audit.proxies" } & z.infer<typeof pastRequestSchema>)
  | ({ verb: "audit.explain" } & z.infer<typeof explainRequestSchema>)
);

/** A story, or the refusal to tell it. */
type Told = { answer: object };
type Telling = Moment & Pick<z.infer<typeof explainRequestSchema>, "proxyId" | "forMs">;

const { natsUrl, caFile, folder, archiveFolder } = workerData as PastSettings; // As service.ts passes it.
const archive = new Archive(archiveFolder);
let opened: Promise<Bus> | undefined;

/** States are kept for the next pages of a list. */
const statesKeptMax = 2;
/** Stories are kept until the caller that was told to retry comes back. Later commits may add sentences to them. */
const storiesKept = { max: 16, ms: 30_000 };
/** Clocks may differ by this much. */
const futureMs = 60_000;
const turns = new Turns();
const pasts = new Pasts({
  turns,
  async fold(pool, moment) {
    const { source, checkpoints } = await reading(pool, moment);
    return stateAt(source, moment, { checkpoints });
  },
  /** False if a commit since then may belong before the moment. */
  async isCurrent({ mark }, { pool, moment }) {
    if ("sequence" in moment) return mark.sequence === moment.sequence;
    const last = await (await streamSourceOn(await ledger(), pool)).last();
    return last?.seq === mark.sequence || moment.at < Date.now() - futureMs;
  },
  keptMax: statesKeptMax,
});
const stories = new Pasts<Told, Telling>({
  turns,
  async fold(pool, { proxyId, forMs, ...at }) {
    const { source, checkpoints } = await reading(pool, at);
    const told =
      proxyId === undefined
        ? await explainMoment(source, at, { checkpoints, forMs })
        : await explainProxy(source, proxyId, { at, checkpoints });
    return { answer: isRefusal(told) ? told : shown(told) };
  },
  isCurrent: (_story, { ageMs }) => ageMs < storiesKept.ms,
  keptMax: storiesKept.max,
});

async function reading(pool: string, moment: Moment): Promise<{ source: LedgerSource; checkpoints: Checkpoints }> {
  const source = await streamSourceOn(await ledger(), pool, { archive });
  if ("at" in moment && moment.at > Date.now() + futureMs)
    throw new Fault("fix-setup", "is in the future. Give a past moment.");
  return { source, checkpoints: checkpointsIn(join(folder, pool)) };
}

/** A lease can be used by its id, so a viewer must not see it. */
function shown({ at, commit, story }: Explanation): object {
  return {
    at,
    commit,
    story: story.map((line) => line.replaceAll(/\bl_[\w-]{6}[\w-]+/g, (id) => `${id.slice(0, 8)}…`)),
  };
}

parentPort?.on("message", ({ id, question }: { id: number; question: PastQuestion }) => {
  // A bug ends this thread. The service logs it, and begins another one.
  void answerTo(question).then((answer) => parentPort?.postMessage({ id, answer }));
});

async function answerTo({ pool, user, at, sequence, ...asked }: PastQuestion): Promise<object> {
  const moment = at === undefined ? { sequence: sequence ?? 0 } : { at };
  try {
    if (asked.verb === "audit.explain") {
      const { proxyId, forMs } = asked;
      const told = await stories.at(pool, { ...moment, ...given({ proxyId, forMs }) }, user);
      return "code" in told ? told : told.answer;
    }
    const past = await pasts.at(pool, moment, user);
    if ("code" in past) return past;
    const { state, mark } = past;
    const page = await pasts.inTurn(() => pageOf(state, asked), user);
    return "code" in page ? page : { at: state.at, commit: mark.n, sequence: mark.sequence, ...page };
  } catch (error) {
    return refusalOf(error);
  }
}

/** If the NATS server is away, the next question tries again. */
function ledger(): Promise<Bus> {
  opened ??= openBus(natsUrl, "remuda audit ledger", { caFile }).catch((error: unknown) => {
    opened = undefined;
    throw error;
  });
  return opened;
}

/** @throws a bug. */
function refusalOf(error: unknown): Refusal {
  if (error instanceof NoLedger) return refuse("unknown-pool", "The pool has no ledger: it was never opened.");
  if (!(error instanceof Fault)) throw error;
  if (error.code !== "fix-setup") return refuse("unavailable", error.message, { retryAfterMs });
  return refuse("invalid-request", `at: ${error.message}`, { field: "at" });
}
