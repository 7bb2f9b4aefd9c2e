// One probe: one request through a leased proxy. It waits only for the head of the answer. It never throws, never
// outlives the lease, and reveals nothing of the URL but its host.
import type { Dispatcher } from "undici";
import type { LeaseReply } from "../../protocol/lease.ts";
import type { Source } from "../../protocol/source.ts";
import type { Outcome } from "../../protocol/wire.ts";
import { type Agents, agentsForOne } from "../../transport/agents.ts";
import { type Cut, type Ended, outcomeOf } from "../../transport/classify.ts";
import type { Route } from "../../transport/failure.ts";
import { factsOf, headerIn, loginRefused } from "../../transport/head.ts";
import type { Outbound } from "../../transport/outbound.ts";
import { withLogin } from "./url.ts";

const cut = new Error("The probe was cut off.");

export type Probing = NonNullable<Source["probe"]>;

/**
 * Resolves with the outcome to report.
 * @param signal Ends the probe early. Its outcome then says nothing about the proxy.
 */
export async function probeThrough(
  lease: LeaseReply,
  probing: Probing,
  { signal, outbound }: { signal: AbortSignal; outbound: Outbound },
): Promise<Outcome> {
  const { timeoutMs, expectStatus } = probing;
  const { url, headers } = withLogin(probing.url);
  const target = new URL(url);
  const agents = agentsForOne(timeoutMs, outbound);
  const startedAt = performance.now();
  let stop = (): void => {};
  let timer: NodeJS.Timeout | undefined;
  const ended = await new Promise<Partial<Ended>>((resolve) => {
    const limitMs = Math.min(timeoutMs, lease.leftMs);
    const cutBy = (by: Cut["by"], share: number) => resolve({ error: cut, cut: { by, share, tookMs: limitMs } });
    timer = setTimeout(() => cutBy("lease", 1), limitMs);
    stop = () => cutBy("caller", 0);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) return stop();
    request(agents, { lease, target, login: headers }, resolve);
  });
  clearTimeout(timer);
  signal.removeEventListener("abort", stop);
  void agents.close(); // Cuts all connections that are still open.
  const latencyMs = performance.now() - startedAt;
  const use = { leaseId: lease.leaseId, n: 1, target: target.hostname, latencyMs, bytes: 0 };
  const outcome = outcomeOf({ ...use, route: "tunnelled", ...ended });
  return expectStatus === undefined ? outcome : checkedAgainst(outcome, expectStatus);
}

function request(
  agents: Agents,
  { lease, target, login }: { lease: LeaseReply; target: URL; login: Record<string, string> },
  resolve: (ended: Partial<Ended>) => void,
): void {
  let route: Route = "tunnelled";
  const handler: Dispatcher.DispatchHandler = {
    onConnect: () => {},
    onHeaders(status, raw) {
      if (status < 200) return true;
      const forwarded = route === "forwarded";
      const error = loginRefused({ status, forwarded });
      resolve(error === undefined ? factsOf({ status, forwarded, header: headerIn(raw) }) : { error });
      return false;
    },
    onData: () => false,
    onComplete: () => {},
    onError: (error) => resolve({ error, route }),
  };
  const headers = { accept: "*/*", "user-agent": "remuda-probe", ...login };
  const sent = { origin: target.origin, path: `${target.pathname}${target.search}`, method: "GET" as const, headers };
  try {
    ({ route } = agents.enter(lease).send(sent, handler));
  } catch (error) {
    resolve({ error: error as Error }); // A request that undici cannot send. undici throws only errors.
  }
}

/** The policy classifies these statuses. */
const telling = [401, 403, 407, 429, 451];

/** Another status than the expected one means that the answer is not the target's. */
function checkedAgainst(outcome: Outcome, expectStatus: number): Outcome {
  const { status } = outcome;
  if (status === undefined || outcome.reason !== undefined) return outcome;
  if (status === expectStatus) return { ...outcome, result: "success" };
  return telling.includes(status) ? outcome : { ...outcome, result: "failure", reason: "proxy-error" };
}
