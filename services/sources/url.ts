// Reads the list from a URL. The request is conditional if the last answer allows it. Every look has a bound in time,
// in size and in hops. The URL and its headers may be secret: only the host is ever shown, and headers for one site are
// sent to no other.
import { type Agent, fetch, Headers, type RequestInit, type Response } from "undici";
import { Fault } from "../../runtime/fault.ts";
import { agentOf } from "../../transport/backpressure.ts";
import { readRetryAfter } from "../../transport/classify.ts";
import { NotAllowed, type Outbound } from "../../transport/outbound.ts";
import { Pieces } from "../../transport/pieces.ts";
import { type From, type Reading, type Take, textOf, tooLarge, whyOf } from "./reading.ts";
import { textBytesMax } from "./room.ts";

const hopsMax = 5;
/** A site that asks for a longer pause is asked again after this anyway. It equals the largest `everyMs`. */
const putOffMsMax = 86_400_000;

/** The site says when to come again (`Retry-After`). */
export class PutOff extends Fault {
  readonly forMs: number;

  constructor(what: string, forMs: number) {
    super("retry-later", `${what}, and must not be asked again for ${Math.ceil(forMs / 1000)} s`);
    this.forMs = forMs;
  }
}

/** @throws PutOff; Fault "retry-later" for every other answer that is not the whole list. */
export async function readUrl(
  { url, headers, timeoutMs }: From<"url">,
  mark: string | undefined,
  { signal, outbound, take = () => {} }: { signal: AbortSignal; outbound: Outbound; take?: Take },
): Promise<Reading> {
  const { host } = new URL(url);
  const conditions = mark === undefined ? {} : (JSON.parse(mark) as Record<string, string>);
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const agent = agentTo(outbound);
  try {
    const reply = await follow(url, { headers: { ...headers, ...conditions }, signal: limited, agent, outbound });
    if (reply.status === 304 && mark !== undefined) return "unchanged";
    // Other 2xx statuses are not the list: 202 is not ready yet, 206 is a part of it.
    if (reply.status !== 200) {
      await reply.body?.cancel();
      throw refused(host, reply);
    }
    const pieces = new Pieces();
    for await (const piece of reply.body ?? []) {
      if (pieces.bytes + piece.byteLength > textBytesMax) throw tooLarge(host);
      take(piece.byteLength);
      pieces.add(piece);
    }
    const etag = reply.headers.get("etag");
    const modified = reply.headers.get("last-modified");
    const later = {
      ...(etag ? { "if-none-match": etag } : {}),
      ...(modified ? { "if-modified-since": modified } : {}),
    };
    const text = await textOf(pieces.all());
    return Object.keys(later).length === 0 ? { text } : { text, mark: JSON.stringify(later) };
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (limited.aborted && !signal.aborted)
      throw new Fault("retry-later", `${host} did not answer within ${timeoutMs} ms`);
    const hidden = notAllowedIn(error);
    if (hidden !== undefined) throw new Fault("retry-later", hidden.message);
    throw new Fault("retry-later", `${host} cannot be read (${whyUnread(error)})`);
  } finally {
    void agent.destroy();
  }
}

/** fetch wraps the error of a lookup. */
export function notAllowedIn(error: unknown): NotAllowed | undefined {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return inner instanceof NotAllowed ? inner : undefined;
}

/** fetch has no code for a port that it blocks (1, 25, 6667, …). Only the error's text tells. */
function whyUnread(error: unknown): string {
  const { cause } = error as Error; // fetch throws this type.
  const isPort = cause instanceof Error && cause.message === "bad port";
  return isPort ? "fetch blocks this port" : whyOf(error);
}

function refused(host: string, { status, headers }: Response): Fault {
  const what = `${host} answers ${status}`;
  const says = status === 429 || status === 503 ? readRetryAfter(headers.get("retry-after") ?? undefined) : undefined;
  const forMs = Math.min(says ?? 0, putOffMsMax);
  return forMs > 0 ? new PutOff(what, forMs) : new Fault("retry-later", what);
}

/**
 * Redirects are followed manually: fetch would send headers that it does not know as credentials, such as an API key,
 * to every site.
 */
async function follow(
  url: string,
  {
    headers,
    signal,
    agent,
    outbound,
  }: { headers: Record<string, string>; signal: AbortSignal; agent: Agent; outbound: Outbound },
): Promise<Response> {
  const first = withLogin(url);
  const { origin, host } = new URL(first.url);
  const own = new Headers({ accept: "*/*", ...first.headers });
  for (const [name, value] of Object.entries(headers)) own.set(name, value); // Header names ignore case.
  let at = first.url;
  for (let hop = 0; hop <= hopsMax; hop++) {
    const sent = new URL(at).origin === origin ? own : { accept: "*/*" };
    const reply = await fetchOnce(at, { headers: sent, signal }, { agent, outbound });
    const location = reply.headers.get("location");
    if (![301, 302, 303, 307, 308].includes(reply.status) || location === null) return reply;
    await reply.body?.cancel();
    const next = URL.parse(location, at);
    if (next === null || !["http:", "https:"].includes(next.protocol))
      throw new Fault("retry-later", `${host} redirects to a URL that is not http:// or https://`);
    at = withLogin(next.href).url;
  }
  throw new Fault("retry-later", `${host} redirects more than ${hopsMax} times`);
}

/** Its connections go only where the filter allows. */
export function agentTo(outbound: Outbound): Agent {
  // Decompression takes time, and many sites close the connection after the answer.
  return agentOf({ connect: { lookup: outbound.lookupTarget } });
}

/** Follows no redirect. @throws NotAllowed, which fetch may wrap. */
export async function fetchOnce(
  url: string,
  init: RequestInit,
  { agent, outbound }: { agent: Agent; outbound: Outbound },
): Promise<Response> {
  const { hostname } = new URL(url);
  // The lookup checks names; a literal address is not looked up.
  if (!outbound.allowsTarget(hostname)) throw new NotAllowed(hostname);
  return fetch(url, { ...init, redirect: "manual", dispatcher: agent });
}

/** fetch refuses a URL with a user name and a password in it, so they are sent as a header. */
export function withLogin(url: string): { url: string; headers: Record<string, string> } {
  const bare = new URL(url);
  const { username, password } = bare;
  if (username === "" && password === "") return { url, headers: {} };
  bare.username = "";
  bare.password = "";
  const login = Buffer.from(`${decoded(username)}:${decoded(password)}`).toString("base64");
  return { url: bare.href, headers: { authorization: `Basic ${login}` } };
}

/** Also accepts a text with a literal %. */
function decoded(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (escaped) => {
    try {
      return decodeURIComponent(escaped);
    } catch {
      return escaped;
    }
  });
}
