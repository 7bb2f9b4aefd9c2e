// The HTTP service as a process has it: connected to NATS, listening, and gone again.
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import type { SplitRow } from "../../events/proxy-csv.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";
import { buildApi } from "./app.ts";
import { askOver } from "./ask.ts";
import { isLoopback } from "./host.ts";
import { ledgersOn } from "./ledger.ts";
import type { Api } from "./request.ts";

export interface ApiOptions {
  natsUrl: string;
  host: string;
  /** 0: the system chooses. */
  port: number;
  version: string;
  log: Logger;
  /** How a row of CSV is cut. */
  splitRow: SplitRow;
}

export interface RunningApi {
  url: string;
  stop(): Promise<void>;
}

/** @throws Fault "fix-setup" where it cannot, or must not, listen there; "retry-later" where NATS is away. */
export async function startApi(options: ApiOptions): Promise<RunningApi> {
  const { natsUrl, host, version, log, splitRow } = options;
  mustBeLoopback(host);
  const buses: Bus[] = [];
  const open = async (name: string): Promise<Bus> => {
    const bus = await openBus(natsUrl, `remuda ${name}`);
    buses.push(bus);
    return bus;
  };
  let api: Api | undefined;
  const stop = async (): Promise<void> => {
    await api?.close();
    await Promise.all(buses.map((bus) => bus.close()));
  };
  try {
    const requests = await open("api");
    const onTrouble = (error: unknown): void =>
      log.warn({ why: String(error) }, "a ledger cannot be followed; trying again");
    const ledgers = ledgersOn(await open("api follower"), onTrouble);
    api = await buildApi({ ask: askOver(requests, ledgers), ledgers, log, version, ownHost: host, splitRow });
    const { port } = await listen(api, options);
    return { url: `http://${host.includes(":") ? `[${host}]` : host}:${port}`, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** @throws Fault "fix-setup" where others than this machine could reach it. */
export function mustBeLoopback(host: string): void {
  if (isLoopback(host)) return;
  throw new Fault(
    "fix-setup",
    `REMUDA_HTTP_HOST is ${JSON.stringify(host)} (expected a loopback address such as 127.0.0.1): HTTP has no credentials ` +
      "yet, so it listens on loopback only",
  );
}

async function listen(api: Api, { host, port }: ApiOptions): Promise<AddressInfo> {
  try {
    await api.listen({ host, port });
    return api.server.address() as AddressInfo; // It listens on TCP.
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    const what =
      code === "EADDRINUSE" ? `port ${port} on ${host} is in use` : `nothing can listen on ${host}:${port} (${code})`;
    throw new Fault(
      "fix-setup",
      `${what}: stop what listens there, set REMUDA_HTTP_PORT to another port (0: any that is free), or REMUDA_HTTP_HOST to another address`,
      { cause },
    );
  }
}
