// `npm run takeover -- [--runs n] [--how kill|term|stop]`: how long a pool gives no lease when its leader ends. A
// prober sends a lease request every few milliseconds and waits for no answer. It repeats nothing. Two pickers run on a
// broker of their own, and each one that was ended is started again.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { readNatsUrl } from "../../runtime/nats-url.ts";
import { startTestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";

const signals = { kill: "SIGKILL", term: "SIGTERM", stop: "SIGSTOP" } as const;
type How = keyof typeof signals;

const pool = "probed";
const everyMs = 5;
/** Time for the process that was started last to fold the pool. */
const settleMs = 1500;
/** Time for the last requests to be answered. */
const endMs = 1000;

async function measure(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: { runs: { type: "string", default: "20" }, how: { type: "string", default: "kill" } },
  });
  const how = values.how as How;
  if (!(how in signals)) throw new Error("--how is one of kill, term, stop");
  const broker = await startTestBroker();
  const dataDir = mkdtempSync(join(tmpdir(), "remuda-takeover-"));
  const start = (): Promise<RemudaProcess> =>
    startRemuda({ dataDir, args: ["run", "picker"], env: { REMUDA_NATS_URL: broker.url, REMUDA_LOG_LEVEL: "info" } });
  const nc = await connect({ ...readNatsUrl(broker.url), noAsyncTraces: true });
  try {
    let pickers = [await start()];
    await ask(nc, "pool.open", { policy: { rate: null, concurrency: null, usage: null } });
    await ask(nc, "proxies.add", { proxies: Array.from({ length: 100 }, (_, i) => `192.0.2.${i}:80`) });
    pickers.push(await start());
    const runs = [];
    for (let run = 0; run < Number(values.runs); run++) {
      await wait(settleMs);
      const leader = await leaderAmong(nc, pickers);
      runs.push(await probe(nc, () => leader.child.kill(signals[how])));
      if (how === "stop") leader.child.kill("SIGKILL");
      await leader.exited;
      pickers = [...pickers.filter((each) => each !== leader), await start()];
    }
    show(how, runs);
  } finally {
    await nc.close();
    await stopAllRemudas();
    await broker.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

interface Run {
  /** From the signal to the first lease that was granted after it. */
  nextMs: number;
  /** The longest time between two granted leases. */
  gapMs: number;
  sent: number;
  unanswered: number;
  refused: number;
  answeredTwice: number;
}

/** Probes before the leader is ended, and until leases are granted again. */
async function probe(nc: NatsConnection, end: () => void): Promise<Run> {
  const granted: number[] = [];
  const answers = new Map<string, number>();
  let refused = 0;
  const inbox = `_INBOX.probe${Math.random().toString(36).slice(2)}`;
  const subscription = nc.subscribe(`${inbox}.*`, {
    callback: (_error, message) => {
      answers.set(message.subject, (answers.get(message.subject) ?? 0) + 1);
      if (message.data.length > 0 && "leaseId" in message.json<object>()) granted.push(performance.now());
      else refused++;
    },
  });
  let sent = 0;
  const timer = setInterval(() => nc.publish(`remuda.lease.${pool}`, "{}", { reply: `${inbox}.${sent++}` }), everyMs);
  await wait(300);
  const endedOn = performance.now();
  end();
  const isBack = (): boolean => granted.filter((on) => on > endedOn + endMs).length > 0;
  while (!isBack() && performance.now() - endedOn < 30_000) await wait(20);
  clearInterval(timer);
  await wait(endMs);
  subscription.unsubscribe();
  const gaps = granted.slice(1).map((on, i) => on - granted[i]!); // One less than there are grants.
  return {
    // Requests that were under way at the signal are answered at once.
    nextMs: Math.max(...gaps.filter((_, i) => granted[i + 1]! > endedOn)),
    gapMs: Math.max(...gaps),
    sent,
    unanswered: sent - answers.size,
    refused,
    answeredTwice: [...answers.values()].filter((count) => count > 1).length,
  };
}

async function ask(nc: NatsConnection, verb: string, body: object): Promise<Record<string, unknown>> {
  return (await nc.request(`remuda.${verb}.${pool}`, JSON.stringify(body), { timeout: 5000 })).json();
}

/** The log of each picker says whether it led the pool last. */
async function leaderAmong(nc: NatsConnection, pickers: readonly RemudaProcess[]): Promise<RemudaProcess> {
  return eventually(async () => {
    const { leader } = (await ask(nc, "pool.stats", {})) as { leader: { term: number } };
    const led = new RegExp(`"pool":"${pool}","term":${leader.term},.*leading the pool`);
    const found = pickers.find((picker) => led.test(picker.output()));
    if (found === undefined) throw new Error(`no picker says that it leads under the term ${leader.term}`);
    return found;
  });
}

function show(how: How, runs: readonly Run[]): void {
  const next = runs.map(({ nextMs }) => nextMs).sort((a, b) => a - b);
  const sum = (of: (run: Run) => number): number => runs.reduce((all, run) => all + of(run), 0);
  const ms = (value: number | undefined): string => `${Math.round(value ?? 0)} ms`;
  console.log(`${how}: ${runs.length} runs, a request every ${everyMs} ms`);
  console.log(`gap: median ${ms(next[Math.floor(next.length / 2)])}, max ${ms(next.at(-1))}`);
  console.log(
    `requests: ${sum((run) => run.sent)} sent, ${sum((run) => run.unanswered)} without an answer, ` +
      `${sum((run) => run.refused)} refused, ${sum((run) => run.answeredTwice)} answered twice`,
  );
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

await measure();
