// Hosts to listen on, and the names under which this machine and others reach them.
import { hostname, networkInterfaces } from "node:os";

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

function isWildcard(host: string): boolean {
  return ["0.0.0.0", "::", "[::]"].includes(host);
}

/** Where this machine reaches a listener on `host`. */
export function hereOf(host: string): string {
  if (!isWildcard(host)) return host;
  return host === "0.0.0.0" ? "127.0.0.1" : "::1";
}

/** Where others may reach it: the first address that is not loopback, else the machine's name. */
export function elsewhereOf(host: string): string {
  if (!isWildcard(host)) return host;
  const others = ownAddresses().filter((address) => !isLoopback(address) && !address.startsWith("fe80:"));
  return others.find((address) => !address.includes(":")) ?? others[0] ?? hostname();
}

export function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => address));
}

/** The host as written in a URL. */
export function inUrl(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}
