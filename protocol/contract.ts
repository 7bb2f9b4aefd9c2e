// The other columns of the table in verbs.ts: each verb's request and reply, as schemas, and its text in OpenAPI.
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
  summary?: string;
  description?: string;
}

export const contract = {
  lease: {
    request: lease.leaseRequestSchema,
    reply: z.union([lease.leaseReplySchema, lease.leasesGrantedSchema]),
    summary: "Lease a proxy",
    description:
      "Waits up to `waitMs` until one can be leased. An empty body requests one use of any proxy. With `count`, the reply has a list of one or more leases.",
  },
  "leases.list": {
    request: lease.leasesListRequestSchema,
    reply: lease.leasesReplySchema,
    summary: "The open leases, by id, without their URLs",
  },
  renew: {
    request: lease.renewRequestSchema,
    reply: lease.leaseReplySchema,
    summary: "Renew a lease: give it a new end",
  },
  release: {
    request: lease.releaseRequestSchema,
    reply: lease.releaseReplySchema,
    summary: "Release a lease",
    description: "`used`: how many of its uses were made. Default: all. The others are returned.",
  },
  cancel: {
    request: lease.cancelRequestSchema,
    reply: lease.cancelReplySchema,
    summary: "Cancel a waiting lease request, by its requestId",
    description: "The waiting request is answered `unavailable`. `cancelled` is false if nothing waits under this id.",
  },
  report: {
    request: outcome.reportRequestSchema,
    reply: outcome.reportReplySchema,
    summary: "Report how uses went",
    description: "Each (leaseId, n) counts once. An unreadable outcome is ignored and never stops the others.",
  },
  "proxies.add": {
    request: proxy.addRequestSchema,
    reply: proxy.addReplySchema,
    summary: "Add proxies",
    description:
      'A list of lines (`text/plain`, `text/csv`), a JSON array, or {"proxies": […]}; up to 32 MiB. Adding a proxy again changes nothing. `scheme` is for entries without one.',
  },
  "proxies.list": {
    request: proxy.listRequestSchema,
    reply: proxy.proxiesReplySchema,
    summary: "Proxies, by id",
    description:
      "`label.<name>=<value>`, also repeated: only proxies with all of these labels. `at`: the proxies at that time, in epoch " +
      "milliseconds, or (below 10^11) after the commit with this sequence in the ledger's stream.",
  },
  "proxies.get": { request: proxy.getRequestSchema, reply: proxy.proxyReplySchema, summary: "One proxy" },
  "proxies.export": { request: proxy.exportRequestSchema, reply: proxy.exportReplySchema },
  "proxies.retire": { request: proxy.retireRequestSchema, reply: proxy.changedReplySchema, summary: "Retire a proxy" },
  "proxies.rest": {
    request: proxy.restRequestSchema,
    reply: proxy.changedReplySchema,
    summary: "Let a proxy rest (cool down) for a time",
  },
  "proxies.revive": {
    request: proxy.reviveRequestSchema,
    reply: proxy.changedReplySchema,
    summary: "End a proxy's rest",
  },
  "token.get": { request: token.tokenGetRequestSchema, reply: token.tokenReplySchema, summary: "The guest token" },
  "token.reject": {
    request: token.tokenRejectRequestSchema,
    reply: token.rejectReplySchema,
    summary: "Report that a target rejects a guest token",
  },
  "token.take": { request: token.tokenTakeRequestSchema, reply: token.tokenTakeReplySchema },
  "token.result": { request: token.tokenResultRequestSchema, reply: token.tokenResultReplySchema },
  "pool.list": { request: nothing, reply: pool.poolsReplySchema, summary: "The open pools" },
  "pool.open": {
    request: pool.openRequestSchema,
    reply: pool.poolReplySchema,
    summary: "Open a pool",
    description: "If it is open already, the policy is merged over the current one.",
  },
  "pool.get": { request: nothing, reply: pool.poolReplySchema, summary: "A pool and its policy" },
  "pool.policy": {
    request: pool.policyRequestSchema,
    reply: pool.poolReplySchema,
    summary: "Change a policy",
    description:
      "A partial document, merged over the current one. `ifVersion` guards against a change in between. `reset` goes back " +
      "to the default policy.",
  },
  "pool.close": {
    request: pool.closeRequestSchema,
    reply: pool.poolReplySchema,
    summary: "Close a pool",
    description: "`drain=true`: grants nothing more, and closes when the last lease has ended.",
  },
  "pool.delete": {
    request: pool.deleteRequestSchema,
    reply: pool.deletedReplySchema,
    summary: "Delete a closed pool",
    description: "Its proxies, their credentials and its ledger are gone. `archive=true`: its archive as well.",
  },
  "pool.stats": { request: nothing, reply: pool.statsReplySchema, summary: "Statistics of a pool" },
  "pool.metrics": { request: nothing, reply: metrics.metricsReplySchema },
  "sources.list": { request: nothing, reply: source.sourcesReplySchema, summary: "Sources of proxies" },
  "sources.put": {
    request: source.sourceRequestSchema,
    reply: source.sourceReplySchema,
    summary: "Follow a source",
    description: "A URL or another pool. It is read at once, and then every `everyMs`.",
  },
  "sources.remove": {
    request: source.sourceNameRequestSchema,
    reply: source.sourceRemovedReplySchema,
    summary: "Stop following a source",
    description: "Its proxies stay.",
  },
  "sources.read": {
    request: source.sourceNameRequestSchema,
    reply: source.sourceReplySchema,
    summary: "Read a source now",
  },
  "audit.proxies": { request: proxy.pastRequestSchema, reply: proxy.pastReplySchema },
  "audit.explain": {
    request: proxy.explainRequestSchema,
    reply: proxy.explainReplySchema,
    summary: "Explain a proxy or a moment in sentences",
    description:
      "With `proxyId`: why this proxy was in its state. Without: what happened to lease requests from that moment on, for " +
      "`forMs`. `at` is in epoch milliseconds; `sequence` names a commit instead.",
  },
} satisfies Record<Verb, Row>;

/** Headings in OpenAPI, by the first word of the verb, where the two differ. */
const tags: Readonly<Record<string, string>> = {
  ...{ lease: "leases", renew: "leases", release: "leases", cancel: "leases" },
  ...{ report: "outcomes", pool: "pools", token: "tokens", audit: "events" },
};

export function contractOf(verb: Verb): Row & { tag: string } {
  const [word = ""] = verb.split(".");
  return { ...contract[verb], tag: tags[word] ?? word };
}
