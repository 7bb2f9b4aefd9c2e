// One decision: a command in, events into the turn, an answer as data out. Every command is listed here once, with the
// function that decides it.
import type { Answer, Command, ProxyAnswer } from "./command.ts";
import { recordHead } from "./decide/head.ts";
import { completeLease, grant, release, renew } from "./decide/lease.ts";
import { changePolicy, claim, close, open } from "./decide/pool.ts";
import { add, retire } from "./decide/proxy.ts";
import { noTokenSource } from "./decide/refreshes.ts";
import { takeUp } from "./decide/report.ts";
import { restByHand, restForRefusal, revive } from "./decide/rest.ts";
import { tick } from "./decide/timers.ts";
import { reject } from "./decide/token.ts";
import { finishRefresh } from "./decide/token-result.ts";
import type { Turn } from "./decide/turn.ts";
import type { Proxy } from "./fold/state.ts";
import { unreachable } from "./structures/unreachable.ts";

/** No answer yet: another event was decided first, and it may concern earlier requests. Ask again in the next turn. */
export type Later = "later";

const done: Answer = { settled: true };
const notYet: Answer = { settled: false };

/** One shared object per word, so that a list of many thousands allocates none. */
const ofProxy: Record<ProxyAnswer, Answer> = {
  added: { proxy: "added" },
  already: { proxy: "already" },
  updated: { proxy: "updated" },
  changed: { proxy: "changed" },
  unchanged: { proxy: "unchanged" },
  unknown: { proxy: "unknown" },
};

export function decide(turn: Turn, command: Command): Answer | Later {
  switch (command.type) {
    case "lease": {
      const granted = grant(turn, turn.candidates, command.request, command.leaseId, command.drawn);
      return "again" in granted ? "later" : granted;
    }
    case "renew":
      return renew(turn, command);
    case "release":
      return release(turn, command);
    case "report":
      return takeUp(turn, command.outcome, command.storedAt ?? turn.at);
    case "ignore":
      return { ignored: command.why, leaseId: command.leaseId, n: command.n };
    case "add":
      return ofProxy[add(turn, command.newcomer)];
    case "retire":
      return ofOne(turn, command.proxyId, (proxy) => retire(turn, proxy, command.reason));
    case "rest":
      return ofOne(turn, command.proxyId, (proxy) => restByHand(turn, proxy, command));
    case "revive":
      return ofOne(turn, command.proxyId, (proxy) => revive(turn, proxy));
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
      claim(turn, command.leader);
      return done;
    case "sign-head":
      recordHead(turn, command.head);
      return done;
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
  if (proxy === undefined) return ofProxy.unknown;
  return change(proxy) ? ofProxy.changed : ofProxy.unchanged;
}
