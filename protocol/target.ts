// The target of a use: a URL or a host as workers write it. Only the host is kept, because paths, queries and user
// names may contain secrets that must not be in a ledger.

export const targetCharsMax = 2048;

/** The host, in lower case and without a port. Undefined if the text has no valid host. */
export function hostOf(target: string | undefined): string | undefined {
  const host = target
    ?.replace(/^[a-z][a-z0-9+.-]*:\/\//i, "")
    .replace(/[/?#].*$/s, "")
    .replace(/^.*@/s, "")
    .replace(/:\d+$/, "")
    .toLowerCase();
  return host !== undefined && /^(\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})$/.test(host) ? host : undefined;
}
