// The HTTP service as a process runs it: connect to NATS, listen, stop.
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import type { Archive } from "../../runtime/archive/archive.ts";
import { openBuses } from "../../runtime/bus.ts";
import { codeOf, Fault } from "../../runtime/fault.ts";
import { hereOf, inUrl } from "../../runtime/host.ts";
import type { Family } from "../../runtime/prometheus.ts";
import { buildApi } from "./app.ts";
import { askOver } from "./ask.ts";
import type { Door } from "./door.ts";
import { ledgersOn } from "./ledger.ts";
import { Notices } from "./notices.ts";
import type { Api } from "./request.ts";

export interface ApiOptions extends Omit<Door, "hasTls"> {
  /** One connection may call the picker. The others may read ledgers: for the readers of events, and for all else. */
  natsUrls: { requests: string; events: string; control: string };
  /** The certificate authority that the NATS connections trust. */
  caFile: string | undefined;
  /** 0: the system chooses. */
  port: number;
  /** In PEM; undefined: no TLS. */
  certificate: { cert: string; key: string } | undefined;
  version: string;
  log: Logger;
  /** Of this machine. */
  archive: Archive;
  onLoginRefused?: ((host: string) => void) | undefined;
  defects: () => Readonly<Record<string, number>>;
  /** Further metrics of this process. */
  families?: (() => Family[]) | undefined;
}

export interface RunningApi {
  /** The URL at which this machine reaches it. */
  url: string;
  stop(): Promise<void>;
}

/** @throws Fault "fix-setup" if it cannot, or must not, listen there; "retry-later" if NATS is away. */
export async function startApi(options: ApiOptions): Promise<RunningApi> {
  const {
    natsUrls,
    caFile,
    host,
    names,
    userOf,
    userNamed,
    needsKey,
    certificate,
    version,
    log,
    defects,
    archive,
    onLoginRefused,
    families,
  } = options;
  const { buses, close } = await openBuses(natsUrls, "api", { caFile });
  let api: Api | undefined;
  const stop = async (): Promise<void> => {
    await api?.close();
    await close();
  };
  try {
    const onTrouble = (error: unknown): void =>
      log.warn({ why: String(error) }, "a ledger cannot be followed; trying again");
    const ledgers = ledgersOn(buses, { archive, onTrouble });
    const door = { host, names, userOf, userNamed, needsKey, hasTls: certificate !== undefined };
    const ask = askOver(buses.requests, ledgers, new Notices(buses.requests));
    api = await buildApi({ ask, ledgers, log, defects, version, door, certificate, onLoginRefused, families });
    const { port } = await listen(api, options);
    return { url: `${certificate === undefined ? "http" : "https"}://${inUrl(hereOf(host))}:${port}`, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function listen(api: Api, { host, port }: ApiOptions): Promise<AddressInfo> {
  try {
    await api.listen({ host, port });
    return api.server.address() as AddressInfo; // It listens on TCP.
  } catch (cause) {
    const code = codeOf(cause);
    const what =
      code === "EADDRINUSE" ? `port ${port} on ${host} is in use` : `nothing can listen on ${host}:${port} (${code})`;
    throw new Fault(
      "fix-setup",
      `${what}: stop the process that listens there, set REMUDA_HTTP_PORT to another port (0: any that is free), or REMUDA_HTTP_HOST to another address`,
      { cause },
    );
  }
}
