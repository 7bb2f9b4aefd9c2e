// Guest tokens in requests: the header that carries them, and the answers by which a target rejects one. A token is
// sent only to the origin of the original request, never to another origin after a redirect.
import type { Dispatcher } from "undici";
import type { LeaseReply, Outcome } from "../protocol/wire.ts";
import { headersOf } from "../transport/head.ts";
import { RemudaFault } from "./fault.ts";

export interface TokenOptions {
  /** The header that carries it, such as `x-guest-token`. */
  header: string;
  /** The header's value. `{token}` stands for the token. Default: `{token}`, the token alone. */
  template?: string | undefined;
  /** Statuses by which the target rejects this token. Default: 401. */
  rejected?: readonly number[] | undefined;
}

export interface TokenUse {
  header: string;
  template: string;
  rejected: readonly number[];
}

/** The service has kept a rejected token, because it is too young to be replaced. */
export class TokenKept extends Error {
  override readonly name = "TokenKept";
}

/** @throws RemudaFault "wrong-options". */
export function readTokenOptions(options: TokenOptions): TokenUse {
  const { header, template = "{token}", rejected = [401] } = options;
  if (typeof header !== "string" || !/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(header))
    throw wrong("token.header", "must be the name of a header");
  if (typeof template !== "string" || !template.includes("{token}") || !/^[\x20-\x7e]*$/.test(template))
    throw wrong("token.template", "must have {token} in it, such as Bearer {token}");
  if (!Array.isArray(rejected) || !rejected.every((each) => Number.isInteger(each) && each >= 400 && each <= 599))
    throw wrong("token.rejected", "must be a list of statuses from 400 to 599");
  return { header, template, rejected };
}

/** The options of one call take precedence over the client's options. */
export function tokenUseOf(
  given: TokenOptions | false | undefined,
  standing: TokenUse | undefined,
): TokenUse | undefined {
  if (given === false) return undefined;
  return given === undefined ? standing : readTokenOptions(given);
}

/** The same request with the lease's token, if the lease has one and the request goes to the right origin. */
export function withToken(
  sent: Dispatcher.DispatchOptions,
  lease: Pick<LeaseReply, "token">,
  given: { use: TokenUse; origin: string },
): Dispatcher.DispatchOptions {
  const { use, origin } = given;
  if (lease.token === undefined || String(sent.origin) !== origin) return sent;
  const value = use.template.replaceAll("{token}", () => lease.token?.value ?? "");
  const name = use.header.toLowerCase();
  const headers: string[] = [];
  for (const [key, each] of headersOf(sent.headers)) if (key.toLowerCase() !== name) headers.push(key, each);
  return { ...sent, headers: [...headers, use.header, value] };
}

/** The outcome to report for a use whose token the target rejected. */
export function withRejection(outcome: Outcome, lease: Pick<LeaseReply, "token">, use: TokenUse): Outcome {
  if (lease.token === undefined || outcome.status === undefined || !use.rejected.includes(outcome.status))
    return outcome;
  if (outcome.reason !== undefined) return outcome; // The proxy's own answer.
  return { ...outcome, tokenRejected: true, tokenId: lease.token.tokenId };
}

function wrong(option: string, why: string): RemudaFault {
  return new RemudaFault("wrong-options", `${option}: ${why}.`);
}
