// Answers `$SRV.PING|INFO|STATS` (NATS ADR-32), so that `nats micro ls` finds the service. Written here, because the
// published library pins an older client and takes over the subscriptions, which belong to the pool's leader alone.
import type { NatsConnection, Subscription } from "@nats-io/transport-node";
import type { Intake } from "./intake.ts";
import { type Endpoint, isInbox } from "./responder.ts";

/** A question is small, but its answer is not. */
const answerBytes = 4096;

export interface ServiceCard {
  name: string;
  id: string;
  version: string;
  description: string;
  startedAt: number;
  endpoints(): readonly Endpoint[];
}

/** Questions beyond the intake's bounds get no answer. */
export function answerDiscovery(nc: NatsConnection, intake: Intake, card: ServiceCard): Subscription[] {
  const { name, id, version, description } = card;
  const identity = { name, id, version, metadata: {} };
  const answers = {
    PING: () => ({ ...identity, type: "io.nats.micro.v1.ping_response" }),
    INFO: () => ({
      ...identity,
      type: "io.nats.micro.v1.info_response",
      description,
      endpoints: card
        .endpoints()
        .map((each) => ({ name: each.name, subject: each.subject, queue_group: "", metadata: {} })),
    }),
    STATS: () => ({
      ...identity,
      type: "io.nats.micro.v1.stats_response",
      started: new Date(card.startedAt).toISOString(),
      endpoints: card.endpoints().map((each) => ({
        name: each.name,
        subject: each.subject,
        queue_group: "",
        num_requests: each.requests,
        num_errors: each.errors,
        last_error: "",
        processing_time: 0,
        average_processing_time: 0,
      })),
    }),
  };
  return Object.entries(answers).flatMap(([verb, answer]) =>
    ["", `.${name}`, `.${name}.${id}`].map((suffix) =>
      nc.subscribe(`$SRV.${verb}${suffix}`, {
        callback: (error, message) => {
          const { reply: inbox } = message;
          if (error !== null || !isInbox(inbox)) return;
          const run = (): void => {
            if (!nc.isClosed()) nc.publish(inbox, JSON.stringify(answer()));
          };
          intake.take({ group: "discovery", bytes: answerBytes, mayWait: true, run, reject() {}, keep() {} });
        },
      }),
    ),
  );
}
