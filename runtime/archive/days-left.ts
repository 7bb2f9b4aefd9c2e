// How long the archive's disk will last, from what was written to it lately.
import { statfs } from "node:fs/promises";
import type { Archive } from "./archive.ts";
import type { Manifest } from "./segment.ts";

const dayMs = 86_400_000;
/** Older files say little about the present growth. */
const latelyMs = 14 * dayMs;
/** A shorter time says little, too. */
const spanMsMin = 3_600_000;

export interface DaysLeft {
  freeBytes: number;
  bytesPerDay: number;
  days: number;
}

/** Undefined if too little was archived lately to say anything, or if the disk cannot be asked. */
export async function daysLeft(archive: Archive): Promise<DaysLeft | undefined> {
  const pools = archive.pools();
  const newest = pools.flatMap((pool) => archive.newestFirst(pool).next().value ?? []);
  const end = Math.max(...newest.map(({ last }) => last.storedAt));
  const lately = pools.flatMap((pool) => [...since(archive.newestFirst(pool), end - latelyMs)]);
  const spanMs = end - Math.min(...lately.map(({ first }) => first.storedAt));
  const free = lately.length === 0 ? undefined : await statfs(archive.folder).catch(() => undefined);
  if (free === undefined || spanMs < spanMsMin) return undefined;
  const bytesPerDay = (lately.reduce((sum, { fileBytes }) => sum + fileBytes, 0) * dayMs) / spanMs;
  const freeBytes = free.bavail * free.bsize;
  return { freeBytes, bytesPerDay, days: Math.floor(freeBytes / bytesPerDay) };
}

/** None of the others is read. */
function* since(newestFirst: Iterable<Manifest>, storedAt: number): Generator<Manifest, void> {
  for (const segment of newestFirst) {
    if (segment.first.storedAt <= storedAt) return;
    yield segment;
  }
}
