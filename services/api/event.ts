// The ledger of a pool as server-sent events: one message per commit. Its id is the sequence in the stream, its data
// the commit as it is stored. A client that comes back with `Last-Event-ID` misses nothing.
import { once } from "node:events";
import { PassThrough } from "node:stream";
import type { FastifyRequest } from "fastify";
import type { Logger } from "pino";
import { z } from "zod";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Read } from "../../protocol/request.ts";
import { rolesFor } from "../../protocol/verbs.ts";
import type { Place } from "../../runtime/tail.ts";
import type { Ledgers } from "./ledger.ts";
import { Readers } from "./readers.ts";
import { refusalOf, sendRefusal } from "./refusal.ts";
import { type Api, inPool } from "./request.ts";
import { answers } from "./routes.ts";
import { shownCommit } from "./shown-commit.ts";

/** Proxies and load balancers consider a silent connection dead after half a minute. This is less. */
const heartbeatMs = 10_000;
/** A user who was removed, or has a new key, another role or other pools, is cut off within this time. */
const knownMs = 1000;
/** A client that reads nothing for this long is cut off. It can reconnect and continue where it was. */
const stalledMsMax = 30_000;
const retryMs = 1000;

const commits = {
  description: "One message per commit, without end: `id: <sequence>` and `data: <the commit as JSON>`.",
  content: { "text/event-stream": { schema: z.string() } },
};

interface EventPorts {
  ledgers: Ledgers;
  log: Logger;
  /** Whether the sender would still be let in, with the same role. */
  isKnown: (request: FastifyRequest) => boolean;
}

/** @returns how many clients follow at the moment. */
export function eventRoutes(api: Api, { ledgers, log, isKnown }: EventPorts): () => number {
  const readers = new Readers();

  api.get(
    "/v1/pools/:pool/events",
    {
      config: { roles: rolesFor("audit.proxies") }, // Reading the past, too.
      exposeHeadRoute: false, // A HEAD request would follow without end.
      schema: {
        tags: ["events"],
        summary: "Follow a pool's ledger",
        description:
          "Server-sent events. Begins after `Last-Event-ID`, else at `from` (0: the beginning), else with the next event.",
        params: inPool,
        querystring: z.object({ from: z.string().optional().describe("a sequence: the first that is wanted") }),
        response: { ...answers({}), 200: commits },
      },
    },
    async (request, reply) => {
      const { pool } = request.params;
      const asked = placeAsked({ lastEventId: request.headers["last-event-id"], from: request.query.from });
      if ("refusal" in asked) return sendRefusal(reply, asked.refusal);
      if (reply.raw.closed) return reply;
      const reader = readers.begin(request.user.name);
      if ("refusal" in reader) return sendRefusal(reply, reader.refusal);
      const gone = new AbortController();
      reply.raw.once("close", () => {
        reader.end();
        gone.abort();
      });
      const last = await ledgers.last(pool);
      if (last === undefined) return sendRefusal(reply, unknownPool(pool));
      if (gone.signal.aborted) return reply;
      const messages = ledgers.follow(pool, asked.value ?? { seq: last.seq, at: last.storedAt }, gone.signal);
      const stream = new PassThrough();
      const show = request.user.role === "admin" ? undefined : shownCommit;
      void write(messages, { stream, show, readers, isKnown: () => isKnown(request) }, gone)
        .catch((error: unknown) => void refusalOf(error, log)) // Logged if it is a bug.
        .finally(() => stream.end());
      return reply
        .header("content-type", "text/event-stream; charset=utf-8")
        .header("cache-control", "no-store")
        .header("x-accel-buffering", "no") // Otherwise nginx would buffer messages.
        .send(stream);
    },
  );
  return () => readers.count;
}

const messageEnd = Buffer.from("\n\n");

type Commits = ReturnType<Ledgers["follow"]>;

interface Reader {
  stream: PassThrough;
  /** A commit as this user may see it. Undefined: as it is stored. */
  show: ((commit: string) => string) | undefined;
  readers: Readers;
  isKnown: () => boolean;
}

async function write(
  messages: Commits,
  { stream, show, readers, isKnown }: Reader,
  gone: AbortController,
): Promise<void> {
  const heartbeat = setInterval(() => {
    if (stream.writableLength === 0) stream.write(":\n\n");
  }, heartbeatMs);
  const looking = setInterval(() => {
    if (!isKnown()) gone.abort();
  }, knownMs);
  const end = (): void => {
    clearInterval(heartbeat);
    clearInterval(looking);
  };
  gone.signal.addEventListener("abort", end);
  try {
    stream.write(`retry: ${retryMs}\n\n`);
    for await (const { seq, bytes } of messages) {
      if (gone.signal.aborted) return;
      let hasRoom = true;
      await readers.work(() => {
        if (gone.signal.aborted) return; // While it waited for its turn.
        const commit = show === undefined ? bytes : Buffer.from(show(Buffer.from(bytes).toString()));
        hasRoom = stream.write(Buffer.concat([Buffer.from(`id: ${seq}\ndata: `), commit, messageEnd]));
      });
      if (!hasRoom) await roomIn(stream, gone);
    }
  } finally {
    end();
  }
}

/** Resolves when the client has read what was written. A stalled client is cut off. */
async function roomIn(stream: PassThrough, gone: AbortController): Promise<void> {
  const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(stalledMsMax)]);
  await once(stream, "drain", { signal }).catch(() => {}); // Aborted.
  if (!signal.aborted) return;
  gone.abort();
  stream.destroy();
}

/** The message after which to begin; undefined if the client asked for none. */
function placeAsked(asked: {
  lastEventId: string | string[] | undefined;
  from: string | undefined;
}): Read<Place | undefined> {
  const { lastEventId, from } = asked;
  const [field, text] =
    lastEventId === undefined ? (["from", from] as const) : (["Last-Event-ID", lastEventId] as const);
  if (text === undefined || text === "") return { value: undefined };
  if (typeof text !== "string" || !/^\d{1,15}$/.test(text))
    return { refusal: refuse("invalid-request", `${field}: must be a sequence, a whole number.`, { field }) };
  const seq = field === "from" ? Math.max(0, Number(text) - 1) : Number(text);
  return { value: { seq, at: 0 } };
}

function unknownPool(pool: string): Refusal {
  return refuse("unknown-pool", `The pool ${pool} has no ledger. Open it with PUT /v1/pools/${pool}.`);
}
