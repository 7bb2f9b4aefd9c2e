// Makes one connection to NATS, with the login from its URL, and with encryption if the URL says tls://. If it fails,
// the error gives the reason in words. It never shows the password.
import {
  AuthorizationError,
  type ConnectionOptions,
  connect,
  type NatsConnection,
  TimeoutError,
  UserAuthenticationExpiredError,
} from "@nats-io/transport-node";
import { Fault } from "./fault.ts";
import { endWhenStale } from "./half-open.ts";
import { hostsIn, maskedNatsUrl, readNatsUrl } from "./nats-url.ts";
import { trustIn } from "./tls.ts";

/** How often to try if the machine is too busy to log in in time. */
const dialsMax = 5;

export type DialOptions = Omit<ConnectionOptions, "servers" | "tls"> & {
  /** A file with the trusted certificates. If absent, the system's are trusted. */
  caFile: string | undefined;
  /** The sentence for an address where no usable NATS server answers. */
  unanswered: (where: string, why: string) => string;
};

/** @throws Fault "retry-later" if no server answers there, "fix-setup" if the login is wrong or has expired. */
export async function dial(url: string, { caFile, unanswered, ...options }: DialOptions): Promise<NatsConnection> {
  const login = readNatsUrl(url);
  const isEncrypted = login.servers.some((server) => server.startsWith("tls://"));
  // By default the library accepts a server that offers no TLS, and sends it the password.
  const tls = isEncrypted || caFile !== undefined ? trustIn(caFile, hostsIn(url)) : undefined;
  const where = maskedNatsUrl(url);
  for (let attempt = 1; ; attempt++) {
    try {
      // Otherwise it captures a stack trace per request, which takes a quarter of its time.
      const nc = await connect({ ...login, ...(tls === undefined ? {} : { tls }), noAsyncTraces: true, ...options });
      void endWhenStale(nc);
      return nc;
    } catch (cause) {
      const rejected = rejectionIn(cause);
      if (rejected === "late" && attempt < dialsMax) continue;
      if (rejected === "late") {
        const times = `${dialsMax} times: one of the two machines is too busy`;
        throw new Fault("retry-later", `NATS at ${where} received no login in time, ${times}.`, { cause });
      }
      if (rejected !== undefined) throw new Fault("fix-setup", rejectedLogin(url, rejected), { cause });
      const why = whyNot(cause);
      if (!isAboutCertificate(cause)) throw new Fault("retry-later", unanswered(where, why), { cause });
      throw new Fault(
        "fix-setup",
        `The certificate of NATS at ${where} is not trusted (${why.replace(/; if the root CA .*/, "")}). Set REMUDA_TLS_CA to a file ` +
          "with it, or with the authority that signed it, and use the server's name that is in it.",
        { cause },
      );
    }
  }
}

/** Why a connection, or a request on it, failed, in a few words. */
export function whyNot(cause: unknown): string {
  if (cause instanceof TimeoutError) return "it did not answer in time";
  return cause instanceof Error ? cause.message.replace(/\.$/, "") : "unknown";
}

function isAboutCertificate(cause: unknown): boolean {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_(GET|VERIFY)_|ERR_TLS_CERT_)/.test(code);
}

/**
 * The library has one error for three cases: a wrong login, a login that the server did not read in time (2 s), and an
 * expired login of an account. Only the text tells them apart.
 */
function rejectionIn(cause: unknown): "late" | "expired" | "wrong" | undefined {
  if (cause instanceof UserAuthenticationExpiredError) return "expired";
  if (!(cause instanceof AuthorizationError)) return undefined;
  if (/authentication timeout/i.test(cause.message)) return "late";
  return /authentication expired/i.test(cause.message) ? "expired" : "wrong";
}

function rejectedLogin(url: string, rejected: "expired" | "wrong"): string {
  const { user, token } = readNatsUrl(url);
  const login =
    user !== undefined
      ? `the login of the user "${user}"`
      : token !== undefined
        ? "this token"
        : "a connection without user and password";
  const where = maskedNatsUrl(url);
  if (rejected === "expired")
    return `${login.replace(/^./, (letter) => letter.toUpperCase())} at ${where} has expired. Set REMUDA_NATS_URL to a valid one.`;
  return (
    `NATS at ${where} does not accept ${login}. Set REMUDA_NATS_URL to the URL that "npx remuda env" prints where ` +
    "the service runs, or REMUDA_DATA_DIR (or REMUDA_NATS_USERS) to the place of its users file."
  );
}
