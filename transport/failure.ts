// Failures on the way through a proxy: those without an error in undici, and the phase in which a request failed.

/**
 * `dial`: no connection to the proxy. `handshake`: TLS to the proxy, CONNECT or SOCKS. `tls`: TLS to the target. Until
 * then nothing of the request has been sent. `head`: before the answer's head. `body`: after it. `reuse`: a kept
 * connection broke before any byte of the answer.
 */
export type Phase = "dial" | "handshake" | "tls" | "head" | "body" | "reuse";

/** Through a forwarding proxy, through a tunnel in plain text, or through a tunnel with TLS to the target. */
export type Route = "forwarded" | "tunnelled" | "secure";

const phases = new WeakMap<Error, Phase>();

/** Notes the phase of an error. The first note stands. */
export function failedIn<E extends Error>(phase: Phase, error: E): E {
  if (!phases.has(error)) phases.set(error, phase);
  return error;
}

/** Undefined if no phase was noted: the error came on an open connection, or before any. */
export function phaseOf(error: Error): Phase | undefined {
  return phases.get(error);
}

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

/**
 * The target's name was looked up here, for a proxy that takes only addresses, and has no address. No proxy is to
 * blame.
 */
export class TargetNameFailure extends Error {
  override readonly name = "TargetNameFailure";
  readonly code = "ENOTFOUND";
}

/** The first code in a chain of causes. undici and fetch wrap the socket's error. */
export function codeOf(error: unknown): string | undefined {
  for (let inner = error, depth = 0; inner instanceof Error && depth < 8; inner = inner.cause, depth++) {
    if ("code" in inner && typeof inner.code === "string") return inner.code;
    if (inner.name === "HTTPParserError") return parserCode(inner.message);
    if (inner.name === "AbortError" || inner.name === "TimeoutError") return inner.name;
  }
  return undefined;
}

/** The other side has closed the connection. */
export function isLost(error: Error): boolean {
  return ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"].includes(codeOf(error) ?? "");
}

/** undici's parser describes an error only in words. These are the codes that Node has for them. */
const parserCodes: readonly [words: RegExp, code: string][] = [
  [/Expected HTTP\//, "HPE_INVALID_CONSTANT"],
  [/Invalid HTTP version/, "HPE_INVALID_VERSION"],
  [/Invalid (status code|response status)/, "HPE_INVALID_STATUS"],
  [/chunk/i, "HPE_INVALID_CHUNK_SIZE"],
];

function parserCode(message: string): string {
  return parserCodes.find(([words]) => words.test(message))?.[1] ?? "HPE_INVALID_HEADER_TOKEN";
}
