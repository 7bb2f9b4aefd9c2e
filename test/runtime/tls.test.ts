// How a connection checks its server: the certificate must have the name from the URL, even if that is an address.

import type { PeerCertificate } from "node:tls";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { trustIn } from "../../runtime/tls.ts";

const certificate = (subjectaltname: string) =>
  ({ subject: { CN: "x" }, subjectaltname }) as unknown as PeerCertificate;

/** As node:tls asks. For an address the NATS library passes no name, and "localhost" is checked. */
function errorOf(hosts: string[], name: string, subjectaltname: string): string | undefined {
  const { checkServerIdentity } = trustIn(undefined, hosts) as {
    checkServerIdentity(name: string, certificate: PeerCertificate): Error | undefined;
  };
  return checkServerIdentity(name, certificate(subjectaltname))?.message;
}

test.each([
  [["192.0.2.7"], "localhost", "IP Address:192.0.2.7", "trusted"],
  [["192.0.2.7"], "localhost", "DNS:localhost", "not trusted"],
  [["192.0.2.7"], "localhost", "IP Address:192.0.2.8", "not trusted"],
  [["2001:db8::7"], "localhost", "IP Address:2001:DB8:0:0:0:0:0:7", "trusted"],
  [["remuda.example"], "remuda.example", "DNS:remuda.example", "trusted"],
  [["remuda.example"], "remuda.example", "DNS:localhost, IP Address:192.0.2.7", "not trusted"],
  [["192.0.2.7", "remuda.example"], "remuda.example", "IP Address:192.0.2.7", "not trusted"],
  [["127.0.0.1"], "localhost", "DNS:remuda.example", "trusted"],
] as const)("at %s, asked for %s, a certificate for %s is %s", (hosts, name, names, how) => {
  const wrong = errorOf([...hosts], name, names);
  if (how === "trusted") expect(wrong).toBeUndefined();
  else expect(wrong).toMatch(/does not match certificate/);
});

test("names an invalid certificate file", () => {
  const here = fileURLToPath(import.meta.url);
  expect(() => trustIn("/nowhere.pem", [])).toThrow("REMUDA_TLS_CA names /nowhere.pem, which cannot be read (ENOENT)");
  expect(() => trustIn(here, [])).toThrow(`REMUDA_TLS_CA names ${here}, which does not hold a certificate in PEM`);
});
