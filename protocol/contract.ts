// The other columns of the table in verbs.ts: each verb's request and reply, as schemas, and what OpenAPI says of it.
import { z } from "zod";
import {
  leaseReplySchema,
  leaseRequestSchema,
  leasesListRequestSchema,
  leasesReplySchema,
  releaseReplySchema,
  releaseRequestSchema,
  renewRequestSchema,
  withdrawReplySchema,
  withdrawRequestSchema,
} from "./lease.ts";
import { metricsReplySchema } from "./metrics.ts";
import { reportReplySchema, reportRequestSchema } from "./outcome.ts";
import {
  closeRequestSchema,
  openRequestSchema,
  policyRequestSchema,
  poolReplySchema,
  poolsReplySchema,
  statsReplySchema,
} from "./pool.ts";
import {
  addReplySchema,
  addRequestSchema,
  changedReplySchema,
  exportReplySchema,
  exportRequestSchema,
  getRequestSchema,
  listRequestSchema,
  pastReplySchema,
  pastRequestSchema,
  proxiesReplySchema,
  proxyReplySchema,
  restRequestSchema,
  retireRequestSchema,
  reviveRequestSchema,
} from "./proxy.ts";
import {
  sourceNameRequestSchema,
  sourceRemovedReplySchema,
  sourceReplySchema,
  sourceRequestSchema,
  sourcesReplySchema,
} from "./source.ts";
import {
  rejectReplySchema,
  tokenGetRequestSchema,
  tokenRejectRequestSchema,
  tokenReplySchema,
  tokenResultReplySchema,
  tokenResultRequestSchema,
  tokenTakeReplySchema,
  tokenTakeRequestSchema,
} from "./token.ts";
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
    request: leaseRequestSchema,
    reply: leaseReplySchema,
    tag: "leases",
    summary: "Lease a proxy",
    description: "Waits up to `waitMs` until one can be leased. An empty body asks for one use of any proxy.",
  },
  "leases.list": {
    request: leasesListRequestSchema,
    reply: leasesReplySchema,
    tag: "leases",
    summary: "Open leases, by id, without their URLs",
  },
  renew: { request: renewRequestSchema, reply: leaseReplySchema, tag: "leases", summary: "Give a lease a new end" },
  release: {
    request: releaseRequestSchema,
    reply: releaseReplySchema,
    tag: "leases",
    summary: "Release a lease",
    description: "`used`: how many of its uses were made; all of them where it is left out. The others are returned.",
  },
  withdraw: {
    request: withdrawRequestSchema,
    reply: withdrawReplySchema,
    tag: "leases",
    summary: "Cancel a waiting lease request, by its requestId",
    description:
      "The request that waits is answered `unavailable`. False: nothing waits under this id, or a lease has been granted.",
  },
  report: {
    request: reportRequestSchema,
    reply: reportReplySchema,
    tag: "outcomes",
    summary: "Report how uses went",
    description: "Each (leaseId, n) counts once. One that cannot be read is ignored and never stops the others.",
  },
  "proxies.add": {
    request: addRequestSchema,
    reply: addReplySchema,
    tag: "proxies",
    summary: "Add proxies",
    description:
      'A list of lines (`text/plain`, `text/csv`), a JSON array, or {"proxies": […]}; up to 32 MiB. Adding again changes nothing. `scheme`: of the entries that name none.',
  },
  "proxies.list": {
    request: listRequestSchema,
    reply: proxiesReplySchema,
    tag: "proxies",
    summary: "Proxies, by id",
    description:
      "`label.<name>=<value>`, as often as you like: only those that have all of these labels. `at`: as they were then, in epoch " +
      "milliseconds, or (below 10^11) after the commit with this sequence in the ledger's stream.",
  },
  "proxies.get": { request: getRequestSchema, reply: proxyReplySchema, tag: "proxies", summary: "One proxy" },
  "proxies.export": { request: exportRequestSchema, reply: exportReplySchema },
  "proxies.retire": {
    request: retireRequestSchema,
    reply: changedReplySchema,
    tag: "proxies",
    summary: "Retire a proxy",
  },
  "proxies.rest": {
    request: restRequestSchema,
    reply: changedReplySchema,
    tag: "proxies",
    summary: "Let a proxy rest (cool down) for a time",
  },
  "proxies.revive": {
    request: reviveRequestSchema,
    reply: changedReplySchema,
    tag: "proxies",
    summary: "End a proxy's rest",
  },
  "token.get": {
    request: tokenGetRequestSchema,
    reply: tokenReplySchema,
    tag: "tokens",
    summary: "The present guest token",
  },
  "token.reject": {
    request: tokenRejectRequestSchema,
    reply: rejectReplySchema,
    tag: "tokens",
    summary: "Say that a target no longer takes a guest token",
  },
  "token.take": { request: tokenTakeRequestSchema, reply: tokenTakeReplySchema },
  "token.result": { request: tokenResultRequestSchema, reply: tokenResultReplySchema },
  "pool.list": { request: nothing, reply: poolsReplySchema, tag: "pools", summary: "Pools that are open" },
  "pool.open": {
    request: openRequestSchema,
    reply: poolReplySchema,
    tag: "pools",
    summary: "Open a pool",
    description: "Where it is open, the policy given is merged over the present one.",
  },
  "pool.get": { request: nothing, reply: poolReplySchema, tag: "pools", summary: "A pool and its policy" },
  "pool.policy": {
    request: policyRequestSchema,
    reply: poolReplySchema,
    tag: "pools",
    summary: "Change a policy",
    description: "A partial document, merged over the present one; `ifVersion` guards against a change in between.",
  },
  "pool.close": {
    request: closeRequestSchema,
    reply: poolReplySchema,
    tag: "pools",
    summary: "Close a pool",
    description: "`drain=true`: grant nothing more, and close when the last lease has ended.",
  },
  "pool.stats": { request: nothing, reply: statsReplySchema, tag: "pools", summary: "A pool in numbers" },
  "pool.metrics": { request: nothing, reply: metricsReplySchema },
  "sources.list": {
    request: nothing,
    reply: sourcesReplySchema,
    tag: "sources",
    summary: "Where the proxies come from",
  },
  "sources.put": {
    request: sourceRequestSchema,
    reply: sourceReplySchema,
    tag: "sources",
    summary: "Follow a source",
    description: "A URL or another pool. It is asked at once, and from then on every `everyMs`.",
  },
  "sources.remove": {
    request: sourceNameRequestSchema,
    reply: sourceRemovedReplySchema,
    tag: "sources",
    summary: "Follow a source no longer",
    description: "The proxies that it has brought stay.",
  },
  "sources.read": {
    request: sourceNameRequestSchema,
    reply: sourceReplySchema,
    tag: "sources",
    summary: "Ask a source now",
  },
  "audit.proxies": { request: pastRequestSchema, reply: pastReplySchema },
} satisfies Record<Verb, Row>;

export function contractOf(verb: Verb): Row {
  return contract[verb];
}
