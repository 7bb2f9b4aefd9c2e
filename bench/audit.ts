// The cost of an audit of ten million events: `npm run bench -- audit [events | file] [events in a turn]`. The ledger
// is made by the real decisions in virtual time, into a file; making it is not counted. Verifying runs in a separate
// process, so that its memory can be measured. States are folded with checkpoints and without.
import { spawnSync } from "node:child_process";
import { createWriteStream, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkpointsIn } from "../services/audit/checkpoint.ts";
import { openFileSource } from "../services/audit/file-source.ts";
import { stateAt } from "../services/audit/history.ts";
import type { Entry, LedgerSource } from "../services/audit/source.ts";
import { verify } from "../services/audit/verify.ts";
import { LedgerMaker } from "./ledger-maker.ts";

const proxies = 2000;

export async function benchAudit(): Promise<void> {
  const [given = "10000000", perTurn = "60"] = process.argv.slice(3);
  console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}`);
  const folder = mkdtempSync(join(process.env["REMUDA_BENCH_DIR"] ?? tmpdir(), "bench-audit-"));
  try {
    const path = existsSync(given) ? given : join(folder, "ledger.ndjson");
    if (path !== given) {
      const startedOn = performance.now();
      const made = await make(path, { events: Number(given), perTurn: Number(perTurn) });
      const size = `${made.events} events, ${made.commits} commits, ${(statSync(path).size / 1e6).toFixed(0)} MB, ${made.hours.toFixed(1)} hours`;
      console.log(`made in ${seconds(startedOn)} s (not counted): ${size}`);
    }
    for (const round of [1, 2]) {
      const run = spawnSync(process.execPath, [fileURLToPath(import.meta.url), "verify", path], { encoding: "utf8" });
      console.log(`verify, round ${round}: ${run.stdout.trim()}${run.stderr.trim()}`);
    }
    await states(path, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function make(path: string, { events, perTurn }: { events: number; perTurn: number }) {
  const requestsPerTurn = Math.max(1, Math.round((perTurn / 3) * 2));
  const startAt = 1_700_000_000_000;
  const maker = new LedgerMaker({ seed: 1, proxies, requestsPerTurn, pauseMs: 500, chaos: 1, failures: 2, startAt });
  const file = createWriteStream(path, { highWaterMark: 8 * 1024 ** 2 });
  while (maker.events < events) {
    file.write(maker.next());
    if (!file.write("\n")) await new Promise<void>((resolve) => file.once("drain", () => resolve()));
  }
  await new Promise<void>((resolve) => file.end(() => resolve()));
  return { events: maker.events, commits: maker.state.commits, hours: (maker.state.at - startAt) / 3_600_000 };
}

async function verifyAlone(path: string): Promise<void> {
  const source = await openFileSource(path);
  let most = 0;
  let early = 0;
  const size = await source.size();
  const startedOn = performance.now();
  const report = await verify(source, {
    onProgress(done) {
      const rss = process.memoryUsage.rss();
      most = Math.max(most, rss);
      if (early === 0 && done > size / 10) early = rss;
    },
  });
  const ms = performance.now() - startedOn;
  const { user, system } = process.cpuUsage();
  const full = report.peaks.filter((peak) => peak.slots === peak.limit).length;
  console.log(
    `${report.events} events, ${((report.events / ms) * 1000).toFixed(0)} a second (${(ms / 1000).toFixed(1)} s, processor ${((user + system) / 1e6).toFixed(1)} s), ` +
      `${report.findingCount} findings, ${report.leases.granted} leases, ${full} exits at their limit, ` +
      `memory ${(early / 1e6).toFixed(0)} MB after a tenth, ${(most / 1e6).toFixed(0)} MB at most`,
  );
}

async function states(path: string, folder: string): Promise<void> {
  const source = await indexed(path);
  const { entries } = source;
  const checkpoints = checkpointsIn(join(folder, "states"));
  const first = entries[0]!; // A ledger has a first commit.
  let on = performance.now();
  await stateAt(source, undefined, { checkpoints });
  const marks = checkpoints.marks().length;
  console.log(`state at the end, no checkpoint yet: ${seconds(on)} s; it leaves ${marks} checkpoints`);
  let worst = 0;
  let sum = 0;
  const rounds = 10;
  for (let i = 0; i < rounds; i++) {
    const { seq } = entries[Math.floor(((i + 0.99) / rounds) * (entries.length - 1))] ?? first;
    on = performance.now();
    await stateAt(source, { sequence: seq }, { checkpoints });
    const took = (performance.now() - on) / 1000;
    worst = Math.max(worst, took);
    sum += took;
  }
  console.log(
    `state at ${rounds} moments, with checkpoints: ${(sum / rounds).toFixed(2)} s on average, ${worst.toFixed(2)} s at worst`,
  );
  await source.close();
}

/** The file with a stream's interface: any commit can be read by its sequence. */
async function indexed(
  path: string,
): Promise<LedgerSource & { entries: { seq: number; start: number; length: number }[] }> {
  const { open } = await import("node:fs/promises");
  const file = await openFileSource(path);
  const raw = await open(path);
  const entries: { seq: number; start: number; length: number }[] = [];
  let start = 0;
  for await (const batch of file.read()) {
    for (const { bytes } of batch) {
      entries.push({ seq: entries.length + 1, start, length: bytes.length });
      start += bytes.length + 1;
    }
  }
  const entryAt = async (seq: number): Promise<Entry | undefined> => {
    const place = entries[seq - 1];
    if (place === undefined) return undefined;
    const bytes = Buffer.alloc(place.length);
    await raw.read(bytes, 0, place.length, place.start);
    return { seq, storedAt: 0, line: 0, bytes };
  };
  const perRead = 256;
  return {
    entries,
    where: path,
    done: 0,
    size: async () => entries.length,
    last: () => entryAt(entries.length),
    entryAt,
    async *read({ seq } = { seq: 0 }) {
      for (let from = seq; from < entries.length; from += perRead) {
        const places = entries.slice(from, from + perRead);
        const [begin, end] = [places[0]!, places.at(-1)!]; // There is at least one.
        const piece = Buffer.alloc(end.start + end.length - begin.start);
        await raw.read(piece, 0, piece.length, begin.start);
        yield places.map((place) => {
          const at = place.start - begin.start;
          return { seq: place.seq, storedAt: 0, line: 0, bytes: piece.subarray(at, at + place.length) };
        });
      }
    },
    async close() {
      await raw.close();
      await file.close();
    },
  };
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}

const [role, path] = process.argv.slice(2);
if (role === "verify" && path !== undefined && existsSync(path)) await verifyAlone(path);
