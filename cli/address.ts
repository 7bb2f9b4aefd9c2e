// Where the service of a data directory is reached. The service writes its address when it is ready, so that every
// other command finds it. REMUDA_NATS_URL overrides it. The written address has no login; logins are in the users file.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../runtime/config.ts";
import { replaceFile } from "../runtime/files.ts";
import { elsewhereOf, hereOf, inUrl } from "../runtime/host.ts";
import { hasLogin, readNatsUrl, withLogin } from "../runtime/nats-url.ts";
import { isOurLogin, natsUrlAs } from "./login.ts";

export interface Address {
  natsUrl: string;
  /** Absent: HTTP does not run, or its address is unknown. */
  httpUrl?: string;
  /** A file with the certificates that the connections trust. */
  tlsCa?: string;
}

const fileName = "address.json";

/** The hosts are those listened on. */
export function writeAddress(config: Config, address: Address): void {
  replaceFile(join(config.dataDir, fileName), `${JSON.stringify(address)}\n`);
}

export function removeAddress(config: Config): void {
  rmSync(join(config.dataDir, fileName), { force: true });
}

/**
 * As this machine reaches it. @param as the user to log in as. A login in REMUDA_NATS_URL that is not in our users file
 * takes precedence.
 */
export function findAddress(config: Config, as = "operator"): Address {
  const { natsUrl, ...rest } = addressHere(config);
  const isGiven = config.natsUrl !== undefined && hasLogin(config.natsUrl) && !isOurLogin(config, config.natsUrl);
  return { natsUrl: isGiven ? (config.natsUrl ?? natsUrl) : natsUrlAs(config, natsUrl, as), ...rest };
}

/** As other machines reach it (or at `host`), for another user. */
export function addressFor(config: Config, given: { as: string; host: string | undefined }): Address {
  const { natsUrl, httpUrl, tlsCa } = addressListened(config);
  const reach = (url: string): string => atHost(url, given.host === undefined ? elsewhereOf : () => given.host ?? "");
  const { user: name, pass: password } = readNatsUrl(natsUrlAs(config, atHost(natsUrl, hereOf), given.as));
  // If there is no other login, the one in REMUDA_NATS_URL stays.
  const theirs =
    name === undefined || password === undefined ? (config.natsUrl ?? natsUrl) : withLogin(natsUrl, { name, password });
  return {
    natsUrl: reach(theirs),
    ...(httpUrl === undefined ? {} : { httpUrl: reach(httpUrl) }),
    ...(tlsCa === undefined ? {} : { tlsCa }),
  };
}

function addressHere(config: Config): Address {
  const { natsUrl, httpUrl, tlsCa } = addressListened(config);
  return {
    natsUrl: atHost(natsUrl, hereOf),
    ...(httpUrl === undefined ? {} : { httpUrl: atHost(httpUrl, hereOf) }),
    ...(tlsCa === undefined ? {} : { tlsCa }),
  };
}

/** Without a login. */
function addressListened(config: Config): Address {
  const written = readAddress(config);
  const tlsCa = config.tlsCa ?? written?.tlsCa;
  const named = config.httpUrl === undefined ? {} : { httpUrl: config.httpUrl };
  const trusted = tlsCa === undefined ? {} : { tlsCa };
  if (config.natsUrl === undefined) {
    const scheme = config.tls === undefined ? "nats" : "tls";
    return { ...(written ?? { natsUrl: `${scheme}://${inUrl(config.natsHost)}:${config.natsPort}` }), ...trusted };
  }
  const natsUrl = readNatsUrl(config.natsUrl).servers.join(",");
  const isWritten = [hereOf, elsewhereOf, (host: string) => host].some(
    (reached) => written !== undefined && atHost(written.natsUrl, reached) === natsUrl,
  );
  return { ...(isWritten && written !== undefined ? written : { natsUrl, ...named }), ...trusted };
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
export function findLedger(config: Config): Address {
  return findAddress(config, "auditor");
}

function readAddress(config: Config): Address | undefined {
  try {
    const address = JSON.parse(readFileSync(join(config.dataDir, fileName), "utf8")) as Partial<Address>; // Written above.
    // If the file was changed by another program, it is ignored.
    return typeof address?.natsUrl === "string" ? { ...address, natsUrl: address.natsUrl } : undefined;
  } catch {
    return undefined;
  }
}
