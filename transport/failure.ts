// Failures on the way through a proxy that undici has no error for.

/** A proxy failed before it contacted the target: its own answer, its TLS, or its SOCKS reply. */
export class ProxyFailure extends Error {
  override readonly name = "ProxyFailure";
  /** Never one of undici's own codes for a lost socket, because undici would then reconnect by itself. */
  readonly code = "ERR_PROXY";
  readonly reason: "proxy-auth" | "proxy-error";
  /** The proxy's own HTTP status, if it answered with one. */
  readonly proxyStatus: number | undefined;

  constructor(
    reason: "proxy-auth" | "proxy-error",
    message: string,
    more: { cause?: unknown; proxyStatus?: number } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.reason = reason;
    this.proxyStatus = more.proxyStatus;
  }
}

/** The target's name was looked up here, for a proxy that takes only addresses, and has none. No proxy is to blame. */
export class TargetNameFailure extends Error {
  override readonly name = "TargetNameFailure";
  readonly code = "ENOTFOUND";
}

/** The first code in a chain of causes. undici and fetch wrap the socket's error. */
export function codeOf(error: unknown): string | undefined {
  for (let inner = error, depth = 0; inner instanceof Error && depth < 8; inner = inner.cause, depth++) {
    if ("code" in inner && typeof inner.code === "string") return inner.code;
    if (inner.name === "AbortError" || inner.name === "TimeoutError") return inner.name;
  }
  return undefined;
}
