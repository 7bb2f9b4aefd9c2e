// TLS by path: a certificate and its key for what listens here, and what those trust who connect.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import type { TlsOptions } from "@nats-io/transport-node";
import { Fault } from "./fault.ts";
import { isLoopback } from "./host.ts";

export interface TlsPaths {
  readonly cert: string;
  readonly key: string;
}

/** @throws Fault "fix-setup" where a file cannot be read, or the two do not belong together. */
export function readTls(paths: TlsPaths): { cert: string; key: string } {
  const cert = readPem("REMUDA_TLS_CERT", paths.cert);
  const key = readPem("REMUDA_TLS_KEY", paths.key);
  const certificate = parsed("REMUDA_TLS_CERT", paths.cert, "certificate in PEM", () => new X509Certificate(cert));
  const privateKey = parsed("REMUDA_TLS_KEY", paths.key, "private key in PEM, without a passphrase", () =>
    createPrivateKey(key),
  );
  if (certificate.checkPrivateKey(privateKey)) return { cert, key };
  throw new Fault(
    "fix-setup",
    `REMUDA_TLS_KEY (${paths.key}) is not the key of the certificate that REMUDA_TLS_CERT names (${paths.cert})`,
  );
}

/** How a connection judges its server. @param ca a file; undefined: what the system trusts. @param hosts those of its URL. */
export function trustIn(ca: string | undefined, hosts: readonly string[]): TlsOptions {
  const options = {
    // On loopback there is nobody in between, and certificates are made out to a name that others use.
    checkServerIdentity: hosts.every(isLoopback) ? () => undefined : identityOf(hosts),
    // The certificate itself may be named, whoever signed it.
    ...(ca === undefined ? {} : { ca: readCa(ca), allowPartialTrustChain: true }),
  };
  return options; // What the library does not know it hands on to node:tls.
}

/** Of a server that the URL names by its address the library does not tell node:tls, which then looks for "localhost". */
function identityOf(hosts: readonly string[]): typeof checkServerIdentity {
  const addresses = hosts.filter((host) => isIP(host) !== 0 || host === "localhost");
  return (name, certificate) => {
    const names = name === "localhost" && addresses.length > 0 ? addresses : [name];
    const errors = names.map((each) => checkServerIdentity(each, certificate));
    return errors.includes(undefined) ? undefined : errors[0];
  };
}

function readCa(path: string): string {
  const pem = readPem("REMUDA_TLS_CA", path);
  parsed("REMUDA_TLS_CA", path, "certificate in PEM", () => new X509Certificate(pem));
  return pem;
}

function readPem(variable: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new Fault("fix-setup", `${variable} names ${path}, which cannot be read (${code})`, { cause });
  }
}

function parsed<T>(variable: string, path: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch {
    // Without its cause, which may quote the key.
    throw new Fault("fix-setup", `${variable} names ${path}, which holds no ${what}`);
  }
}
