// The head of an answer that came through a proxy: its facts about the use, and whether it is the proxy's own answer.
import type { Dispatcher } from "undici";
import { readRetryAfter } from "./classify.ts";
import { ProxyFailure } from "./failure.ts";

export interface Head {
  status: number;
  /** The proxy forwards such requests itself, so that an answer may be its own. */
  forwarded: boolean;
  /** The value of a header, by its name in lower case. */
  header: (name: string) => string | undefined;
}

export interface HeadFacts {
  status: number;
  retryAfterMs: number | undefined;
  /** The head says that a proxy made it (RFC 9209). */
  byProxy: boolean;
}

export function factsOf({ status, forwarded, header }: Head): HeadFacts {
  return {
    status,
    retryAfterMs: status === 429 || status === 503 ? readRetryAfter(header("retry-after")) : undefined,
    byProxy: forwarded && status >= 400 && /;\s*error=/i.test(header("proxy-status") ?? ""),
  };
}

/** A 407 on a forwarded request is the proxy's: no target asks for a proxy's login. */
export function loginRefused({ status, forwarded }: Pick<Head, "status" | "forwarded">): ProxyFailure | undefined {
  if (!forwarded || status !== 407) return undefined;
  return new ProxyFailure("proxy-auth", "The proxy answered 407.", { proxyStatus: status });
}

/** Names and values of a request's headers, in any of undici's forms. */
export function* headersOf(headers: Dispatcher.DispatchOptions["headers"]): Generator<[name: string, value: string]> {
  if (headers === null || headers === undefined) return;
  if (Array.isArray(headers) && typeof headers[0] === "string") {
    for (let i = 0; i + 1 < headers.length; i += 2) yield [String(headers[i]), String(headers[i + 1])];
    return;
  }
  const entries = Symbol.iterator in headers ? (headers as Iterable<[string, unknown]>) : Object.entries(headers);
  for (const [name, value] of entries)
    for (const each of Array.isArray(value) ? value : [value]) if (each !== undefined) yield [name, String(each)];
}

/** For undici's raw headers: alternating names and values. */
export function headerIn(raw: readonly Buffer[]): Head["header"] {
  return (name) => {
    for (let i = 0; i + 1 < raw.length; i += 2)
      if (raw[i]!.length === name.length && raw[i]!.toString("latin1").toLowerCase() === name)
        return raw[i + 1]!.toString("latin1"); // Both are there.
    return undefined;
  };
}
