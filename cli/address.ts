// The address of the service of a data directory. The service writes it when it is ready, so that every command finds
// it. REMUDA_NATS_URL overrides it. The written address has no login: logins are in the users file.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../runtime/config.ts";
import { resultOr } from "../runtime/fault.ts";
import { replaceFile } from "../runtime/files.ts";
import { elsewhereOf, hereOf, inUrl } from "../runtime/host.ts";
import { hasLogin, readNatsUrl, withLogin } from "../runtime/nats-url.ts";
import { isOurLogin, natsUrlAs } from "./login.ts";

export interface Address {
  natsUrl: string;
  /** Absent: HTTP does not run, or its address is unknown. */
  httpUrl?: string | undefined;
  gatewayUrl?: string | undefined;
  /** A file with the certificates that the connections trust. */
  tlsCa?: string | undefined;
}

/** `archiveFolder`: the archive of this machine. */
export type LedgerAddress = Address & { archiveFolder: string };

const fileName = "address.json";

/** The hosts are those listened on. */
export function writeAddress(config: Config, address: Address): void {
  replaceFile(join(config.dataDir, fileName), `${JSON.stringify(address)}\n`);
}

export function removeAddress(config: Config): void {
  rmSync(join(config.dataDir, fileName), { force: true });
}

/**
 * The address as this machine reaches it.
 * @param as the user to log in as, unless REMUDA_NATS_URL has a login that is not in the users file here.
 */
export function findAddress(config: Config, as = "operator"): Address {
  const { natsUrl, ...rest } = addressHere(config);
  const isGiven = config.natsUrl !== undefined && hasLogin(config.natsUrl) && !isOurLogin(config, config.natsUrl);
  return { natsUrl: isGiven ? (config.natsUrl ?? natsUrl) : natsUrlAs(config, natsUrl, as), ...rest };
}

/** The address as other machines reach it, for another user. `host` replaces the name of this machine. */
export function addressFor(config: Config, given: { as: string; host: string | undefined }): Address {
  const { natsUrl, httpUrl, gatewayUrl, tlsCa } = addressListened(config);
  const reach = (url: string): string => atHost(url, given.host === undefined ? elsewhereOf : () => given.host ?? "");
  const { user: name, pass: password } = readNatsUrl(natsUrlAs(config, atHost(natsUrl, hereOf), given.as));
  // If there is no other login, the one in REMUDA_NATS_URL stays.
  const theirs =
    name === undefined || password === undefined ? (config.natsUrl ?? natsUrl) : withLogin(natsUrl, { name, password });
  return {
    natsUrl: reach(theirs),
    httpUrl: httpUrl && reach(httpUrl),
    gatewayUrl: gatewayUrl && reach(gatewayUrl),
    tlsCa,
  };
}

function addressHere(config: Config): Address {
  const { natsUrl, httpUrl, tlsCa } = addressListened(config);
  return { natsUrl: atHost(natsUrl, hereOf), httpUrl: httpUrl && atHost(httpUrl, hereOf), tlsCa };
}

/** Without a login. */
function addressListened(config: Config): Address {
  const written = readAddress(config);
  const tlsCa = config.tlsCa ?? written?.tlsCa;
  if (config.natsUrl === undefined) {
    const scheme = config.tls === undefined ? "nats" : "tls";
    return { ...(written ?? { natsUrl: `${scheme}://${inUrl(config.natsHost)}:${config.natsPort}` }), tlsCa };
  }
  const natsUrl = readNatsUrl(config.natsUrl).servers.join(",");
  const isWritten = [hereOf, elsewhereOf, (host: string) => host].some(
    (reached) => written !== undefined && atHost(written.natsUrl, reached) === natsUrl,
  );
  return { ...(isWritten && written !== undefined ? written : { natsUrl, httpUrl: config.httpUrl }), tlsCa };
}

/** Maps each server's host with `reached`. */
export function atHost(url: string, reached: (host: string) => string): string {
  return url
    .split(",")
    .map((each) =>
      each.replace(
        /^(\w+:\/\/(?:.*@)?)(\[[^\]]*\]|[^:/@]*)/,
        (_all, before: string, host: string) => before + inUrl(reached(host.replace(/^\[|\]$/g, ""))),
      ),
    )
    .join(",");
}

/** The address for reading ledgers. A reader needs an auditor's rights, and no others. */
export function findLedger(config: Config): LedgerAddress {
  return { ...findAddress(config, "auditor"), archiveFolder: config.archive };
}

function readAddress(config: Config): Address | undefined {
  const text = resultOr(() => readFileSync(join(config.dataDir, fileName), "utf8"), "");
  const address = resultOr(() => JSON.parse(text) as Partial<Address> | null, null); // Written above.
  // If another program changed the file, it is ignored.
  return typeof address?.natsUrl === "string" ? { ...address, natsUrl: address.natsUrl } : undefined;
}
