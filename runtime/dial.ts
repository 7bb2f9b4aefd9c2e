// One connection to NATS, made: with the login that its URL has, with encryption where the URL says tls://, and where it
// cannot be made, with the reason in words. It never says with which password.
import {
  AuthorizationError,
  type ConnectionOptions,
  connect,
  type NatsConnection,
  TimeoutError,
  UserAuthenticationExpiredError,
} from "@nats-io/transport-node";
import { Fault } from "./fault.ts";
import { hostsIn, maskedNatsUrl, readNatsUrl } from "./nats-url.ts";
import { trustIn } from "./tls.ts";

/** A machine that is too busy to log in in time is given so many tries. */
const dialsMax = 5;

export type DialOptions = Omit<ConnectionOptions, "servers" | "tls"> & {
  /** A file with what the connection trusts; else what the system does. */
  caFile: string | undefined;
  /** The sentence where nobody answers there, or what does is no NATS server that can be used. */
  nobody: (where: string, why: string) => string;
};

/** @throws Fault "retry-later" when nobody answers there, "fix-setup" when the login is wrong or has run out. */
export async function dial(url: string, { caFile, nobody, ...options }: DialOptions): Promise<NatsConnection> {
  const login = readNatsUrl(url);
  const isEncrypted = login.servers.some((server) => server.startsWith("tls://"));
  // Of its own accord the library follows a server that offers no TLS, and sends it the password.
  const tls = isEncrypted || caFile !== undefined ? trustIn(caFile, hostsIn(url)) : undefined;
  const where = maskedNatsUrl(url);
  for (let attempt = 1; ; attempt++) {
    try {
      // It captures a stack trace per request otherwise: a quarter of its time.
      return await connect({ ...login, ...(tls === undefined ? {} : { tls }), noAsyncTraces: true, ...options });
    } catch (cause) {
      const rejected = rejectionIn(cause);
      if (rejected === "late" && attempt < dialsMax) continue;
      if (rejected === "late") {
        const times = `${dialsMax} times: one of the two machines is too busy`;
        throw new Fault("retry-later", `NATS at ${where} has heard no login in its time, ${times}.`, { cause });
      }
      if (rejected !== undefined) throw new Fault("fix-setup", rejectedLogin(url, rejected), { cause });
      const why = whyNot(cause);
      if (!isAboutCertificate(cause)) throw new Fault("retry-later", nobody(where, why), { cause });
      throw new Fault(
        "fix-setup",
        `The certificate of NATS at ${where} is not trusted (${why.replace(/; if the root CA .*/, "")}). Set REMUDA_TLS_CA to a file ` +
          "with it, or with what it is signed by, and name the server as it does.",
        { cause },
      );
    }
  }
}

/** What a connection, or a question on one, failed with, in a few words. */
export function whyNot(cause: unknown): string {
  if (cause instanceof TimeoutError) return "it did not answer in time";
  return cause instanceof Error ? cause.message.replace(/\.$/, "") : "unknown";
}

function isAboutCertificate(cause: unknown): boolean {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_(GET|VERIFY)_|ERR_TLS_CERT_)/.test(code);
}

/**
 * The library has one error for a login that is wrong, for one that the server did not hear in its time (2 s), and for an
 * account's that has run out, and only the text to tell.
 */
function rejectionIn(cause: unknown): "late" | "expired" | "wrong" | undefined {
  if (cause instanceof UserAuthenticationExpiredError) return "expired";
  if (!(cause instanceof AuthorizationError)) return undefined;
  if (/authentication timeout/i.test(cause.message)) return "late";
  return /authentication expired/i.test(cause.message) ? "expired" : "wrong";
}

function rejectedLogin(url: string, rejected: "expired" | "wrong"): string {
  const { user, token } = readNatsUrl(url);
  const who =
    user !== undefined
      ? `the login of the user "${user}"`
      : token !== undefined
        ? "this token"
        : "a connection without user and password";
  const where = maskedNatsUrl(url);
  if (rejected === "expired")
    return `${who.replace(/^./, (letter) => letter.toUpperCase())} at ${where} has expired. Set REMUDA_NATS_URL to one that has not.`;
  return (
    `NATS at ${where} does not accept ${who}. Set REMUDA_NATS_URL to what "npx remuda env" prints where ` +
    "the service runs, or REMUDA_DATA_DIR (or REMUDA_NATS_USERS) to where its users file is."
  );
}
