// The sender of a request, and its view of pools and leases. The user is known from the inbox that the answer goes to:
// each user may read its own inboxes alone. A request of the HTTP service names the user of the key, in a header that
// is read only where the inbox is that of the HTTP service.

import { senderIn } from "../../protocol/over-nats.ts";
import { type PoolReply, withoutSource } from "../../protocol/pool.ts";
import type { Quota } from "../../protocol/quota.ts";
import type { UserRole } from "../../protocol/verbs.ts";

export interface Who {
  /** Absent: the NATS server has no users. */
  name?: string | undefined;
  role: UserRole;
  /** Absent: all. */
  pools?: readonly string[] | undefined;
  /** Absent: none. */
  quota?: Quota | undefined;
}

/** Finds a user by its name. Services of the installation count as administrators. */
export type Users = (name: string) => Omit<Who, "name"> | undefined;

/** May do everything: on a server without users, and in this process itself. */
export const anybody: Who = { role: "admin" };

export function whoSent(
  asked: { inbox: string; header: (name: string) => string | undefined },
  users: Users | undefined,
): Who {
  if (users === undefined) return anybody;
  const name = senderIn(asked);
  // A user that this process does not know yet has the fewest rights of those that may send requests.
  return { name, ...(users(name) ?? { role: "worker" }) };
}

/** Only this user's leases may be used by the request. Undefined: all may. */
export function ownerFor({ name, role }: Who): string | undefined {
  return role === "admin" ? undefined : (name ?? "");
}

/** A pool as this user may see it. Only administrators see where tokens come from, since that may have secrets. */
export function shownTo({ role }: Who, pool: PoolReply): PoolReply {
  return role === "admin" ? pool : { ...pool, policy: withoutSource(pool.policy) };
}
