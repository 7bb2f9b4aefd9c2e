// The standard `fetch`, through leased proxies. undici does redirects, bodies and abort signals, by the Fetch standard.
// This file only converts inputs to undici's own classes, and passes this client's errors through unchanged.
import {
  type Dispatcher,
  FormData,
  Request,
  type RequestInfo,
  type RequestInit,
  type Response,
  fetch as undiciFetch,
} from "undici";
import type { Classify } from "./callers-word.ts";
import { RemudaFault, RemudaRefusal } from "./fault.ts";
import type { FetchLease } from "./kinds.ts";
import type { TokenOptions } from "./token.ts";

/** Methods that may be repeated (RFC 9110). */
export const idempotent: readonly string[] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/** Accepts Node's own Request and FormData as well as undici's. */
export type FetchInput = RequestInfo | globalThis.Request;
export type FetchInit = Omit<RequestInit, "dispatcher" | "body"> & {
  body?: RequestInit["body"] | globalThis.FormData;
};

/** How requests get their proxies. */
export interface Through {
  pool?: string | undefined;
  request?: FetchLease | undefined;
  /** How long it waits for a use. Default: the option `fetch.waitMs`. */
  waitMs?: number | undefined;
  /** Tries on other proxies after the first. Default: the option `fetch.retries`. */
  retries?: number | undefined;
}

/** The options of one request. */
export interface Via extends Through {
  /** How the request carries the pool's guest token; false: it has none. Default: the option `token`. */
  token?: TokenOptions | false | undefined;
  /** Classifies the answer, before `fetch` returns it. */
  outcome?: Classify | undefined;
}

/** The signal that ends the request, from `init` or from the Request. */
export function signalOf(input: FetchInput, init: FetchInit | undefined): AbortSignal | undefined {
  if (init?.signal !== undefined && init.signal !== null) return init.signal as AbortSignal; // undici's type is the same.
  return isRequest(input) ? (input.signal as AbortSignal) : undefined;
}

/** @throws TypeError as fetch does; RemudaRefusal and RemudaFault unchanged. */
export async function fetchThrough(
  dispatcher: Dispatcher,
  input: FetchInput,
  init: FetchInit | undefined,
): Promise<Response> {
  const own = ownInit(init);
  try {
    if (!isRequest(input) || input instanceof Request)
      return await undiciFetch(input as RequestInfo, { ...own, dispatcher });
    const { url, method, redirect, body, signal } = input;
    const rest = {
      method,
      headers: [...input.headers],
      redirect,
      signal,
      ...(body === null ? {} : { body, duplex: "half" }),
    };
    return await undiciFetch(url, { ...(rest as RequestInit), ...own, dispatcher });
  } catch (error) {
    const cause = error instanceof TypeError ? error.cause : undefined;
    if (cause instanceof RemudaRefusal || cause instanceof RemudaFault) throw cause;
    throw error;
  }
}

/** As undici computes it. An invalid URL is not reported here: undici's fetch reports it. */
export function originOf(input: FetchInput | Pick<Response, "url">): string {
  const url = typeof input === "object" && "url" in input ? input.url : String(input);
  return URL.canParse(url) ? new URL(url).origin : "";
}

/**
 * Whether the request may be repeated after this answer. A Request's body or a stream cannot be sent twice. A request
 * that led to a redirect has already taken effect, so only idempotent requests may be repeated.
 */
export function isRepeatable(
  input: FetchInput,
  init: FetchInit | undefined,
  { redirected }: Pick<Response, "redirected">,
): boolean {
  const method = init?.method ?? (isRequest(input) ? input.method : "GET");
  if (redirected && !idempotent.includes(method.toUpperCase())) return false;
  if (typeof input === "object" && "body" in input && input.body !== null) return false;
  const body: unknown = init?.body;
  if (typeof body !== "object" || body === null) return true;
  return !(Symbol.asyncIterator in body) && !("getReader" in body);
}

function isRequest(input: FetchInput): input is Request | globalThis.Request {
  return typeof input === "object" && "headers" in input && "url" in input;
}

function ownInit(init: FetchInit = {}): RequestInit {
  const { body } = init;
  if (!(body instanceof globalThis.FormData)) return init as RequestInit; // Its body is one of undici's types.
  const form = new FormData();
  for (const [name, value] of body) form.append(name, value);
  return { ...init, body: form } as RequestInit;
}
