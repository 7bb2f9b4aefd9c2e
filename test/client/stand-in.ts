// A client with a stand-in for the service: it grants a lease of the first proxy that is not excluded, and records the
// outcomes. So a test knows which proxy comes first, and needs no broker.
import { Client, type Options } from "../../client/client.ts";
import { readOptions } from "../../client/options.ts";
import type { Port } from "../../client/port.ts";
import { defaultPolicy } from "../../events/policy.ts";
import type { Outcome } from "../../protocol/wire.ts";
import { classify } from "../../state-machines/policy/classify.ts";

export interface StandIn {
  client: Client;
  /** In the order of their arrival, with the class by the default policy. */
  outcomes: (Outcome & { class: string | undefined; proxy: string })[];
  /** Lease requests. */
  asked: Record<string, unknown>[];
  released: Record<string, unknown>[];
}

/** @param proxies as `scheme://host:port`, the first one first */
export function standIn(
  proxies: readonly string[],
  options: Options & { leaseMs?: number; uses?: number } = {},
): StandIn {
  const { leaseMs = 60_000, uses = 1, ...given } = options;
  const outcomes: StandIn["outcomes"] = [];
  const asked: StandIn["asked"] = [];
  const released: StandIn["released"] = [];
  const proxyOf = new Map<string, string>();
  const grant = (body: Record<string, unknown>): object => {
    asked.push(body);
    const excluded = (body["exclude"] ?? []) as string[];
    const url = proxies.find((each) => !excluded.includes(each));
    if (url === undefined) {
      const limitedBy = { rate: 0, concurrency: 0, usage: 0, rest: 1, exclude: excluded.length, session: 0 };
      return { code: "pool-exhausted", message: "No proxy can be leased now.", retryAfterMs: 60_000, limitedBy };
    }
    const { protocol, hostname, port } = new URL(url);
    const at = Date.now();
    const leaseId = `l_${String(proxyOf.size + 1).padStart(20, "0")}`;
    proxyOf.set(leaseId, url);
    const address = { url, scheme: protocol.slice(0, -1), host: hostname, port: Number(port) };
    const times = { grantedAt: at, expiresAt: at + leaseMs, leftMs: leaseMs };
    const granted = Math.min(uses, Number(body["uses"] ?? 1));
    return { leaseId, pool: "default", proxyId: url, ...address, ...times, uses: granted, epoch: 0, labels: {} };
  };
  const port: Port = {
    bytesMax: 100_000,
    async attempt({ verb, body }) {
      if (verb === "lease") return grant(body);
      if (verb === "release") {
        released.push(body);
        return { leaseId: body["leaseId"], used: body["used"], returned: 0 };
      }
      for (const each of body["outcomes"] as Outcome[])
        outcomes.push({
          ...each,
          class: classify(defaultPolicy, each),
          proxy: proxyOf.get(each.leaseId) ?? "unknown",
        });
      return { accepted: (body["outcomes"] as Outcome[]).length, ignored: [], ignoredCount: 0, stop: [] };
    },
    cancel: async () => {},
    close: async () => {},
  };
  return {
    client: new Client(readOptions({ url: "nats://127.0.0.1:1", ...given }, {}), port),
    outcomes,
    asked,
    released,
  };
}
