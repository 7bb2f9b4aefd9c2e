// The envelope of a commit: one message in the ledger, holding the events of one turn of the leader's loop.

export const commitHeader = "Remuda-Commit";
export const commitVersion = 2;

/** Outcomes are ingested up to here. The stored time counts too: after a crash, a broker may reuse sequences. */
export interface Cursor {
  seq: number;
  at: number;
  /** How many outcomes of the message after `seq` are ingested too. Absent: none. */
  taken?: number;
}

export interface CommitEnvelope {
  v: number;
  /** Number of the commit in this pool, from 1, no gaps. */
  n: number;
  /** base64url SHA-256 of the previous commit's bytes; "" for the first. */
  prev: string;
  /** The leader's term. */
  term: number;
  at: number;
  cursor: Cursor;
  /** 32 hex digits that all random draws of this commit come from. Absent: nothing was drawn. */
  chance?: string;
  events: unknown[];
}

/** @param events already as JSON, so that each is encoded once and its size is known. */
export function encodeCommit(head: Omit<CommitEnvelope, "events" | "v">, events: readonly string[]): string {
  const { n, prev, term, at, cursor, chance } = head;
  const fields = JSON.stringify({ v: commitVersion, n, prev, term, at, cursor, chance });
  return `${fields.slice(0, -1)},"events":[${events.join(",")}]}`;
}

/** Nothing is wrong with the ledger: a newer version of Remuda wrote it. */
export class NewerFormat extends Error {}

/** @throws Error with a sentence about what is wrong with the commit. */
export function decodeCommit(text: string): CommitEnvelope {
  const commit = JSON.parse(text) as Partial<CommitEnvelope>; // Checked field by field below.
  if (commit.v === 1)
    throw new Error("it is a ledger of version 1, which was never released. Start with an empty store");
  if (Number.isSafeInteger(commit.v) && (commit.v ?? 0) > commitVersion)
    throw new NewerFormat(`the commit's version is ${commit.v}, and this program reads ${commitVersion}`);
  if (commit.v !== commitVersion) throw new Error(`its version is ${commit.v}, this program reads ${commitVersion}`);
  for (const field of ["n", "term", "at"] as const) {
    if (!Number.isSafeInteger(commit[field])) throw new Error(`its ${field} is not a whole number`);
  }
  if (typeof commit.prev !== "string") throw new Error("its prev is not a string");
  if (!Array.isArray(commit.events)) throw new Error("it has no events");
  const strange = commit.events.findIndex((event) => typeof (event as { type?: unknown } | null)?.type !== "string");
  if (strange >= 0) throw new Error(`its event ${strange + 1} is not an object with a \`type\``);
  if (!Number.isSafeInteger(commit.cursor?.seq) || !Number.isSafeInteger(commit.cursor?.at))
    throw new Error("it has no cursor");
  return commit as CommitEnvelope;
}
