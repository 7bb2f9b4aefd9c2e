// TLS by path: a certificate and its key for our listeners, and the certificates that our connections trust.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import type { TlsOptions } from "@nats-io/transport-node";
import { codeOf, Fault } from "./fault.ts";
import { isLoopback } from "./host.ts";

/** @throws Fault "fix-setup" if a file cannot be read, or the certificate and the key do not match. */
export function readTls(paths: { readonly cert: string; readonly key: string }): { cert: string; key: string } {
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

/**
 * How a connection checks its server. @param ca a file; undefined: the system's certificates. @param hosts of its URL.
 */
export function trustIn(ca: string | undefined, hosts: readonly string[]): TlsOptions {
  const options = {
    // On loopback there is no one in between, and certificates are issued for the name that other machines use.
    checkServerIdentity: hosts.every(isLoopback) ? () => undefined : identityOf(hosts),
    // The file may hold the server's certificate itself, whichever authority signed it.
    ...(ca === undefined ? {} : { ca: readCa(ca), allowPartialTrustChain: true }),
  };
  return options; // The library passes unknown options to node:tls.
}

/**
 * If the URL names the server by its address, the library does not tell node:tls, which then checks for "localhost".
 */
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
    throw new Fault("fix-setup", `${variable} names ${path}, which cannot be read (${codeOf(cause)})`, { cause });
  }
}

function parsed<T>(variable: string, path: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch {
    // Without its cause, which may quote the key.
    throw new Fault("fix-setup", `${variable} names ${path}, which does not hold a ${what}`);
  }
}
