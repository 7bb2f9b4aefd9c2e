// The thread that answers questions about the past. Folding a ledger, and loading or storing a checkpoint, takes a core
// for seconds.

import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import type { z } from "zod";
import type { pastRequestSchema } from "../../protocol/proxy.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { Archive } from "../../runtime/archive/archive.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";
import { checkpointsIn } from "./checkpoint.ts";
import { stateAt } from "./history.ts";
import { pageOf } from "./past-page.ts";
import { futureMs, Pasts, retryAfterMs } from "./pasts.ts";
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
export type PastQuestion = z.infer<typeof pastRequestSchema> & { pool: string; user: string };

const { natsUrl, caFile, folder, archiveFolder } = workerData as PastSettings; // As service.ts passes it.
const archive = new Archive(archiveFolder);
let opened: Promise<Bus> | undefined;

const pasts = new Pasts({
  async fold(pool, moment) {
    const source = await streamSourceOn(await ledger(), pool, { archive });
    if ("at" in moment && moment.at > Date.now() + futureMs)
      throw new Fault("fix-setup", "is in the future. Give a past moment.");
    return stateAt(source, moment, { checkpoints: checkpointsIn(join(folder, pool)) });
  },
  lastSequence: async (pool) => (await (await streamSourceOn(await ledger(), pool)).last())?.seq,
});

parentPort?.on("message", ({ id, question }: { id: number; question: PastQuestion }) => {
  // A bug ends this thread. The service logs it, and begins another one.
  void answerTo(question).then((answer) => parentPort?.postMessage({ id, answer }));
});

async function answerTo({ pool, user, at, sequence, ...asked }: PastQuestion): Promise<object> {
  try {
    const past = await pasts.at(pool, at === undefined ? { sequence: sequence ?? 0 } : { at }, user);
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
