// A commit as a viewer may see it: without the ids by which others' leases and requests can be used, and without the
// places where tokens come from. It has no hash of its own, so only administrators and auditors can check the chain.
import { decodeCommit } from "../../events/commit.ts";
import type { Policy } from "../../events/policy.ts";
import { withoutSource } from "../../protocol/pool.ts";

export function shownCommit(text: string): string {
  const commit = decodeCommit(text);
  return JSON.stringify({ ...commit, events: commit.events.map(shownEvent) });
}

function shownEvent(event: unknown): object {
  const { leaseId, request, policy, ...others } = event as { leaseId?: string; request?: object; policy?: Policy };
  return {
    ...others,
    ...(leaseId === undefined ? {} : { leaseId: `${leaseId.slice(0, 8)}…` }),
    ...(request === undefined ? {} : { request: { ...request, requestId: undefined } }),
    ...(policy === undefined ? {} : { policy: withoutSource(policy) }),
  };
}
