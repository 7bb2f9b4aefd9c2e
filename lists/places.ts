// A proxy's place and its exit, from vendors' fields: the labels `country`, `city` and `exit`.

import { canonicalHost, isLiteralAddress } from "../protocol/host.ts";
import { type Fields, fieldsOf, hasAny, isObject } from "./named.ts";

const countryCodeNames = ["countrycode", "countryiso", "countryisocode", "isocode", "iso", "cc", "code"];
const countryNames = ["country", "countryname"];
const cityNames = ["city", "cityname"];
/** Names of the fields that hold a proxy's place. The entry itself is searched first. */
const placeNames = ["geolocation", "geo", "geoip", "location", "ipdata", "ipinfo"];
export const placeColumns = [...countryCodeNames, ...countryNames, ...cityNames];
export const placeKeys = new Set([...placeColumns, ...placeNames]);

const nothing = /^(n\/?a|none|null|unknown|undefined)$/i;

export function placeLabels(fields: Fields): Record<string, string> {
  if (!hasAny(fields, placeKeys)) return {};
  const places = [fields];
  for (const name of placeNames) {
    const place = fields.get(name);
    if (isObject(place)) places.push(fieldsOf(Object.entries(place)));
  }
  const countries = places.flatMap((place) => [
    ...named(place, countryCodeNames, { isCode: true }),
    ...named(place, countryNames),
  ]);
  const country = countries.find((each) => /^[a-z]{2}$/i.test(each)) ?? countries[0];
  const city = places.flatMap((place) => named(place, cityNames))[0];
  return { ...(country !== undefined && { country }), ...(city !== undefined && { city }) };
}

/** The place's value under these names: a text, or an object such as {"iso_code": "DE", "names": {"en": "Germany"}}. */
function named(place: Fields, names: readonly string[], { isCode = false } = {}): string[] {
  return names.flatMap((name): string[] => {
    const value = place.get(name);
    if (typeof value === "string") {
      const word = value.trim();
      return (isCode ? /^[a-z]{2}$/i.test(word) : /\p{L}/u.test(word) && !nothing.test(word)) ? [word] : [];
    }
    if (isCode || !isObject(value)) return [];
    const inner = fieldsOf(Object.entries(value));
    const translated = inner.get("names");
    const english = isObject(translated) ? fieldsOf(Object.entries(translated)) : new Map();
    return [...named(inner, countryCodeNames, { isCode: true }), ...named(inner, ["name"]), ...named(english, ["en"])];
  });
}

/** Limits are counted by this label, so `exit_ip` must be an address. Entries that say "n/a" do not share one exit. */
export function exitLabel(fields: Fields): Record<string, string> {
  const address = fields.get("exitip");
  const host = typeof address === "string" ? canonicalHost(address.trim()) : undefined;
  if (host !== undefined && isLiteralAddress(host)) return { exit: host };
  const name = fields.get("exit");
  if (typeof name !== "string" || nothing.test(name.trim())) return {};
  return { exit: canonicalHost(name.trim()) ?? name };
}
