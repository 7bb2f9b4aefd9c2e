// The other columns of the table in verbs.ts: each verb's request and reply, as schemas, and what OpenAPI says of it.
import { z } from "zod";
import * as lease from "./lease.ts";
import * as metrics from "./metrics.ts";
import * as outcome from "./outcome.ts";
import * as pool from "./pool.ts";
import * as proxy from "./proxy.ts";
import * as source from "./source.ts";
import * as token from "./token.ts";
import type { Verb } from "./verbs.ts";

const nothing = z.object({});

interface Row {
  request: z.ZodObject;
  reply: z.ZodType;
  /** Of the verbs that have a route. */
  tag?: string;
  summary?: string;
  description?: string;
}

export const contract = {
  lease: {
    request: lease.leaseRequestSchema,
    reply: lease.leaseReplySchema,
    tag: "leases",
    summary: "Lease a proxy",
    description: "Waits up to `waitMs` until one can be leased. An empty body asks for one use of any proxy.",
  },
  "leases.list": {
    request: lease.leasesListRequestSchema,
    reply: lease.leasesReplySchema,
    tag: "leases",
    summary: "Open leases, by id, without their URLs",
  },
  renew: {
    request: lease.renewRequestSchema,
    reply: lease.leaseReplySchema,
    tag: "leases",
    summary: "Give a lease a new end",
  },
  release: {
    request: lease.releaseRequestSchema,
    reply: lease.releaseReplySchema,
    tag: "leases",
    summary: "Release a lease",
    description: "`used`: how many of its uses were made; all of them where it is left out. The others are returned.",
  },
  cancel: {
    request: lease.cancelRequestSchema,
    reply: lease.cancelReplySchema,
    tag: "leases",
    summary: "Cancel a waiting lease request, by its requestId",
    description:
      "The request that waits is answered `unavailable`. False: nothing waits under this id, or a lease has been granted.",
  },
  report: {
    request: outcome.reportRequestSchema,
    reply: outcome.reportReplySchema,
    tag: "outcomes",
    summary: "Report how uses went",
    description: "Each (leaseId, n) counts once. One that cannot be read is ignored and never stops the others.",
  },
  "proxies.add": {
    request: proxy.addRequestSchema,
    reply: proxy.addReplySchema,
    tag: "proxies",
    summary: "Add proxies",
    description:
      'A list of lines (`text/plain`, `text/csv`), a JSON array, or {"proxies": […]}; up to 32 MiB. Adding again changes nothing. `scheme`: of the entries that name none.',
  },
  "proxies.list": {
    request: proxy.listRequestSchema,
    reply: proxy.proxiesReplySchema,
    tag: "proxies",
    summary: "Proxies, by id",
    description:
      "`label.<name>=<value>`, as often as you like: only those that have all of these labels. `at`: as they were then, in epoch " +
      "milliseconds, or (below 10^11) after the commit with this sequence in the ledger's stream.",
  },
  "proxies.get": {
    request: proxy.getRequestSchema,
    reply: proxy.proxyReplySchema,
    tag: "proxies",
    summary: "One proxy",
  },
  "proxies.export": { request: proxy.exportRequestSchema, reply: proxy.exportReplySchema },
  "proxies.retire": {
    request: proxy.retireRequestSchema,
    reply: proxy.changedReplySchema,
    tag: "proxies",
    summary: "Retire a proxy",
  },
  "proxies.rest": {
    request: proxy.restRequestSchema,
    reply: proxy.changedReplySchema,
    tag: "proxies",
    summary: "Let a proxy rest (cool down) for a time",
  },
  "proxies.revive": {
    request: proxy.reviveRequestSchema,
    reply: proxy.changedReplySchema,
    tag: "proxies",
    summary: "End a proxy's rest",
  },
  "token.get": {
    request: token.tokenGetRequestSchema,
    reply: token.tokenReplySchema,
    tag: "tokens",
    summary: "The present guest token",
  },
  "token.reject": {
    request: token.tokenRejectRequestSchema,
    reply: token.rejectReplySchema,
    tag: "tokens",
    summary: "Say that a target no longer takes a guest token",
  },
  "token.take": { request: token.tokenTakeRequestSchema, reply: token.tokenTakeReplySchema },
  "token.result": { request: token.tokenResultRequestSchema, reply: token.tokenResultReplySchema },
  "pool.list": { request: nothing, reply: pool.poolsReplySchema, tag: "pools", summary: "Pools that are open" },
  "pool.open": {
    request: pool.openRequestSchema,
    reply: pool.poolReplySchema,
    tag: "pools",
    summary: "Open a pool",
    description: "Where it is open, the policy given is merged over the present one.",
  },
  "pool.get": { request: nothing, reply: pool.poolReplySchema, tag: "pools", summary: "A pool and its policy" },
  "pool.policy": {
    request: pool.policyRequestSchema,
    reply: pool.poolReplySchema,
    tag: "pools",
    summary: "Change a policy",
    description: "A partial document, merged over the present one; `ifVersion` guards against a change in between.",
  },
  "pool.close": {
    request: pool.closeRequestSchema,
    reply: pool.poolReplySchema,
    tag: "pools",
    summary: "Close a pool",
    description: "`drain=true`: grant nothing more, and close when the last lease has ended.",
  },
  "pool.stats": { request: nothing, reply: pool.statsReplySchema, tag: "pools", summary: "A pool in numbers" },
  "pool.metrics": { request: nothing, reply: metrics.metricsReplySchema },
  "sources.list": {
    request: nothing,
    reply: source.sourcesReplySchema,
    tag: "sources",
    summary: "Where the proxies come from",
  },
  "sources.put": {
    request: source.sourceRequestSchema,
    reply: source.sourceReplySchema,
    tag: "sources",
    summary: "Follow a source",
    description: "A URL or another pool. It is asked at once, and from then on every `everyMs`.",
  },
  "sources.remove": {
    request: source.sourceNameRequestSchema,
    reply: source.sourceRemovedReplySchema,
    tag: "sources",
    summary: "Follow a source no longer",
    description: "The proxies that it has brought stay.",
  },
  "sources.read": {
    request: source.sourceNameRequestSchema,
    reply: source.sourceReplySchema,
    tag: "sources",
    summary: "Ask a source now",
  },
  "audit.proxies": { request: proxy.pastRequestSchema, reply: proxy.pastReplySchema },
} satisfies Record<Verb, Row>;

export function contractOf(verb: Verb): Row {
  return contract[verb];
}
