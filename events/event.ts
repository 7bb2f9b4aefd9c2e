// All facts that a ledger may hold, in one table. Types, the checker's fields, SQL columns and docs/events.md come from
// it. A reader that meets an unknown type stops, unless the event says `"inert": true`. The schemas describe. Nothing
// validates with them while events are decided, folded or written.
import type { z } from "zod";
import { headSignedSchema } from "./head.ts";
import { leaseClosedSchema, leaseGrantedSchema, leaseRenewedSchema, requestsRefusedSchema } from "./lease.ts";
import { outcomesIgnoredSchema, useReportedSchema } from "./outcome.ts";
import { leaderClaimedSchema, policyChangedSchema, poolClosedSchema, poolOpenedSchema } from "./pool.ts";
import { proxyAddedSchema, proxyChangedSchema, proxyRetiredSchema, restBeganSchema, restEndedSchema } from "./proxy.ts";
import { ledgerRestoredSchema } from "./restore.ts";
import { segmentArchivedSchema } from "./segment.ts";
import { tokenMintedSchema, tokenRefusedSchema, tokenRejectedSchema, tokenRequestedSchema } from "./token.ts";

export const eventSchemas = {
  PoolOpened: poolOpenedSchema,
  PolicyChanged: policyChangedSchema,
  PoolClosed: poolClosedSchema,
  LeaderClaimed: leaderClaimedSchema,
  ProxyAdded: proxyAddedSchema,
  ProxyChanged: proxyChangedSchema,
  ProxyRetired: proxyRetiredSchema,
  RestBegan: restBeganSchema,
  RestEnded: restEndedSchema,
  LeaseGranted: leaseGrantedSchema,
  LeaseRenewed: leaseRenewedSchema,
  LeaseClosed: leaseClosedSchema,
  UseReported: useReportedSchema,
  RequestsRefused: requestsRefusedSchema,
  OutcomesIgnored: outcomesIgnoredSchema,
  TokenRequested: tokenRequestedSchema,
  TokenMinted: tokenMintedSchema,
  TokenRefused: tokenRefusedSchema,
  TokenRejected: tokenRejectedSchema,
  HeadSigned: headSignedSchema,
  SegmentArchived: segmentArchivedSchema,
  LedgerRestored: ledgerRestoredSchema,
};

export type Event = z.infer<(typeof eventSchemas)[keyof typeof eventSchemas]>;

/** Events that move a proxy: each carries `proxyId` and the `state` it leads to. */
export type MovingEvent = Extract<Event, { proxyId: string; state: string }>;
