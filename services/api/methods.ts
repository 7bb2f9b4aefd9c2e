// Which methods a path accepts. A request to a known path with another method is answered with `Allow` (RFC 9110).
import type { Api } from "./request.ts";

/**
 * Call this before the routes are made: it listens for them.
 * @returns a function that gives the methods of the routes that a path matches; none if there is no such path.
 */
export function methodsByPath(api: Api): (path: string) => string[] {
  const methods = new Map<string, { pattern: RegExp; methods: Set<string> }>();
  api.addHook("onRoute", ({ url, method }) => {
    const known = methods.get(url) ?? { pattern: patternOf(url), methods: new Set() };
    for (const each of [method].flat()) known.methods.add(each);
    methods.set(url, known);
  });
  return (path) => {
    const matching = [...methods.values()].filter(({ pattern }) => pattern.test(path));
    return [...new Set(matching.flatMap((each) => [...each.methods]))].sort();
  };
}

/** `/v1/pools/:pool` matches one segment there, and `*` anything. */
function patternOf(url: string): RegExp {
  const segments = url.split("/").map((segment) => {
    if (segment.startsWith(":")) return "[^/]+";
    return segment === "*" ? ".*" : segment.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  });
  return new RegExp(`^${segments.join("/")}$`);
}
