// The hosts of a pool's targets, as a policy lists them: `example.com`, or `*.example.com` for every name below it.

/** Whether two pools may fetch from the same site. A pool without hosts may fetch from any. */
export function mayMeet(a: readonly string[], b: readonly string[]): boolean {
  if (a.length === 0 || b.length === 0) return true;
  return a.some((one) => b.some((other) => covers(one, other) || covers(other, one)));
}

/** `*.example.com` covers `www.example.com` and `*.eu.example.com`, and not `example.com`. */
function covers(pattern: string, host: string): boolean {
  if (!pattern.startsWith("*.")) return pattern === host;
  return pattern === host || host.replace(/^\*/, "").endsWith(pattern.slice(1));
}

/** The pool whose hosts name this host most exactly: the host itself, else the longest `*.…`. Undefined: none does. */
export function mostSpecific(
  host: string,
  pools: readonly { pool: string; hosts: readonly string[] }[],
): string | undefined {
  let best: { pool: string; length: number } | undefined;
  for (const { pool, hosts } of pools) {
    for (const pattern of hosts) {
      if (!covers(pattern, host)) continue;
      const length = pattern === host ? Number.POSITIVE_INFINITY : pattern.length;
      const isBetter = best === undefined || length > best.length || (length === best.length && pool < best.pool);
      if (isBetter) best = { pool, length };
    }
  }
  return best?.pool;
}
