// The gateway as a process runs it. It is loaded late, so that workers do not wait for the import.
import type { Logger } from "pino";
import type { Config } from "../runtime/config.ts";
import type { RefusedLogins } from "../runtime/users-log.ts";
import type { GatewayOptions, RunningGateway } from "../services/gateway/server.ts";
import { natsUrlAs, needsKeys, userOfKeys } from "./login.ts";

export async function runningGateway(
  config: Config,
  natsUrl: string,
  { log, refused }: { log: Logger; refused: RefusedLogins },
): Promise<RunningGateway> {
  const { startGateway } = await import("../services/gateway/server.ts");
  const { gatewayHost: host, gatewayPort: port, gatewayVia: via, outboundAllow, tlsCa: caFile } = config;
  const door = {
    userOf: userOfKeys(config),
    needsKey: needsKeys({ ...config, httpHost: host }),
    onRefused: (from: string) => refused.note({ over: "http", host: from }),
  };
  const options = { natsUrl: natsUrlAs(config, natsUrl, "gateway"), caFile, door, outboundAllow, via, log };
  const open: GatewayOptions["open"] = async (adopt, connectionsMax) => {
    const { openCore } = await import("../services/gateway/core.ts");
    return openCore(options, adopt, connectionsMax);
  };
  return startGateway({ host, port, log, open });
}
