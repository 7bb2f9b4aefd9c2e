// The parts of the gateway behind its port, put together: one connection to NATS, one set of leases for each user, and
// connections to proxies that are kept.
import type { Socket } from "node:net";
import type { Logger } from "pino";
import { openBus } from "../../runtime/bus.ts";
import { Agents } from "../../transport/agents.ts";
import { type Allowed, outboundWith } from "../../transport/outbound.ts";
import type { Tunnelling } from "../../transport/tunnel.ts";
import { Connections } from "./connections.ts";
import type { Door } from "./credentials.ts";
import { Gateway } from "./gateway.ts";
import { Leasing } from "./leasing.ts";
import { Metrics } from "./metrics.ts";
import { rememberingLookup } from "./names.ts";
import { Pools } from "./pools.ts";
import { type Ports, portsOver } from "./port.ts";
import { Sessions } from "./sessions.ts";

export interface CoreOptions {
  natsUrl: string;
  /** The certificate authority that the NATS connection trusts. */
  caFile: string | undefined;
  door: Door;
  outboundAllow: Allowed;
  /** The pseudonym in `Via`; undefined: none is added. */
  via: string | undefined;
  log: Logger;
  /** Trusted instead of the usual certificates: for https proxies, and for targets in reverse mode. */
  trust?: Pick<Tunnelling, "proxyCa" | "targetCa"> | undefined;
}

export interface Core {
  gateway: Gateway;
  metrics: Metrics;
  close(): Promise<void>;
}

const connectTimeoutMs = 10_000;
const closeMs = 500;
/** The part of the connections that one user may have. */
const userShareMax = 0.5;

export async function openCore(
  options: CoreOptions,
  adopt: (socket: Socket) => void,
  connectionsMax: number,
): Promise<Core> {
  const bus = await openBus(options.natsUrl, "remuda gateway", { caFile: options.caFile });
  const core = coreOver(portsOver(bus), options, adopt, connectionsMax);
  return {
    ...core,
    async close() {
      await core.close();
      await bus.close();
    },
  };
}

export function coreOver(
  service: Ports,
  { door, outboundAllow, via, log, trust }: Omit<CoreOptions, "natsUrl" | "caFile">,
  adopt: (socket: Socket) => void,
  /** Of all clients together. */
  connectionsMax = Number.POSITIVE_INFINITY,
): Core {
  const outbound = outboundWith(outboundAllow, rememberingLookup());
  const tunnelling = { connectTimeoutMs, outbound, ...trust };
  const agents = new Agents({
    ...tunnelling,
    max: 1000,
    headersTimeoutMs: 60_000,
    bodyTimeoutMs: 300_000,
    tunnelHttp: false,
  });
  const metrics = new Metrics();
  const sessions = new Sessions();
  const leasings = new Map<string, Leasing>();
  const onProblem = (problem: Error): void => log.warn({ why: problem.message }, "a lease or an outcome had a problem");
  const leasingFor = (user: string): Leasing => {
    const known = leasings.get(user) ?? new Leasing(service.for(user), onProblem);
    leasings.set(user, known);
    return known;
  };
  // Without keys all clients are one user.
  const ofOne = door.needsKey ? Math.max(1, Math.floor(connectionsMax * userShareMax)) : Number.POSITIVE_INFINITY;
  const connections = new Connections(ofOne);
  const pools = new Pools(() => service.pools());
  service.onLeader(() => pools.forget());
  const gateway = new Gateway(
    { pools, leasingFor, agents, tunnelling, metrics, sessions, connections, log, via },
    door,
    adopt,
  );
  return {
    gateway,
    metrics,
    async close() {
      await agents.close();
      await Promise.all([...leasings.values()].map((each) => each.close(closeMs)));
    },
  };
}
