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
