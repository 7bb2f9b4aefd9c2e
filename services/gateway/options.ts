// The options of a request, as its user name and its headers have them (docs/protocol.md §8.2). A user name is
// `[<name>][-<option>-<value>]…`, and a value runs to the next `-<option>-`. Headers win over the user name.
import type { Labels } from "../../events/ids.ts";
import type { Scheme } from "../../events/proxy.ts";
import { poolNamePattern, schemes } from "../../events/words.ts";
import { waitMsMax } from "../../protocol/lease.ts";
import { invalid, type Refusal } from "../../protocol/refusal.ts";

export interface Options {
  pool?: string;
  session?: string;
  /** How long the session lives without a use. */
  ttlMs?: number;
  labels: Labels;
  scheme?: Scheme;
  /** A proxy's id. */
  proxy?: string;
  /** How many uses a tunnel may make. */
  uses?: number;
  waitMs: number;
  /** Further proxies to try. */
  retries: number;
}

const waitMsDefault = 10_000;
const retriesDefault = 2;
const retriesMax = 5;
const usesMax = 999_999;
const ttlSecondsMax = 9_999_999;

const names = [
  "pool",
  "session",
  "ttl",
  "country",
  "city",
  "label",
  "scheme",
  "proxy",
  "uses",
  "wait",
  "retries",
] as const;
type Name = (typeof names)[number];

interface Given {
  name: Name;
  value: string;
  /** As the sender wrote it, for messages. */
  field: string;
}

/** @param headers names and values in turn, as they were sent. */
export function readOptions(
  username: string,
  headers: readonly string[] = [],
): { options: Options } | { refusal: Refusal } {
  const inName = givenInName(username);
  if ("refusal" in inName) return inName;
  const inHeaders = givenInHeaders(headers);
  if ("refusal" in inHeaders) return inHeaders;
  const fromName = readGiven(inName.given);
  if ("refusal" in fromName) return fromName;
  const fromHeaders = readGiven(inHeaders.given);
  if ("refusal" in fromHeaders) return fromHeaders;
  const labels = { ...fromName.options.labels, ...fromHeaders.options.labels };
  const options = { ...defaults, ...fromName.options, ...fromHeaders.options, labels };
  if (options.proxy !== undefined && options.session !== undefined)
    return { refusal: invalid("proxy", "a session has its own proxy. Give one of the two") };
  if (options.ttlMs !== undefined && options.session === undefined)
    return { refusal: invalid("ttl", "is the lifetime of a session. Give the session as well") };
  return { options };
}

/** Without its options: `alice-session-a1` is `alice`. */
export function nameIn(username: string): string {
  const [first] = marksIn(username);
  return first === undefined ? username : username.slice(0, first.at);
}

export function isOption(header: string): boolean {
  return header.toLowerCase().startsWith(headerPrefix);
}

const mark = new RegExp(`(^|-)(${names.join("|")})-`, "g");
const headerPrefix = "x-remuda-";
const defaults = { waitMs: waitMsDefault, retries: retriesDefault };

interface Mark {
  name: Name;
  /** The places at which the option, with its hyphen, and its value begin. */
  at: number;
  valueAt: number;
}

function marksIn(username: string): Mark[] {
  const marks: Mark[] = [];
  for (const found of username.matchAll(mark)) {
    const valueAt = found.index + found[0].length;
    marks.push({ name: found[2] as Name, at: found.index, valueAt }); // One of the names in the pattern.
  }
  return marks;
}

function givenInName(username: string): { given: Given[] } | { refusal: Refusal } {
  const marks = marksIn(username);
  const given: Given[] = [];
  for (const [place, { name, valueAt }] of marks.entries()) {
    const text = username.slice(valueAt, marks[place + 1]?.at);
    const value = decoded(text);
    if (value === undefined)
      return { refusal: invalid(name, "a % must begin a percent-encoded character. Write %25 for the sign itself") };
    given.push({ name, value, field: name });
  }
  return { given };
}

