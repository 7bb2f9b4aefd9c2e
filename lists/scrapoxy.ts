// `scrapoxy.json`, the store of Scrapoxy 4: projects with connectors. Only connectors of the type `freeproxies` hold
// proxies: lists that the user has pasted. Scrapoxy makes those of all other connectors itself, with the login of a
// cloud or a vendor. Nothing of the file but a connector's type is ever shown, because it is full of secrets.
import { isObject } from "./named.ts";

const freeProxies = "freeproxies";

/** Undefined if the document is not one of Scrapoxy. `why`: a connector without proxies is refused. */
export function scrapoxyEntries(document: unknown): ({ proxy: unknown } | { why: string })[] | undefined {
  if (!isObject(document)) return undefined;
  const projects = document["projects"];
  if (!Array.isArray(projects) || projects.length === 0 || !projects.every(isProject)) return undefined;
  return projects.flatMap(({ connectors }) => connectors).flatMap(entriesOf);
}

function isProject(value: unknown): value is { connectors: unknown[] } {
  return isObject(value) && Array.isArray(value["connectors"]);
}

function entriesOf(connector: unknown): ({ proxy: unknown } | { why: string })[] {
  if (!isObject(connector)) return [{ why: "is a connector of Scrapoxy that is not an object" }];
  const { type, freeproxies: proxies, sources } = connector;
  if (type !== freeProxies)
    return [{ why: `is a connector of Scrapoxy of the type ${shown(type)}, which holds no proxies (${elsewhere})` }];
  const given = Array.isArray(proxies) ? proxies.map((proxy) => ({ proxy })) : [];
  // A source's proxies are in the list as well, as they were at its last refresh.
  const isFollowing = Array.isArray(sources) && sources.length > 0 && given.length === 0;
  return isFollowing ? [{ why: followed }] : given;
}

const elsewhere = "add the list of your vendor instead";
const followed =
  'is a connector of Scrapoxy of the type "freeproxies", with sources and no proxies (add its sources with remuda sources put)';

/** A type of Scrapoxy's own form. Anything else might be a secret. */
function shown(type: unknown): string {
  return typeof type === "string" && /^[a-z]+(-[a-z]+){0,3}$/.test(type) && type.length <= 40 ? `"${type}"` : "***";
}
