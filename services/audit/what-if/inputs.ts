// Reads the inputs of a pool back from its decisions. Each input is a command that was given (a lease request, an
// outcome, a release), or an event of time. A mere consequence of an input is not an input: deciding again reproduces
// it. Refused requests are recorded by number alone and cannot be read back.
import type { Event } from "../../../events/event.ts";
import type { LeaseGranted } from "../../../events/lease.ts";
import type { UseReported } from "../../../events/outcome.ts";
import type { Policy } from "../../../events/policy.ts";
import type { ProxyAdded, ProxyChanged, RestBegan } from "../../../events/proxy.ts";
import { given } from "../../../protocol/given.ts";
import type { Outcome } from "../../../protocol/outcome.ts";
import { strategies } from "../../../state-machines/candidates/strategies.ts";
import type { Command, LeaseCommand } from "../../../state-machines/command.ts";
import type { Newcomer } from "../../../state-machines/decide/proxy.ts";
import { usesSinceRestOf } from "../../../state-machines/fold/past.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";

/** A command, with the record's further facts. */
export interface Input {
  command: Command;
  /** The strategy that drew. Another strategy would have drawn, or ranked, otherwise. */
  strategy?: Policy["strategy"];
  /** The lease of a refresh. Its command records the grant; here it is a request like any other. */
  refreshLease?: LeaseCommand;
  /** Uses granted with the outcome's lease. */
  usesGranted?: number;
  /** The outcome was the last of its lease. */
  closes?: boolean;
}

/**
 * @param state just before the event was decided.
 * @param next the event after it in the same commit.
 */
export function inputOf(event: Event, state: PoolState, next?: Event): Input {
  const { strategy } = state.rules.policy;
  switch (event.type) {
    case "LeaseGranted": {
      if (next?.type !== "TokenRequested" || next.leaseId !== event.leaseId)
        return { command: leaseOf(event, isDrawn(event, state)), strategy };
      return { command: { type: "record", events: [event, next] }, refreshLease: leaseOf(event, true), strategy };
    }
    case "UseReported": {
      const { leaseId, storedAt } = event;
      const usesGranted = (state.leases.get(leaseId) ?? state.closedLeases.get(leaseId))?.uses ?? 0;
      return { command: { type: "report", outcome: outcomeOf(event), storedAt }, usesGranted, closes: false };
    }
    default:
      return { command: commandOf(event, state) };
  }
}

function commandOf(event: Exclude<Event, LeaseGranted | UseReported>, state: PoolState): Command {
  const fact: Command = { type: "record", events: [event] };
  switch (event.type) {
    case "LeaseClosed": {
      const { leaseId, used, how } = event;
      // A restored ledger ends leases before their time.
      if (how === "expired") return (state.leases.get(leaseId)?.expiresAt ?? 0) > state.at ? fact : { type: "tick" };
      return how === "released" ? { type: "release", leaseId, used } : { type: "complete", leaseId, made: used };
    }
    case "LeaseRenewed":
      return { type: "renew", leaseId: event.leaseId, ttlMs: event.expiresAt - state.at };
    case "RestEnded":
      return event.how === "over" ? { type: "tick" } : { type: "revive", proxyId: event.proxyId, by: event.by };
    case "RestBegan":
      return restOf(event, state) ?? fact;
    case "ProxyAdded":
      return { type: "add", newcomer: newcomerOf(event, event), by: event.by };
    case "ProxyChanged": {
      const known = state.proxies.get(event.proxyId);
      return known === undefined ? fact : { type: "add", newcomer: newcomerOf(event, known), by: event.by };
    }
    case "TokenRefused":
      return event.why === "deadline" ? { type: "tick" } : fact;
    case "ProxyRetired":
      return { type: "retire", proxyId: event.proxyId, reason: event.reason, by: event.by };
    default:
      return fact;
  }
}

function leaseOf(event: LeaseGranted, isDrawn: boolean): LeaseCommand {
  const { leaseId, request: recorded, proxyId, ranked, user } = event;
  const request = { ...recorded, uses: recorded.uses ?? 1, minUses: recorded.minUses ?? 1, waitMs: 0 };
  const drawn = isDrawn ? { proxyId, ranked } : undefined;
  return { type: "lease", leaseId, request, user, deadline: 0, drawn, with: event.with };
}

/** With a token for each proxy, the record does not tell which tokens were good in a different history. */
function isDrawn({ request }: LeaseGranted, state: PoolState): boolean {
  const { strategy, token } = state.rules.policy;
  return strategies[strategy.kind].draws !== undefined || (request.token === true && token?.scope === "proxy");
}

function outcomeOf(event: UseReported): Outcome {
  const { leaseId, n, status, error, latencyMs, bytes, target, retryAfterMs, tokenRejected, tokenId, counted, final } =
    event;
  return {
    leaseId,
    n,
    ...(event.class === "success" ? { result: "success" } : { result: "failure", reason: event.class }),
    ...given({ status, error, latencyMs, bytes, target, retryAfterMs, tokenRejected, tokenId, counted, final }),
  };
}

function restOf(event: RestBegan, state: PoolState): Command | undefined {
  const { proxyId, until, note, by } = event;
  const exit = state.proxies.get(proxyId)?.account;
  if (exit === undefined) return undefined;
  const joins = event.reasons.includes("usage") && state.spreading.has(exit) && until === exit.restUntil;
  if (event.exitUntil === undefined)
    return joins ? { type: "tick" } : { type: "rest", proxyId, forMs: until - state.at, note, by };
  const { usage } = exit.limits;
  const limit = usage?.limit ?? 0;
  const isSpent = usesSinceRestOf(exit) >= limit && event.exitUntil === state.at + (usage?.restMs ?? 0);
  return { type: "rest-for-usage", proxyId, isSpent, usesLeft: limit - usesSinceRestOf(exit) };
}

function newcomerOf(
  event: ProxyAdded | ProxyChanged,
  { scheme, host, port, username: maskedName }: Pick<ProxyAdded, "scheme" | "host" | "port" | "username">,
): Newcomer {
  const { proxyId: id, labels, limits } = event;
  return {
    id,
    address: { scheme, host, port, ...(maskedName === undefined ? {} : { maskedName }) },
    labels,
    allLabels: true,
    limits,
  };
}
