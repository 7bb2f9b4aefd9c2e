// Long lists are sent to the picker in parts of a bounded size, one after the other, so that they stay in order. If one
// part is refused, the parts before it stay. The same list may be sent again, since nothing counts twice.
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { type Answer, type Ask, type Asked, replyIn } from "./ask.ts";

export interface Sized<T> {
  item: T;
  bytes: number;
}

/** Well below the largest allowed request. */
const sliceBytesMax = 384 * 1024;

/** At least one slice, so that an empty list is answered too. */
export async function* slicesOf<T>(items: AsyncIterable<Sized<T>>, countMax: number): AsyncGenerator<T[]> {
  let slice: T[] = [];
  let bytes = 0;
  let slices = 0;
  for await (const each of items) {
    if (slice.length > 0 && (slice.length >= countMax || bytes + each.bytes > sliceBytesMax)) {
      yield slice;
      slices++;
      slice = [];
      bytes = 0;
    }
    slice.push(each.item);
    bytes += each.bytes + 1; // A comma.
  }
  if (slice.length > 0 || slices === 0) yield slice;
}

/**
 * Sends each slice as the body that `body` makes of it, and passes the replies to `take`. Ends at the first refusal, or
 * when it is to stop.
 */
export async function askInSlices<T, Reply>(
  ask: Ask,
  asked: Asked & {
    slices: AsyncIterable<T[]>;
    body: (slice: T[]) => object;
    take: (reply: Reply, slice: T[]) => void;
    stopping: AbortSignal;
  },
): Promise<Refusal | undefined> {
  const { verb, pool, slices, body, take, stopping } = asked;
  let done = 0;
  for await (const slice of slices) {
    if (stopping.aborted) return partly(stopped, done);
    const answer: Answer = await ask({ verb, ...(pool === undefined ? {} : { pool }), body: body(slice) });
    if ("refusal" in answer) return done === 0 ? answer.refusal : partly(answer.refusal, done);
    take(replyIn<Reply>(answer), slice);
    done += slice.length;
  }
  return undefined;
}

/** For a client that has gone. */
export const stopped = refuse("unavailable", "The client has gone.", { retryAfterMs: 1000 });

function partly({ code, message, ...rest }: Refusal, done: number): Refusal {
  return refuse(code, `${message} The first ${done} are done; send all of them again, nothing counts twice.`, rest);
}
