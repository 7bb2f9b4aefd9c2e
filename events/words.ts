// Words and forms that need no schema. The command line uses them without the schemas, which would take longer to load
// than everything else that a command needs.

/** Of a pool's name. */
export const poolNamePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;

export const proxyStates = ["available", "in-use", "cooling", "exhausted", "retired"] as const;

export const schemes = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"] as const;
/** For all entries of a list that name none. `socks` means socks5. */
export const listSchemes = [...schemes, "socks"] as const;

/** The classes of outcomes that are not a success. */
export const reasons = [
  "unreachable",
  "timeout",
  "proxy-auth",
  "proxy-error",
  "blocked",
  "throttled",
  "target-error",
  "client-abort",
] as const;

/**
 * How the gateway counts a use: a request that it saw, a flight in a tunnel, a flight in a tunnel that may carry
 * HTTP/2, or the whole tunnel.
 */
export const waysCounted = ["request", "flight", "estimate", "tunnel"] as const;

/** A moment as one number: from here on it is epoch milliseconds (1973 and later), else a sequence in a stream. */
export const timesFrom = 1e11;
