// One decision: a command in, events into the turn, an answer as data out. Every command is listed here once, with the
// function that decides it.
import type { Answer, Command } from "./command.ts";
import { completeLease, grant, release, renew } from "./decide/lease.ts";
import { changePolicy, close, open } from "./decide/pool.ts";
import { add, retire } from "./decide/proxy.ts";
import { noTokenSource } from "./decide/refreshes.ts";
import { ingest } from "./decide/report.ts";
import { restForRefusal, restManually, revive } from "./decide/rest.ts";
import { restoreLedger } from "./decide/restore.ts";
import { tick } from "./decide/timers.ts";
import { reject } from "./decide/token.ts";
import { finishRefresh } from "./decide/token-result.ts";
import type { Turn } from "./decide/turn.ts";
import type { Proxy } from "./fold/state.ts";
import { unreachable } from "./structures/unreachable.ts";

/**
 * No answer yet: another event was decided first, and it may concern earlier requests. Decide again in the next turn.
 */
export type Later = "later";

const done: Answer = { settled: true };
const notYet: Answer = { settled: false };

export function decide(turn: Turn, command: Command): Answer | Later {
  switch (command.type) {
    case "lease":
      return grant(turn, command);
    case "renew":
      return renew(turn, command);
    case "release":
      return release(turn, command);
    case "report":
      return ingest(turn, command.outcome, command.storedAt ?? turn.at, command.owner);
    case "ignore":
      return { ignored: command.why, leaseId: command.leaseId, n: command.n, field: command.field };
    case "add":
      return { proxy: add(turn, command.newcomer, command.by) };
    case "retire":
      return ofOne(turn, command.proxyId, (proxy) => retire(turn, proxy, command));
    case "rest":
      return ofOne(turn, command.proxyId, (proxy) => restManually(turn, proxy, command));
    case "revive":
      return ofOne(turn, command.proxyId, (proxy) => revive(turn, proxy, command.by));
    case "open":
      return open(turn, command);
    case "change-policy":
      return changePolicy(turn, command);
    case "close":
      close(turn, command);
      return done;
    case "reject-token":
      if (turn.state.rules.policy.token === null) return { refusal: noTokenSource() };
      return { rejected: reject(turn, command) };
    case "finish-refresh":
      return { accepted: finishRefresh(turn, command.result) };
    case "claim":
      turn.emit({ type: "LeaderClaimed", leader: command.leader, term: turn.state.term + 1, ...versionOf(command) });
      return done;
    case "sign-head":
      turn.emit({ type: "HeadSigned", ...command.head, inert: true });
      return done;
    case "note-archived": {
      const { segment } = command;
      const follows = segment.first === turn.state.archived.n + 1 && segment.last < turn.state.commits;
      const closed = turn.state.opened ? {} : { closed: true as const };
      if (follows) turn.emit({ type: "SegmentArchived", ...segment, ...closed, inert: true });
      return { accepted: follows };
    }
    case "restore":
      return restoreLedger(turn, command) ? done : notYet;
    case "tick":
      return tick(turn) ? done : notYet;
    case "record":
      for (const event of command.events) turn.emit(event);
      return done;
    case "complete":
      completeLease(turn, command);
      return done;
    case "rest-for-usage":
      return ofOne(turn, command.proxyId, (proxy) => restForRefusal(turn, proxy, command));
    default:
      return unreachable(command);
  }
}

function ofOne(turn: Turn, proxyId: string, change: (proxy: Proxy) => boolean): Answer {
  const proxy = turn.state.proxies.get(proxyId);
  if (proxy === undefined) return { proxy: "unknown" };
  return { proxy: change(proxy) ? "changed" : "unchanged" };
}

function versionOf({ version }: { version?: string | undefined }): { version?: string } {
  return version === undefined ? {} : { version };
}
