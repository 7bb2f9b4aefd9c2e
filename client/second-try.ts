// The second try of a request whose guest token was rejected: with the next token, never with the one that was just
// rejected. If there is no other token, or the service refuses, the caller gets the first answer.
import type { Response } from "undici";
import { RemudaRefusal } from "./fault.ts";
import { type FetchInit, type FetchInput, isRepeatable, originOf, signalOf } from "./fetch.ts";
import { orAborted } from "./port.ts";
import { TokenKept, type TokenUse } from "./token.ts";

/** An answer that is larger is passed to the caller without a second try. */
const answerBytesMax = 1024 * 1024;

export interface Fetched {
  response: Response;
  /** The id of the token that the request had. */
  tokenId: string | undefined;
  /** Resolves when the outcome that rejects a token is in the ledger. */
  reported: () => Promise<void>;
}

export async function fetchWithToken(
  once: (notToken?: string) => Promise<Fetched>,
  { use, input, init }: { use: TokenUse; input: FetchInput; init: FetchInit | undefined },
): Promise<Response> {
  const { response, tokenId, reported } = await once();
  const isAboutToken =
    use.rejected.includes(response.status) && tokenId !== undefined && originOf(response) === originOf(input);
  // Repeatable: its body is not a stream.
  if (!isAboutToken || !isRepeatable(input, init, response)) return response;
  // The outcome is reported when the body has ended. The caller may need the answer, so a copy is read.
  if (!(await isRead(response.clone()))) return response;
  await orAborted(reported(), signalOf(input, init));
  try {
    const second = await once(tokenId);
    await response.body?.cancel();
    return second.response;
  } catch (error) {
    const why = error instanceof TypeError ? error.cause : error;
    if (why instanceof TokenKept || why instanceof RemudaRefusal) return response;
    throw error;
  }
}

/** False: it is too large, or it broke off. */
async function isRead({ body }: Response): Promise<boolean> {
  let bytes = 0;
  try {
    for await (const chunk of body ?? []) {
      bytes += (chunk as Uint8Array).byteLength; // undici gives bytes.
      if (bytes > answerBytesMax) return false;
    }
    return true;
  } catch {
    return false;
  }
}
