// An event of a ledger as a line for people: the time, the type, the proxy, and the details, in the words of the
// ledger. An event of a later version is shown with its fields.

import type { CommitEnvelope } from "../events/commit.ts";
import type { Event } from "../events/event.ts";
import { counted, nameCounts, printable, showInstant } from "../runtime/text.ts";
import { type Colour, painted } from "./colour.ts";
import { showDuration } from "./output.ts";

/** The fields that any event may have. */
export type AnyEvent = {
  type: string;
  proxyId?: string | undefined;
  leaseId?: string | undefined;
  by?: string | undefined;
};

const typeWidth = 15; // "OutcomesIgnored"
const whomWidth = 21; // "255.255.255.255:65535"

/** @param nameOf the host and port of a proxy, or its id. */
export function eventLine(commit: Pick<CommitEnvelope, "at">, event: AnyEvent, nameOf: (id: string) => string): string {
  const whom = event.proxyId === undefined ? "" : nameOf(event.proxyId);
  const type = painted(printable(event.type).padEnd(typeWidth), colourOf(event as Event)); // An unknown type is plain.
  const rest = `${printable(whom).padEnd(whomWidth)}  ${printable(words(said(event as Event, commit.at), byWhom(event)))}`;
  return `${painted(showInstant(commit.at), "dim")}  ${type}  ${rest}`.trimEnd();
}

function said(event: Event, at: number): string {
  switch (event.type) {
    case "PoolOpened":
      return `${event.pool}, policy version ${event.version}`;
    case "PolicyChanged":
      return `version ${event.version}`;
    case "PoolClosed":
      return event.draining === true ? "when its last lease has ended" : "";
    case "LeaderClaimed":
      return `${event.leader}, term ${event.term}`;
    case "ProxyAdded":
      return words(event.state, resting(event, at), `exit ${event.exit}`, labelled(event.labels));
    case "ProxyChanged":
      return words(`exit ${event.exit}`, labelled(event.labels));
    case "ProxyRetired":
      return event.reason ?? "";
    case "RestBegan":
      return words(event.state, resting(event, at), event.note === undefined ? "" : `(${event.note})`);
    case "RestEnded":
      return words(event.state, event.how);
    case "LeaseGranted":
      return words(
        event.leaseId,
        counted(event.uses, "use"),
        until(event.expiresAt, at),
        holding(event.request.holder),
      );
    case "LeaseRenewed":
      return words(event.leaseId, until(event.expiresAt, at));
    case "LeaseClosed":
      return words(event.leaseId, event.how, `${event.used} used`, event.state);
    case "UseReported":
      return words(event.leaseId, `use ${event.n}`, seen(event), `score ${event.score}`, event.target ?? "");
    case "RequestsRefused":
      return words(`${event.code} ×${event.count}`, heldBy(event.limitedBy), requested(event));
    case "OutcomesIgnored":
      return `${event.why} ×${event.count}`;
    case "TokenRequested":
      return words(event.tokenId, event.why, event.leaseId, until(event.deadlineAt, at));
    case "TokenMinted":
      return words(event.tokenId, event.expiresAt === undefined ? "" : until(event.expiresAt, at));
    case "TokenRefused":
      return words(
        event.tokenId,
        event.why,
        String(event.status ?? ""),
        event.token,
        `next ${showInstant(event.retryAt)}`,
      );
    case "TokenRejected":
      return words(event.tokenId ?? "", event.action, event.count === undefined ? "" : `×${event.count}`);
    case "HeadSigned":
      return words(`commit ${event.n}`, event.hash, `by ${event.keyId}`);
    case "LedgerRestored":
      return words(`to commit ${event.last}`, `nothing is granted ${until(event.until, at)}`);
    case "SegmentArchived":
      return words(`commits ${event.first} to ${event.last}`, event.hash);
    default:
      return fieldsOf(event);
  }
}

function byWhom({ by }: AnyEvent): string {
  return by === undefined ? "" : `by ${by}`;
}

function colourOf(event: Event): Colour | undefined {
  switch (event.type) {
    case "PoolOpened":
    case "PolicyChanged":
    case "PoolClosed":
    case "LeaderClaimed":
      return "bold";
    case "LeaseGranted":
    case "LeaseRenewed":
      return "cyan";
    case "RestBegan":
      return "yellow";
    case "RestEnded":
    case "ProxyAdded":
      return "green";
    case "UseReported":
      return ({ success: "green", failure: "red", neutral: undefined } as const)[event.result];
    case "TokenRequested":
    case "TokenMinted":
      return "cyan";
    case "RequestsRefused":
    case "OutcomesIgnored":
    case "TokenRefused":
    case "TokenRejected":
      return "magenta";
    default:
      return undefined;
  }
}

function words(...parts: string[]): string {
  return parts.filter((part) => part !== "").join(" ");
}

function until(end: number, at: number): string {
  return `until ${showInstant(end)} (${showDuration(Math.max(0, end - at))})`;
}

function resting(rest: { until?: number | undefined; reasons?: readonly string[] | undefined }, at: number): string {
  return rest.until === undefined ? "" : `${until(rest.until, at)}: ${rest.reasons?.join(", ") ?? ""}`;
}

function holding(holder: string | undefined): string {
  return holder === undefined ? "" : `for ${holder}`;
}

export function labelled(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}

function seen({ class: kind, status, error }: Event & { type: "UseReported" }): string {
  const what = status ?? error;
  return what === undefined ? kind : `${kind} (${what})`;
}

/** The fields of the last refused request. */
function requested({ request, count }: Event & { type: "RequestsRefused" }): string {
  if (request === undefined) return "";
  const { uses = 1, minUses = 1, session, labels = {}, schemes = [], exclude = [], proxyId, token, target } = request;
  const said = words(
    counted(uses, "use") + (minUses > 1 ? ` (at least ${minUses})` : ""),
    proxyId === undefined ? "" : `of ${proxyId}`,
    schemes.join(" or "),
    labelled(labels),
    exclude.length === 0 ? "" : `without ${exclude.length} excluded`,
    session === undefined ? "" : `in session ${session}`,
    token === true ? "with a token" : "",
    target === undefined ? "" : `to ${target}`,
    holding(request.holder),
  );
  return `${count === 1 ? "requested" : "the last requested"}: ${said}`;
}

function heldBy(limitedBy: object | undefined): string {
  const held = nameCounts(limitedBy ?? {});
  return held === "" ? "" : `(held back by ${held})`;
}

function fieldsOf(event: AnyEvent): string {
  const { type: _type, proxyId: _proxyId, by: _by, ...rest } = event;
  return Object.entries(rest)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}
