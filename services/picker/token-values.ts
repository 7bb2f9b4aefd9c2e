// The values of guest tokens, in the sealed bucket. Each is stored under the id of the refresh that brought it. The
// name of the refresh's executor is stored beside it.
import type { Secrets } from "../../runtime/secrets.ts";
import type { StoredToken } from "../../state-machines/command.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { isGood } from "../../state-machines/rules/token.ts";

/** The stored form of a token. `expiresAt` is in the pool's time, by any leader that mints it. */
export interface StoredValue extends StoredToken {
  value: string;
}

/** The bucket key for the executor of a refresh. */
export const takenBy = (tokenId: string): string => `taken_${tokenId}`;

export function storedValue(secrets: Pick<Secrets, "get">, tokenId: string): StoredValue | undefined {
  const text = secrets.get(tokenId);
  return text === undefined ? undefined : (JSON.parse(text) as StoredValue); // The type in which it was stored.
}

/** Before a new leader serves: finds values that others stored, and did not tell, before the claim. */
export async function lookUpTokens(secrets: Pick<Secrets, "look">, state: PoolState): Promise<void> {
  const ids = [...state.tokens.values()].flatMap((token) => {
    const { refresh } = token;
    const fetched = refresh === null ? [] : [refresh.tokenId, takenBy(refresh.tokenId)];
    return isGood(state, token) ? [token.tokenId, ...fetched] : fetched;
  });
  const given = [...state.leases.values()].flatMap(({ token }) => (token === null ? [] : [token.tokenId]));
  await secrets.look([...new Set([...ids, ...given])]);
}

/** Stored values of tokens that are current or being fetched. */
export function storedTokens(secrets: Pick<Secrets, "get">, state: PoolState): Map<string, StoredToken> {
  const stored = new Map<string, StoredToken>();
  for (const { tokenId, refresh } of state.tokens.values()) {
    for (const id of [tokenId, refresh?.tokenId ?? ""]) {
      const value = storedValue(secrets, id);
      if (value !== undefined) stored.set(id, value);
    }
  }
  return stored;
}

/**
 * Which stored values are wanted: those of tokens that are current, being fetched, or given with open leases, and their
 * executors.
 */
export function wantedTokens(state: PoolState): (id: string) => boolean {
  const wanted = new Set<string>();
  for (const { tokenId, refresh } of state.tokens.values()) {
    wanted.add(tokenId);
    if (refresh !== null) wanted.add(refresh.tokenId).add(takenBy(refresh.tokenId));
  }
  for (const { token } of state.leases.values()) if (token !== null) wanted.add(token.tokenId);
  return (id) => wanted.has(id);
}
