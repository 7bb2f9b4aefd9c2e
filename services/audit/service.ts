// The audit as a process. It answers questions about the past on NATS, `remuda.audit.<what>.<pool>`, from the ledger
// alone. A thread folds the ledger and makes the answers (past-thread.ts), because in `remuda up` the picker shares
// this process. The thread begins with the first question.
import type { Logger } from "pino";
import { contract } from "../../protocol/contract.ts";
import { withWarnings } from "../../protocol/fields.ts";
import { overNats, poolIn, senderIn } from "../../protocol/over-nats.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { readRequest } from "../../protocol/request.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import { verbsBy } from "../../protocol/verbs.ts";
import { openBus } from "../../runtime/bus.ts";
import { Responder } from "../../runtime/responder.ts";
import { Answering, isOutOfMemory } from "../../runtime/thread.ts";
import type { PastQuestion, PastSettings } from "./past-thread.ts";
import { retryAfterMs } from "./pasts.ts";

export interface AuditOptions extends PastSettings {
  /** Requests are answered on it. The thread has its own connection. */
  frontUrl: string;
  log: Logger;
}

export interface RunningAudit {
  stop(): Promise<void>;
}

/** A state of a million proxies takes about 1 GB, and three of them are kept. */
const megabytesMax = 4096;

export async function startAudit({ frontUrl, log, ...settings }: AuditOptions): Promise<RunningAudit> {
  const front = await openBus(frontUrl, "remuda audit", { caFile: settings.caFile });
  const thread = new Answering<PastQuestion, object>({
    script: new URL("./past-thread.ts", import.meta.url),
    input: settings,
    megabytesMax,
  });
  const responder = new Responder(front.nc, overNats, log);
  const subscriptions = verbsBy("audit").map((verb) => {
    const served = { name: verb, subject: requestSubject(verb, "*"), queue: "remuda-audit" };
    return responder.serve(served, async ({ subject, respond, ...asked }) => {
      const pool = poolIn(subject, verb);
      if ("refusal" in pool) return respond(pool.refusal);
      const read = readRequest(contract[verb].request, asked.body);
      if ("refusal" in read) return respond(read.refusal);
      const question = { pool: pool.value, user: senderIn(asked), ...read.value, verb } as PastQuestion; // By its verb.
      if ((question.at === undefined) === (question.sequence === undefined)) return respond(oneOfBoth);
      const answer = await thread.ask(question).catch((error: unknown) => failed(error, log));
      respond(withWarnings(answer, read.warnings));
    });
  });
  await front.nc.flush();
  return {
    async stop() {
      for (const each of subscriptions) each.unsubscribe();
      await Promise.all([front.close(), thread.stop()]);
    },
  };
}

const oneOfBoth = refuse(
  "invalid-request",
  "at: is missing, or given with sequence. Give one of at (epoch milliseconds) and sequence.",
  { field: "at" },
);

function failed(error: unknown, log: Logger): Refusal {
  if (isOutOfMemory(error)) log.warn("a question about the past needs too much memory");
  else log.error({ err: error }, "a question about the past failed because of a bug");
  return refuse("unavailable", "The audit cannot answer now. Retry later.", { retryAfterMs });
}
