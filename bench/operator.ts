// The operator's connection to a benchmark's service: a client may not open pools.
import { join } from "node:path";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import type { ServiceProcess } from "../demo/service.ts";
import { readNatsUrl, withLogin } from "../runtime/nats-url.ts";
import { readUsers } from "../runtime/users.ts";

export function connectAsOperator({ env, natsUrl }: ServiceProcess): Promise<NatsConnection> {
  const users = readUsers(join(env["REMUDA_DATA_DIR"] ?? "", "users.json")) ?? [];
  const operator = users.find(({ name }) => name === "operator");
  const url = operator === undefined ? natsUrl : withLogin(natsUrl, operator);
  return connect({ ...readNatsUrl(url), noAsyncTraces: true });
}
