// Verifies a ledger: every commit with the independent checker, the seal of a file, and a signed head kept elsewhere.
// It ends with a summary that a person can sign.
import { createHash, type Hash } from "node:crypto";
import type { CommitEnvelope } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { type HeadSigned, headStatement } from "../../events/head.ts";
import type { SegmentArchived } from "../../events/segment.ts";
import { Fault } from "../../runtime/fault.ts";
import type { PublicKey } from "../../runtime/signing-key.ts";
import { Checker } from "./checker/checker.ts";
import type { FileSource } from "./file-source.ts";
import { headOf } from "./history.ts";
import { type Manifest, statementOf } from "./manifest.ts";
import { isAfter, isBefore, type Moment } from "./moment.ts";
import type { LedgerSource } from "./source.ts";

/** A head kept elsewhere, as `audit head` prints it. */
export interface KeptHead {
  pool?: string;
  n: number;
  hash: string;
  keyId?: string;
  signature?: string;
}

export interface Asked {
  from?: Moment | undefined;
  to?: Moment | undefined;
  head?: KeptHead | undefined;
  publicKey?: PublicKey | undefined;
  /** Called regularly with how much of the source has been read. */
  onProgress?: ((done: number) => void) | undefined;
}

type Signed = "by this key" | "not checked" | "wrong";

/** All that was read, whatever the range. */
interface Read {
  commits: number;
  events: number;
  first: { n: number; prev: string } | undefined;
  /** It was not read to its end. */
  isCut: boolean;
  /** The last commit that is archived, if the ledger's beginning is missing here. */
  archivedTo: number;
}

interface End {
  n: number;
  sequence: number;
  at: number;
}

export type Report = Awaited<ReturnType<typeof verify>>;

/** @throws Fault "fix-setup" if there is no commit in the range. */
export async function verify(source: LedgerSource | FileSource, asked: Asked) {
  const manifest = "manifest" in source ? source.manifest : undefined;
  const begins = manifest?.first.n ?? (await source.firstNumber?.()) ?? 1;
  const checker = new Checker({ inTheMiddle: begins > 1 });
  const { model } = checker;
  const { findings, tally } = model;
  model.pool = source.pool ?? "";
  const seal = manifest === undefined ? undefined : { hash: createHash("sha256"), bytes: 0 };
  const { from, to, head } = asked;
  let first: End | undefined;
  let last: End | undefined;
  let headHash: string | undefined;
  let begun = from === undefined;
  const read: Read = { commits: 0, events: 0, first: undefined, isCut: false, archivedTo: 0 };
  const foreign = new Set<string>();
  checker.silent = !begun;

  commits: for await (const batch of source.read()) {
    for (const entry of batch) {
      seal?.hash.update(entry.bytes).update("\n");
      if (seal !== undefined) seal.bytes += entry.bytes.length + 1;
      if (read.isCut) continue; // A sealed file is read to its end.
      // The head is read twice if the range is bounded.
      const fields = from === undefined && to === undefined ? undefined : headOf(entry.bytes);
      const place = { at: fields?.at ?? 0, sequence: entry.seq === 0 ? (fields?.n ?? 0) : entry.seq };
      if (to !== undefined && fields !== undefined && isAfter(to, place)) {
        read.isCut = true;
        if (seal === undefined) break commits;
        continue;
      }
      if (!begun && from !== undefined && fields !== undefined && !isBefore(from, place)) {
        begun = true;
        checker.silent = false;
      }
      const commit = checker.check(entry);
      read.commits++;
      read.events += commit?.events.length ?? 0;
      read.first ??= commit;
      if (commit !== undefined && begins > 1 && archiving.some((each) => entry.bytes.includes(each)))
        read.archivedTo = Math.max(read.archivedTo, archivedIn(commit));
      if (asked.publicKey !== undefined && commit !== undefined && entry.bytes.includes('"HeadSigned"'))
        checkHeads(checker, commit, {
          publicKey: asked.publicKey,
          pool: model.pool || (manifest?.pool ?? ""),
          foreign,
        });
      if (asked.head !== undefined && checker.n === asked.head.n) headHash = checker.hash;
      if (begun) {
        last = { n: checker.n, sequence: entry.seq, at: commit?.at ?? model.at };
        first ??= last;
      }
      if (checker.stopped) {
        read.isCut = true;
        if (seal === undefined) break commits;
      }
    }
    asked.onProgress?.(source.done);
  }
  checker.silent = false;
  if (first === undefined && manifest === undefined) {
    const isRange = from !== undefined || to !== undefined;
    throw new Fault("fix-setup", `${source.where} has no ${isRange ? "commit in that range" : "commits"}.`);
  }
  if ("manifest" in source && manifest === undefined && asked.publicKey !== undefined && head === undefined) {
    findings.add("seal", "the file is not sealed: it does not end with a manifest");
  }

  if (manifest === undefined && read.first !== undefined && read.first.n > 1)
    checkBeginning(checker, read, read.first.n);

  const { publicKey } = asked;
  const checked = {
    ...(manifest && seal && { seal: checkSeal(checker, { manifest, seal, read, publicKey }) }),
    ...(head && { headKept: checkHead(checker, head, { found: headHash, publicKey, read }) }),
  };
  return {
    isWell: findings.count === 0,
    where: source.where,
    pool: model.pool === "" ? (manifest?.pool ?? "") : model.pool,
    /** False if the range does not begin where the ledger does. Then only its bytes were checked. */
    decisionsChecked: checker.checksDecisions,
    first,
    last,
    /** base64url SHA-256 of the last commit: the head that a signer would sign. */
    head: checker.hash,
    commits: tally.commits,
    events: tally.events,
    bytes: tally.bytes,
    leases: { granted: tally.granted, renewed: tally.renewed, open: model.openCount, closed: tally.closed },
    uses: {
      granted: tally.usesGranted,
      returned: tally.usesReturned,
      unreported: tally.usesUnreported,
      over: tally.overUses,
      late: tally.lateOutcomes,
      outcomes: tally.outcomes,
    },
    proxies: { added: tally.added, retired: tally.retired },
    rests: tally.rests,
    refused: tally.refused,
    ignored: tally.ignored,
    policies: tally.policies,
    terms: tally.terms.size,
    headsSigned: tally.headsSigned,
    /** For each exit and window the maximum in any window. */
    peaks: [...tally.peaks.values()].flat().sort((a, b) => b.slots / b.limit - a.slots / a.limit || b.slots - a.slots),
    ...checked,
    findings: findings.listed,
    findingCount: findings.count,
    findingsByRule: findings.byRule,
    /** Before the range: counted, and not listed. */
    findingsBefore: findings.silenced,
    notices: findings.notices,
    noticeCount: findings.noticeCount,
  };
}