function givenInHeaders(headers: readonly string[]): { given: Given[] } | { refusal: Refusal } {
  const given: Given[] = [];
  for (let place = 0; place + 1 < headers.length; place += 2) {
    const field = headers[place] ?? "";
    if (!isOption(field)) continue;
    const word = field.slice(headerPrefix.length).toLowerCase();
    const name = names.find((each) => each === word);
    if (name === undefined) return { refusal: invalid(field, `is not an option. Options are ${names.join(", ")}`) };
    given.push({ name, value: (headers[place + 1] ?? "").trim(), field });
  }
  return { given };
}

type Read = Partial<Omit<Options, "labels">> & { labels: Labels };

function readGiven(given: readonly Given[]): { options: Read } | { refusal: Refusal } {
  const options: Read = { labels: {} };
  const seen = new Set<Name>();
  for (const each of given) {
    const { name, value, field } = each;
    if (name !== "label" && seen.has(name)) return { refusal: invalid(field, "was given twice. Give it once") };
    seen.add(name);
    if (value === "") return { refusal: invalid(field, "is empty. Give it a value") };
    const why = readOne(each, options);
    if (why !== undefined) return { refusal: invalid(field, why) };
  }
  return { options };
}

/** @returns the error in the value, as the end of a sentence. */
function readOne({ name, value, field }: Given, options: Read): string | undefined {
  switch (name) {
    case "pool":
      if (!poolNamePattern.test(value)) return "must match [a-z0-9][a-z0-9-]{0,62}";
      options.pool = value;
      return undefined;
    case "session":
      if (value.length > 128 || /[\p{Cc}\p{Cs}]/u.test(value)) return "must have 1 to 128 printable characters";
      options.session = value;
      return undefined;
    case "ttl":
      if (!/^[1-9]\d{0,6}$/.test(value)) return `must be whole seconds from 1 to ${ttlSecondsMax}`;
      options.ttlMs = Number(value) * 1000;
      return undefined;
    case "country":
    case "city":
      return addLabel(options.labels, name, value);
    case "label": {
      const at = value.indexOf(field === name ? "_" : "=");
      if (at < 1) return field === name ? "must be key_value" : "must be key=value";
      return addLabel(options.labels, value.slice(0, at).trim(), value.slice(at + 1).trim());
    }
    case "scheme": {
      const scheme = schemes.find((each) => each === value);
      if (scheme === undefined) return `must be one of ${schemes.join(", ")}`;
      options.scheme = scheme;
      return undefined;
    }
    case "proxy":
      if (!/^p_\w[\w-]{0,125}$/.test(value)) return "must be a proxy's id, such as p_0123456789abcdef";
      options.proxy = value;
      return undefined;
    case "uses":
      if (!/^[1-9]\d{0,5}$/.test(value)) return `must be a whole number from 1 to ${usesMax}`;
      options.uses = Number(value);
      return undefined;
    case "wait": {
      const seconds = /^\d{1,2}(\.\d{1,3})?$/.test(value) ? Number(value) : Number.POSITIVE_INFINITY;
      if (seconds * 1000 > waitMsMax) return `must be seconds from 0 to ${waitMsMax / 1000}`;
      options.waitMs = Math.round(seconds * 1000);
      return undefined;
    }
    case "retries":
      if (!/^\d$/.test(value) || Number(value) > retriesMax) return `must be a whole number from 0 to ${retriesMax}`;
      options.retries = Number(value);
      return undefined;
  }
}

function addLabel(labels: Labels, key: string, value: string): string | undefined {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$/.test(key) || key === "__proto__")
    return "a label's name has 1 to 64 letters, digits, _ . : -";
  if (value === "" || value.length > 256 || /[\p{Cc}\p{Cs}]/u.test(value))
    return "a label's value has 1 to 256 printable characters";
  if (Object.hasOwn(labels, key)) return `the label ${key} was given twice. Give it once`;
  labels[key] = value;
  return undefined;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
