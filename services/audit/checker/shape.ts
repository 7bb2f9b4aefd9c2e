// What an event of each type must have: its fields and their kinds, written down a second time from the protocol, so that what
// is judged afterwards may trust what it reads. A field that is not known here may be a later version's: it is told, not judged.
import type { Event } from "../../../events/event.ts";
import type { LeaseClosed, LeaseGranted } from "../../../events/lease.ts";
import { outcomeClasses, type UseReported } from "../../../events/outcome.ts";
import { limitsSchema } from "../../../events/policy.ts";
import { schemes } from "../../../events/proxy.ts";
import { refusalNumbers } from "../../../events/refusal.ts";
import { rejectActions, tokenStates, whyRefused } from "../../../events/token.ts";
import type { Findings } from "./finding.ts";

const kinds = {
  text: (value: unknown) => typeof value === "string",
  whole: (value: unknown) => Number.isSafeInteger(value),
  number: (value: unknown) => Number.isFinite(value),
  port: (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0 && (value as number) < 65_536, // As below.
  count: (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0, // It is a number.
  true: (value: unknown) => value === true,
  texts: (value: unknown) => Array.isArray(value) && value.every((each) => typeof each === "string"),
  labels: (value: unknown) => isDocument(value) && Object.values(value).every((each) => typeof each === "string"),
  figures: (value: unknown) => isDocument(value) && Object.values(value).every(Number.isSafeInteger),
  document: isDocument,
  limits: (value: unknown) => limitsSchema.safeParse(value).success,
  wish: (value: unknown) => isDocument(value) && faultIn(wishes, value) === undefined,
};
type Kind = keyof typeof kinds;

const words: Record<Kind, string> = {
  text: "text",
  whole: "a whole number",
  number: "a number",
  port: "a port (1 to 65535)",
  count: "a whole number of at least 1",
  true: "true, or left out",
  texts: "a list of texts",
  labels: "a document of texts",
  figures: "a document of whole numbers",
  document: "a document",
  limits: "limits",
  wish: "a wish",
};

const oneOf = (all: readonly string[]): string => all.join("|");
const tokenState = oneOf(tokenStates);

/** `name kind`, or in place of a kind the words that it may be; with a question mark it may be absent. */
const fields: Record<Event["type"], string> = {
  PoolOpened: "pool text, policy document, version whole, keyFingerprint text",
  PolicyChanged: "policy document, version whole",
  PoolClosed: "draining? true",
  LeaderClaimed: "leader text, term whole",
  ProxyAdded: `proxyId text, state text, scheme ${oneOf(schemes)}, host text, port port, username? text, exit text, labels labels, limits? limits, until? whole, reasons? texts, epoch whole`,
  ProxyChanged: "proxyId text, exit text, labels labels, limits? limits",
  ProxyRetired: "proxyId text, state text, reason? text",
  RestBegan: "proxyId text, state text, until whole, reasons texts, epoch whole, exitUntil? whole, note? text",
  RestEnded: "proxyId text, state text, how over|revived",
  LeaseGranted:
    "leaseId text, proxyId text, state text, wish wish, uses whole, epoch whole, expiresAt whole, strategy text, ranked figures, slotAt? whole, tokenId? text",
  LeaseRenewed: "leaseId text, expiresAt whole",
  LeaseClosed: "leaseId text, proxyId text, state text, how completed|released|expired, used whole, slotAt whole",
  UseReported: `leaseId text, n whole, proxyId text, class ${oneOf(outcomeClasses)}, result success|failure|neutral, counts? true, score whole, streak whole, slotAt? whole, storedAt whole, status? whole, error? text, latencyMs? number, bytes? number, target? text, retryAfterMs? whole, tokenRejected? true, tokenId? text, final? true, late? true, over? true`,
  WishesRefused: `code ${oneOf(Object.keys(refusalNumbers))}, count count, limitedBy? figures, wish? wish`,
  OutcomesIgnored: "why unreadable|unknown-lease|n-missing|n-too-large|no-result|duplicate, count count",
  TokenRequested: `tokenId text, scope proxy|pool, proxyId? text, token ${tokenState}, leaseId text, deadlineAt whole, why asked|rejected|expired|ahead`,
  TokenMinted: `tokenId text, proxyId? text, token ${tokenState}, mintedAt whole, expiresAt? whole`,
  TokenRefused: `tokenId text, proxyId? text, token ${tokenState}, why ${oneOf(whyRefused)}, status? whole, failures whole, retryAt whole`,
  TokenRejected: `tokenId? text, proxyId? text, token ${tokenState}, action ${oneOf(rejectActions)}, why? value-lost, count? count, mintedAt? whole, keptUntil? whole`,
  HeadSigned: "n whole, hash text, keyId text, signature text, inert true",
};

interface Field {
  must: string;
  is: (value: unknown) => boolean;
  isRequired: boolean;
}

interface Shape {
  fields: Readonly<Record<string, Field | undefined>>;
  required: readonly string[];
}

/** Of events. */
export const knownTypes: readonly string[] = Object.keys(fields);

const shapes = new Map(Object.entries(fields).map(([type, text]) => [type, shapeOf(`type text, ${text}`)]));
const wishes = shapeOf(
  "requestId? text, uses? count, minUses? count, ttlMs? count, session? text, labels? labels, schemes? texts, exclude? texts, proxyId? text, holder? text, token? true, target? text",
);

/** Sorted; with a question mark those that may be absent. */
export function fieldsOf(type: string): string[] {
  const known = Object.entries(shapes.get(type)?.fields ?? {}).filter(([name]) => name !== "type");
  return known.map(([name, field]) => (field?.isRequired ? name : `${name}?`)).sort();
}

/** Those not known that were told already: each once. */
export type Strangers = Set<string>;

/** May it be judged? Of a type that is not known here: that is not for this to say. */
export function isWhole(
  event: unknown,
  findings: Findings,
  given: { place: number; strangers: Strangers },
): event is Event {
  if (isPlain(event)) return true;
  const nth = `event ${given.place + 1} of the commit`;
  if (!isDocument(event) || typeof event["type"] !== "string") {
    findings.add("field", `${nth} is no event: ${short(event)}`);
    return false;
  }
  const { type } = event;
  const shape = shapes.get(type);
  if (shape === undefined) return true;
  const fault = faultIn(shape, event, (name) => tellStranger(findings, given.strangers, `${type}.${name}`));
  if (fault === undefined) return true;
  findings.add("field", `${nth} (${type}) cannot be judged: ${fault}`);
  return false;
}

/** The three of which a ledger is made, as they mostly are: the table above costs ten times as much. False: ask the table. */
function isPlain(event: unknown): boolean {
  const { type } = (event ?? {}) as Event; // Every field is looked at.
  let known = 0;
  if (type === "UseReported") {
    const {
      leaseId,
      n,
      proxyId,
      class: kind,
      result,
      score,
      streak,
      storedAt,
      slotAt,
      status,
      latencyMs,
    } = event as UseReported;
    if (typeof leaseId !== "string" || typeof proxyId !== "string" || !classes.has(kind)) return false;
    if (!isInt(n) || !isInt(score) || !isInt(streak) || !isInt(storedAt) || !isInt(slotAt ?? 0)) return false;
    if (!isInt(status ?? 0) || !isInt(latencyMs ?? 0) || (result !== "success" && result !== "failure")) return false;
    known = 9 + (slotAt == null ? 0 : 1) + (status == null ? 0 : 1) + (latencyMs == null ? 0 : 1);
  } else if (type === "LeaseClosed") {
    const { leaseId, proxyId, state, how, used, slotAt } = event as LeaseClosed;
    if (typeof leaseId !== "string" || typeof proxyId !== "string" || typeof state !== "string") return false;
    if ((how !== "completed" && how !== "released" && how !== "expired") || !isInt(used) || !isInt(slotAt))
      return false;
    known = 7;
  } else if (type === "LeaseGranted") {
    const { leaseId, proxyId, state, wish, uses, epoch, expiresAt, strategy, ranked } = event as LeaseGranted;
    if (typeof leaseId !== "string" || typeof proxyId !== "string" || typeof state !== "string") return false;
    if (typeof strategy !== "string" || !isInt(uses) || !isInt(epoch) || !isInt(expiresAt)) return false;
    if (!kinds.wish(wish) || !isDocument(ranked)) return false;
    for (const name in ranked) if (!isInt(ranked[name])) return false;
    known = 10;
  } else return false;
  for (const _name in event as object) known--;
  return known === 0;
}

const classes = new Set<string>(outcomeClasses);
const isInt = Number.isSafeInteger;

function tellStranger(findings: Findings, strangers: Strangers, name: string): void {
  if (findings.silent || strangers.has(name) || strangers.size >= 1000) return;
  strangers.add(name);
  findings.notice("field", `the field ${name} is not known here: what it says is not judged`);
}

/** The first that is missing or of another kind. */
function faultIn(
  shape: Shape,
  value: Record<string, unknown>,
  onStranger?: (name: string) => void,
): string | undefined {
  let missing = shape.required.length;
  for (const name in value) {
    const field = shape.fields[name];
    if (field === undefined) onStranger?.(name);
    else if (!field.is(value[name])) return `its ${name} must be ${field.must}, and is ${short(value[name])}`;
    else if (field.isRequired) missing--;
  }
  if (missing === 0) return undefined;
  return `its ${shape.required.find((name) => value[name] === undefined)} is missing`;
}

function shapeOf(text: string): Shape {
  const known = Object.create(null) as Record<string, Field>; // It has no "constructor".
  const required: string[] = [];
  for (const each of text.split(", ")) {
    const [name = "", kind = ""] = each.split(" ");
    const isRequired = !name.endsWith("?");
    known[name.replace("?", "")] = { isRequired, ...kindOf(kind) };
    if (isRequired) required.push(name);
  }
  return { fields: known, required };
}

function kindOf(kind: string): Pick<Field, "must" | "is"> {
  if (Object.hasOwn(kinds, kind)) return { must: words[kind as Kind], is: kinds[kind as Kind] }; // Just seen there.
  const all = new Set<unknown>(kind.split("|"));
  return { must: `one of ${[...all].join(", ")}`, is: (value) => all.has(value) };
}

function isDocument(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function short(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