/** The ledger itself says what was moved to the archive. */
function checkBeginning({ model }: Checker, { archivedTo }: Read, n: number): void {
  const { findings } = model;
  if (archivedTo >= n - 1) {
    const where = "Run this where the archive is, or set REMUDA_ARCHIVE_DIR";
    findings.notice("archive", `commits 1 to ${n - 1} are archived, and not in an archive here. ${where}`);
  } else findings.add("number", `the ledger begins with commit ${n}: the ${n - 1} before it are missing`);
}

/** The events that say up to which commit (`last`) the ledger is archived, as they are in its bytes. */
const archiving = ['"SegmentArchived"', '"LedgerRestored"'];

function archivedIn({ events }: CommitEnvelope): number {
  const ends = (events as Event[]).map((event) =>
    archiving.includes(`"${event?.type}"`) ? (event as SegmentArchived).last : 0,
  );
  return Math.max(0, ...ends.filter(Number.isSafeInteger));
}

function checkSeal(
  checker: Checker,
  given: { manifest: Manifest; seal: { hash: Hash; bytes: number }; read: Read; publicKey: PublicKey | undefined },
): { keyId: string; sealedAt: number; isValid: boolean; isSigned: Signed } {
  const { manifest, seal, publicKey, read } = given;
  const { findings, pool } = checker.model;
  const place = { n: checker.n, sequence: 0, line: checker.line + 1, at: manifest.last.at };
  const before = findings.count;
  const isSigned =
    publicKey === undefined
      ? "not checked"
      : publicKey.verifies(statementOf(manifest), manifest.signature)
        ? "by this key"
        : "wrong";
  if (isSigned === "wrong") {
    const whose =
      publicKey?.id === manifest.keyId
        ? "the manifest was changed"
        : `it is signed by ${manifest.keyId}, and this key is ${publicKey?.id}`;
    findings.add("seal", `the seal is not of this key: ${whose}`, place);
  }
  const begins = read.first;
  if (begins !== undefined && begins.n !== manifest.first.n) {
    const sealed = `commit ${manifest.first.n} was sealed as the first`;
    findings.add("seal", `the file begins with commit ${begins.n}, and ${sealed}`, place);
  } else if (begins !== undefined && begins.prev !== manifest.prev)
    findings.add("seal", "the first commit does not follow the one that the seal names", place);
  if (pool !== "" && pool !== manifest.pool)
    findings.notice("seal", `the file is of the pool ${pool}, and sealed as ${manifest.pool}`);
  const sha256 = seal.hash.digest("base64url");
  if (sha256 !== manifest.sha256 || seal.bytes !== manifest.bytes) {
    findings.add(
      "seal",
      `the bytes are not those that were sealed (${seal.bytes} bytes, sealed ${manifest.bytes})`,
      place,
    );
  }
  if (!read.isCut) {
    if (read.events !== manifest.events)
      findings.add("seal", `the file has ${read.events} events, and ${manifest.events} were sealed`, place);
    if (read.commits !== manifest.commits)
      findings.add("seal", `the file has ${read.commits} commits, and ${manifest.commits} were sealed`, place);
    if (checker.n !== manifest.last.n || checker.hash !== manifest.head) {
      findings.add(
        "seal",
        `the file ends with commit ${checker.n}, and commit ${manifest.last.n} was sealed as the last`,
        place,
      );
    }
  }
  return { keyId: manifest.keyId, sealedAt: manifest.sealedAt, isValid: findings.count === before, isSigned };
}

