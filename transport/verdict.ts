// Decides whose fault a failed request was, and whether it may be sent again. This depends on the phase in which it
// failed and on the route, not on the error code alone. docs/outcomes.md has this as a table, and a test compares them.
// On a route without TLS the bytes may come from the proxy, so bytes that are not HTTP count as the proxy's. With TLS
// they are the target's. A wrong answer that begins as HTTP is the target's on every route.
import type { Outcome } from "../protocol/wire.ts";
import { codeOf, type Phase, ProxyFailure, phaseOf, type Route, TargetNameFailure } from "./failure.ts";

/** `another`: another proxy may do better. `again`: once more on a new connection. `never`: it would not help. */
export type Next = "another" | "again" | "never";

/** Without a reason, the pool's policy interprets the code. */
export type Verdict = Pick<Outcome, "reason" | "error" | "status"> & { next: Next };

interface Rule {
  phases?: readonly Phase[];
  routes?: readonly Route[];
  codes: RegExp;
  reason?: NonNullable<Outcome["reason"]>;
  next: Next;
}

/** Mistakes of the request itself, and requests that this side has ended. */
const callers =
  /^(UND_ERR_INVALID_ARG|UND_ERR_NOT_SUPPORTED|UND_ERR_REQ_CONTENT_LENGTH_MISMATCH|UND_ERR_DESTROYED|ERR_NOT_ALLOWED)$/;
const certificate =
  /^(CERT_|CRL_|ERR_TLS_CERT_|ERROR_IN_C|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_(CA|PURPOSE)|PATH_LENGTH_|HOSTNAME_)/;
/** The first bytes of the other side are not TLS. */
const notTls = /^(EPROTO|ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|RECORD_LAYER_FAILURE))$/;
/** The first line is not that of an HTTP answer. */
const notHttp = /^HPE_INVALID_(CONSTANT|VERSION|STATUS)$/;
const wrongHttp = /^(HPE_|UND_ERR_HEADERS_OVERFLOW$)/;
/** Before the body begins, its length can only be wrong in the headers themselves. */
const wrongLength = /^UND_ERR_RES_CONTENT_LENGTH_MISMATCH$/;
const closed = /^(ECONNRESET|EPIPE|UND_ERR_SOCKET)$/;

/** The first one that fits applies. */
const rules: readonly Rule[] = [
  { codes: callers, reason: "client-abort", next: "never" },
  { phases: ["tls"], codes: certificate, reason: "target-error", next: "never" },
  { phases: ["tls"], codes: notTls, reason: "proxy-error", next: "another" },
  // A refusal of the target in TLS 1.3 may come after the client has finished its part.
  { phases: ["tls", "head"], codes: /^ERR_SSL_/, reason: "target-error", next: "never" },
  { phases: ["dial", "handshake", "tls"], codes: /./, next: "another" },
  { phases: ["reuse"], codes: /./, reason: "client-abort", next: "again" },
  { phases: ["head"], routes: ["forwarded", "tunnelled"], codes: notHttp, reason: "proxy-error", next: "another" },
  { phases: ["head"], codes: wrongHttp, reason: "target-error", next: "never" },
  { phases: ["head"], codes: wrongLength, reason: "target-error", next: "never" },
  { phases: ["head"], codes: closed, next: "another" },
  { phases: ["head"], codes: /^UND_ERR_HEADERS_TIMEOUT$/, next: "another" },
  { phases: ["body"], codes: /^UND_ERR_HEADERS_OVERFLOW$/, reason: "target-error", next: "never" },
  { phases: ["body"], routes: ["secure"], codes: wrongHttp, reason: "target-error", next: "never" },
  { codes: /./, next: "never" },
];

/** @param headed the head of the answer has arrived. */
export function verdictOf(error: Error, { route, headed }: { route: Route; headed: boolean }): Verdict {
  if (error instanceof ProxyFailure) {
    const status = error.proxyStatus === undefined ? {} : { status: error.proxyStatus };
    return { reason: error.reason, error: codeOf(error.cause) ?? error.code, ...status, next: "another" };
  }
  if (error instanceof TargetNameFailure) return { reason: "target-error", error: error.code, next: "never" };
  const code = codeOf(error);
  const phase = phaseOf(error) ?? (headed ? "body" : "head");
  const rule = rules.find(
    ({ phases = [phase], routes = [route], codes }) =>
      phases.includes(phase) && routes.includes(route) && codes.test(code ?? ""),
  );
  // Without a code it is an error of the caller's own, such as one thrown by its body.
  if (rule === undefined || code === undefined || rule.codes === callers)
    return headed ? { next: "never" } : { reason: "client-abort", next: "never" };
  return { ...(rule.reason === undefined ? {} : { reason: rule.reason }), error: code, next: rule.next };
}
