// Answers of the gateway itself: their status, their JSON body, and `Proxy-Status` (docs/protocol.md §8.4, RFC 9209).
import { RemudaFault, RemudaRefusal } from "../../client/fault.ts";
import { Broken } from "../../client/port.ts";
import { invalid, type Refusal, refuse } from "../../protocol/refusal.ts";
import { codeOf, ProxyFailure, phaseOf, TargetNameFailure } from "../../transport/failure.ts";

export interface Answer {
  status: number;
  refusal: Refusal;
  /** A token of RFC 9209. */
  error: string;
  /** The reply code of SOCKS 5. */
  socks: number;
  /** The connection is closed after it. */
  isLast?: boolean;
}

const retryAfterMsDefault = 1000;

export function badRequest(refusal: Refusal): Answer {
  return { status: 400, refusal, error: "http_request_error", socks: 1 };
}

/** A request that cannot be read. @param code of the reader of HTTP. */
export function unreadable(code: string | undefined): Answer {
  const [status, message] =
    code === "HPE_HEADER_OVERFLOW"
      ? [431, "the head is longer than 64 KiB. Send fewer or shorter header fields"]
      : code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? [408, "the head did not come in time. Send it at once"]
        : [400, "it is not valid HTTP/1.1. Send it as RFC 9112 says"];
  return { ...badRequest(invalid("request", message)), status };
}

export function keyNeeded(): Answer {
  const field = "Proxy-Authorization";
  const message = `${field}: a key is needed here. Give a user's key as the password, or as the user name alone.`;
  return {
    status: 407,
    refusal: refuse("invalid-request", message, { field }),
    error: "http_request_denied",
    socks: 2,
  };
}

export function forbidden(message: string): Answer {
  return { status: 403, refusal: refuse("forbidden", message), error: "http_request_denied", socks: 2 };
}

export function tooManyConnections(user: string): Answer {
  const message = `${user} has as many connections as one user may have. Close some, or keep and reuse them.`;
  const refusal = refuse("overloaded", message, { retryAfterMs: retryAfterMsDefault });
  return { status: 503, refusal, error: "connection_limit_reached", socks: 1, isLast: true };
}

export function targetForbidden(message: string): Answer {
  return { ...forbidden(message), error: "destination_ip_prohibited" };
}

/** The answer for a request that failed before anything was relayed. */
export function answerTo(error: unknown): Answer {
  if (error instanceof RemudaRefusal) return refused(error);
  if (error instanceof RemudaFault) return faulty(error);
  if (error instanceof Broken) return faulty({ code: error.why, message: error.message });
  if (codeOf(error) === "ERR_NOT_ALLOWED") return targetForbidden(messageOf(error));
  const failed = failureOf(error);
  return { ...failed, refusal: refuse("unavailable", failed.message, { retryAfterMs: retryAfterMsDefault }) };
}

/** Header fields of the answer, besides those of its body. */
export function headersOf({ status, refusal, error }: Answer): Record<string, string> {
  const afterMs = refusal.retryAfterMs ?? retryAfterMsDefault;
  return {
    "content-type": "application/json; charset=utf-8",
    "proxy-status": `remuda; error=${error}; details="${refusal.code}"`,
    ...(status === 503 ? { "retry-after": String(Math.max(1, Math.ceil(afterMs / 1000))) } : {}),
    ...(status === 407 ? { "proxy-authenticate": 'Basic realm="remuda"' } : {}),
  };
}

export function bodyOf({ refusal }: Answer): string {
  return `${JSON.stringify(refusal)}\n`;
}

/** The whole answer, for a bare socket. */
export function textOf(answer: Answer, more: Record<string, string> = {}): string {
  const text = bodyOf(answer);
  const fields = { ...headersOf(answer), ...more, "content-length": String(Buffer.byteLength(text)) };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${answer.status} ${reasonOf(answer.status)}\r\n${lines.join("")}\r\n${text}`;
}

function reasonOf(status: number): string {
  const reasons: Readonly<Record<number, string>> = {
    400: "Bad Request",
    403: "Forbidden",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
  };
  return reasons[status] ?? "Error";
}

function refused(error: RemudaRefusal): Answer {
  const { code, message, retryAfterMs, field, limitedBy } = error;
  const rest = {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(field === undefined ? {} : { field }),
    ...(limitedBy === undefined ? {} : { limitedBy }),
  };
  const refusal = refuse(code, message, rest);
  switch (code) {
    case "invalid-request":
    case "too-large":
      return badRequest(refusal);
    case "forbidden":
      return { ...forbidden(message), refusal };
    case "unknown-pool":
      return { status: 502, refusal, error: "proxy_configuration_error", socks: 1 };
    case "pool-exhausted":
    case "overloaded":
      return { status: 503, refusal, error: "connection_limit_reached", socks: 1 };
    default:
      return { status: 503, refusal, error: "proxy_internal_error", socks: 1 };
  }
}

/** A bound of this gateway, or no service. */
function faulty({ code, message }: { code: string; message: string }): Answer {
  const isFull = code === "queue-full";
  const refusal = refuse(isFull ? "overloaded" : "unavailable", message, { retryAfterMs: retryAfterMsDefault });
  return { status: 503, refusal, error: isFull ? "connection_limit_reached" : "proxy_internal_error", socks: 1 };
}

type Failed = Pick<Answer, "status" | "error" | "socks"> & { message: string };

/**
 * Every try failed: 504 for a timeout, 502 for everything else. No vendor's own words and no addresses reach the
 * client.
 */
function failureOf(error: unknown): Failed {
  const code = codeOf(error) ?? "unknown";
  if (error instanceof TargetNameFailure)
    return { status: 502, error: "dns_error", socks: 4, message: "The target's name has no address." };
  if (error instanceof ProxyFailure && code === "ERR_PROXY") {
    const { proxyStatus, reason } = error;
    if (reason === "proxy-auth" || proxyStatus === 407)
      return failed("proxy_configuration_error", "The leased proxy does not accept its login.");
    const status = proxyStatus === undefined ? "" : ` with status ${proxyStatus}`;
    return failed("destination_unavailable", `The leased proxy refused the request${status}.`);
  }
  if (/TIMEOUT|ETIMEDOUT|TimeoutError/i.test(code)) {
    const isConnect = error instanceof Error && phaseOf(error) !== undefined;
    const token = isConnect ? "connection_timeout" : "http_response_timeout";
    return { ...failed(token, `No answer in time (${code}).`), status: 504 };
  }
  if (code === "ECONNREFUSED")
    return { ...failed("connection_refused", "The leased proxy refused the connection."), socks: 5 };
  if (/^HPE_/.test(code)) return failed("http_protocol_error", `The answer is not valid HTTP (${code}).`);
  if (/CERT|^ERR_(TLS|SSL)|SELF_SIGNED|^EPROTO$/.test(code))
    return failed("tls_protocol_error", `TLS failed (${code}).`);
  return failed("connection_terminated", `The connection through the leased proxy failed (${code}).`);
}

function failed(error: string, message: string): Failed {
  return { status: 502, error, socks: 4, message };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