/** Heads in the ledger itself. Each picker has its own key, so a head by another key is not an error. */
function checkHeads(
  checker: Checker,
  { events }: CommitEnvelope,
  { publicKey, pool, foreign }: { publicKey: PublicKey; pool: string; foreign: Set<string> },
): void {
  const { findings } = checker.model;
  const isHead = (event: Event): event is HeadSigned =>
    event?.type === "HeadSigned" && typeof event.signature === "string";
  const heads = (events as Event[]).filter(isHead);
  for (const { n, hash, keyId, signature } of heads) {
    if (keyId !== publicKey.id) {
      if (!foreign.has(keyId) && !findings.silent) {
        foreign.add(keyId);
        findings.notice("head", `heads signed by ${keyId}, which is not the key given, are not checked`);
      }
    } else if (!publicKey.verifies(headStatement({ pool, n, hash }), signature))
      findings.add("head", `the head of commit ${n} is not signed by ${keyId}, as it says`);
  }
}

/** `isOutside`: the part that was read ends before it, or begins after it. */
function checkHead(
  checker: Checker,
  head: KeptHead,
  given: { found: string | undefined; publicKey: PublicKey | undefined; read: Read },
): { n: number; isThere: boolean; isOutside?: true; isSigned: Signed } {
  const { publicKey, read } = given;
  const { findings } = checker.model;
  const pool = head.pool ?? checker.model.pool;
  // The first commit of a part names the hash of the one before it.
  const found = given.found ?? (read.first?.n === head.n + 1 && head.n > 0 ? read.first.prev : undefined);
  const isOutside =
    (read.isCut && checker.n < head.n) || (!checker.checksDecisions && (read.first?.n ?? 0) > head.n + 1);
  let isSigned: Signed = "not checked";
  if (publicKey !== undefined) {
    isSigned =
      head.signature !== undefined &&
      publicKey.verifies(headStatement({ pool, n: head.n, hash: head.hash }), head.signature)
        ? "by this key"
        : "wrong";
  }
  if (isSigned === "wrong") findings.add("head", `the kept head of commit ${head.n} is not signed by this key`);
  if (head.pool !== undefined && checker.model.pool !== "" && head.pool !== checker.model.pool) {
    findings.add("head", `the kept head is of the pool ${head.pool}, and this ledger is of ${checker.model.pool}`);
  }
  if (isOutside) return { n: head.n, isThere: false, isOutside, isSigned };
  if (found === undefined && checker.n > head.n) {
    findings.add("head", `commit ${head.n}, whose head was signed, is missing`);
  } else if (found === undefined) {
    findings.add(
      "tail",
      `the ledger ends with commit ${checker.n}, and a head of commit ${head.n} was signed: its end has been cut off`,
    );
  } else if (found !== head.hash) {
    findings.add(
      "head",
      `commit ${head.n} is not the one whose head was signed: it, or something before it, was changed`,
    );
  }
  return { n: head.n, isThere: found === head.hash, isSigned };
}
