// All facts a ledger may hold. A reader that meets an unknown type stops, unless the event says `"inert": true`.
import type { HeadSigned } from "./head.ts";
import type { LeaseClosed, LeaseGranted, LeaseRenewed, WishesRefused } from "./lease.ts";
import type { OutcomesIgnored, UseReported } from "./outcome.ts";
import type { LeaderClaimed, PolicyChanged, PoolClosed, PoolOpened } from "./pool.ts";
import type { ProxyAdded, ProxyChanged, ProxyRetired, RestBegan, RestEnded } from "./proxy.ts";
import type { TokenMinted, TokenRefused, TokenRejected, TokenRequested } from "./token.ts";

export type Event =
  | PoolOpened
  | PolicyChanged
  | PoolClosed
  | LeaderClaimed
  | ProxyAdded
  | ProxyChanged
  | ProxyRetired
  | RestBegan
  | RestEnded
  | LeaseGranted
  | LeaseRenewed
  | LeaseClosed
  | UseReported
  | WishesRefused
  | OutcomesIgnored
  | TokenRequested
  | TokenMinted
  | TokenRefused
  | TokenRejected
  | HeadSigned;

/** Events that move a proxy: each carries `proxyId` and the `state` it leads to. */
export type MovingEvent = ProxyAdded | ProxyRetired | RestBegan | RestEnded | LeaseGranted | LeaseClosed;
