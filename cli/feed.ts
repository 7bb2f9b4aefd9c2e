// Follows a pool's ledger, across every restart of the broker, even at another address or with other credentials. Each
// commit comes exactly once, in order.
import { setTimeout as sleep } from "node:timers/promises";
import { type CommitEnvelope, decodeCommit } from "../events/commit.ts";
import { ledgerSubject } from "../protocol/subjects.ts";
import { Archive } from "../runtime/archive/archive.ts";
import { type Bus, openBus } from "../runtime/bus.ts";
import { Fault, messageOf } from "../runtime/fault.ts";
import { callJs, storedMessage, streamOf } from "../runtime/jetstream-api.ts";
import { type Place, tail } from "../runtime/tail.ts";
import type { Address, LedgerAddress } from "./address.ts";
import { unanswered } from "./connection.ts";
import { noLedger, Refused } from "./failure.ts";

export interface FeedCommit {
  commit: CommitEnvelope;
  /** In the ledger's stream. */
  sequence: number;
}

export interface FeedOptions {
  pool: string;
  /** Called again when the connection is lost. */
  find: () => LedgerAddress;
  /** The reading starts after this place. Absent: only new commits. */
  from?: Place;
  signal: AbortSignal;
  /** The ledger is found, and events follow. */
  onStart?: () => void;
  /** The connection is lost, or restored. */
  onLink: (isUp: boolean) => void;
}

const lookMs = 1000;

/** @throws at the start only: Fault if there is no service, Refused if the pool has no ledger. */
export async function* feed(options: FeedOptions): AsyncGenerator<FeedCommit> {
  const { pool, find, signal, onLink } = options;
  let address = find();
  let bus: Bus | undefined = await openAt(address);
  try {
    const beginning = await beginningOf(bus, options).catch((error: unknown) => {
      throw error instanceof Fault || error instanceof Refused ? error : unanswered(error, address.natsUrl);
    });
    const { stream, ledger } = beginning;
    options.onStart?.();
    let { place } = beginning;
    let reached = true;
    const tell = (isUp: boolean): void => {
      if (reached !== isUp && !signal.aborted) onLink(isUp);
      reached = isUp;
    };
    while (!signal.aborted) {
      if (bus !== undefined) {
        // A tail waits for a connection that is down until the connection is closed.
        const { close } = bus;
        const stopLooking = lookAfter(bus, { signal, tell, hasMoved: () => find().natsUrl !== address.natsUrl, close });
        try {
          const stored = tail({ bus, stream, subject: ledgerSubject(pool), from: place, signal });
          for await (const message of new Archive(address.archiveFolder).whole(pool, stored, place.seq)) {
            place = { seq: message.seq, at: message.storedAt };
            yield { commit: commitIn(message.bytes, message.seq), sequence: message.seq };
          }
        } finally {
          stopLooking();
        }
        await bus.close();
        bus = undefined;
      }
      if (signal.aborted) return;
      address = find();
      bus = await openAt(address).catch(() => undefined);
      // While the broker is away, another one may answer at its address.
      if (bus !== undefined && (await identityOf(bus, stream).catch(() => undefined)) !== ledger) {
        await bus.close();
        bus = undefined;
      }
      tell(bus !== undefined);
      if (bus === undefined) await pause(signal);
    }
  } finally {
    await bus?.close();
  }
}

async function beginningOf(bus: Bus, { pool, from }: FeedOptions) {
  const stream = await ledgerStreamOf(bus, pool);
  const ledger = await identityOf(bus, stream);
  return { stream, ledger, place: from ?? (await lastPlace(bus, stream, pool)) };
}

function openAt({ natsUrl, tlsCa }: Address): Promise<Bus> {
  return openBus(natsUrl, "remuda watch", { caFile: tlsCa });
}

/** Reports the connection's state. Closes the connection at the end, or when the service has moved. */
function lookAfter(
  bus: Bus,
  ports: { signal: AbortSignal; tell: (isUp: boolean) => void; hasMoved: () => boolean; close: () => Promise<void> },
): () => void {
  const { signal } = ports;
  const close = (): void => void ports.close();
  const timer = setInterval(() => {
    ports.tell(bus.up);
    if (!bus.up && ports.hasMoved()) close();
  }, lookMs);
  signal.addEventListener("abort", close);
  if (signal.aborted) close();
  return () => {
    clearInterval(timer);
    signal.removeEventListener("abort", close);
  };
}

async function pause(signal: AbortSignal): Promise<void> {
  await sleep(lookMs, undefined, { signal }).catch(() => {}); // Aborted: over at once.
}

function commitIn(bytes: Uint8Array, sequence: number): CommitEnvelope {
  try {
    return decodeCommit(Buffer.from(bytes).toString());
  } catch (cause) {
    const why = messageOf(cause);
    throw new Fault("stop-damaged", `message ${sequence} of the ledger is not a commit: ${why}`, { cause });
  }
}

async function ledgerStreamOf(bus: Bus, pool: string): Promise<string> {
  const stream = await streamOf(bus, ledgerSubject(pool));
  if (stream !== undefined) return stream;
  throw new Fault("retry-later", 'this NATS server has no ledgers yet. Start a picker with "npx remuda up".');
}

/** It does not change in the life of a stream, whichever server has it. */
async function identityOf(bus: Bus, stream: string): Promise<string | undefined> {
  return (await callJs<{ created?: string }>(bus, `STREAM.INFO.${stream}`)).created;
}

async function lastPlace(bus: Bus, stream: string, pool: string): Promise<Place> {
  const last = await storedMessage(bus, stream, { last_by_subj: ledgerSubject(pool) });
  if (last !== undefined) return { seq: last.seq, at: last.storedAt };
  throw new Refused(noLedger(pool));
}
