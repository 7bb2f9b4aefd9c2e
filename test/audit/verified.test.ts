// A verification's statements about ranges, seals and signed heads: true of the requested part, and never more than is
// known.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { headStatement } from "../../events/head.ts";
import { hashOf } from "../../runtime/loop.ts";
import { loadSigningKey, readPublicKey } from "../../runtime/signing-key.ts";
import { openFileSource } from "../../services/audit/file-source.ts";
import { seal } from "../../services/audit/seal.ts";
import { type Asked, type Report, verify } from "../../services/audit/verify.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";

const ledger = makeLedger(200, { chaos: 0, proxies: 4 });
let folder: string;
let whole: string;
let half: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "audit-test-"));
  const key = loadSigningKey(folder);
  whole = join(folder, "whole.ndjson");
  half = join(folder, "half.ndjson");
  await seal(sourceOf(ledger), { pool: "default", output: whole, key, now: 1_700_000_000_000 });
  await seal(sourceOf(ledger), { pool: "default", output: half, from: { sequence: 201 }, key, now: 1_700_000_000_000 });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function verifiedFile(path: string, asked: Asked = {}): Promise<Report> {
  const source = await openFileSource(path);
  try {
    return await verify(source, asked);
  } finally {
    await source.close();
  }
}

const told = ({ findings }: Report): string[] => findings.map(({ rule, what }) => `${rule}: ${what}`);

test("refuses a range without a commit, because nothing was checked", async () => {
  const none = "memory has no commit in that range";
  await expect(verify(sourceOf(ledger), { from: { sequence: 300 }, to: { sequence: 200 } })).rejects.toThrow(none);
  await expect(verify(sourceOf(ledger), { from: { sequence: 401 } })).rejects.toThrow(none);
  await expect(verify(sourceOf(ledger), { to: { at: 5 } })).rejects.toThrow(none);
  await expect(verify(sourceOf([]), {})).rejects.toThrow("memory has no commits");
});

test("reports a file with fewer commits than sealed by their number, and another end by its hash", async () => {
  const lines = readFileSync(whole, "utf8").trimEnd().split("\n");
  const spoilt = join(folder, "fewer.ndjson");
  writeFileSync(spoilt, lines.toSpliced(50, 1).join("\n"));
  expect(told(await verifiedFile(spoilt))).toContain("seal: the file has 199 commits, and 200 were sealed");
  expect(told(await verifiedFile(spoilt)).join("\n")).not.toContain("the file ends with");
  writeFileSync(spoilt, lines.toSpliced(199, 1).join("\n"));
  expect(told(await verifiedFile(spoilt))).toContain(
    "seal: the file ends with commit 199, and commit 200 was sealed as the last",
  );
});

test("reports commits of another version as such", async () => {
  const later = ledger.map((bytes) => Buffer.from(bytes.toString().replace('{"v":2,', '{"v":3,')));
  const { findings } = await verify(sourceOf(later), {});
  expect(findings).toHaveLength(200);
  expect(findings[7]).toMatchObject({ rule: "unreadable", n: 8 });
  expect(findings[7]?.what).toBe("this commit is of version 3, and this program reads version 2");
});

test("does not list findings before the range, but counts them", async () => {
  const { index, place } = findEvent(ledger, (event) => event["type"] === "UseReported", 20);
  const forged = forge(ledger, index, ({ events }) => Object.assign(events[place] as object, { target: 7 }));
  const report = await verify(sourceOf(forged), { from: { sequence: 2 * (index + 2) } });
  expect(report.findingsBefore).toBeGreaterThan(0);
  expect((await verify(sourceOf(ledger), { from: { sequence: 100 } })).findingsBefore).toBe(0);
});

test("checks a part of a sealed file as a part, and its seal as a whole", async () => {
  const from = await verifiedFile(whole, { from: { sequence: 100 } });
  expect(from).toMatchObject({ isWell: true, commits: 101, seal: { isValid: true } });
  const to = await verifiedFile(whole, { to: { sequence: 100 } });
  expect(to).toMatchObject({ isWell: true, commits: 100 });
  const middle = await verifiedFile(half, { from: { sequence: 150 } });
  expect(middle).toMatchObject({ isWell: true, commits: 51, seal: { isValid: true } });
});

test("checks a seal to the last byte, however small the requested part", async () => {
  const { index, place } = findEvent(ledger, (event) => event["latencyMs"] !== undefined, 20);
  const forged = forge(ledger, index, ({ events }) => Object.assign(events[place] as object, { latencyMs: 1 }));
  const spoilt = join(folder, "spoilt.ndjson");
  const manifest = readFileSync(whole, "utf8").trimEnd().split("\n").at(-1)!;
  writeFileSync(spoilt, `${forged.join("\n")}\n${manifest}\n`);
  for (const asked of [{ to: { sequence: 100 } }, { from: { sequence: 300 } }, { to: { sequence: 2 } }]) {
    expect(told(await verifiedFile(spoilt, asked))).toContainEqual(
      expect.stringMatching(/^seal: the bytes are not those that were sealed/),
    );
  }
});

test("reports a head outside the part that was read as neither found nor missing", async () => {
  const headOf = (n: number) => ({ pool: "default", n, hash: hashOf(ledger[n - 1]!) });
  const before = await verifiedFile(half, { head: headOf(50) });
  expect(before).toMatchObject({ isWell: true, headKept: { isThere: false, isOutside: true } });
  const after = await verify(sourceOf(ledger), { head: headOf(150), to: { sequence: 200 } });
  expect(after).toMatchObject({ isWell: true, headKept: { isThere: false, isOutside: true } });
  // The hash of the commit before the file's first is known.
  expect(await verifiedFile(half, { head: headOf(100) })).toMatchObject({ isWell: true, headKept: { isThere: true } });
  const other = { ...headOf(100), hash: hashOf(ledger[0]!) };
  expect(told(await verifiedFile(half, { head: other }))).toEqual([expect.stringMatching(/^head: commit 100 is not/)]);
});

test("reports a removed commit with a signed head as missing, and not the end as cut off", async () => {
  const head = { pool: "default", n: 150, hash: hashOf(ledger[149]!) };
  const report = await verify(sourceOf(ledger.toSpliced(149, 1)), { head });
  expect(told(report)).toContainEqual(expect.stringMatching(/^head: commit 150, whose head was signed, is missing$/));
  expect(told(report).join()).not.toContain("cut off");
});

test("detects a false manifest without a key, as far as the file itself tells", async () => {
  const text = readFileSync(whole, "utf8");
  const spoilt = join(folder, "spoilt.ndjson");
  const lie = async (change: (manifest: Record<string, unknown>) => void): Promise<string[]> => {
    const lines = text.trimEnd().split("\n");
    const manifest = JSON.parse(lines.at(-1)!) as Record<string, unknown>;
    change(manifest);
    writeFileSync(spoilt, `${lines.with(-1, JSON.stringify(manifest)).join("\n")}\n`);
    const report = await verifiedFile(spoilt);
    // A file with the ledger's first commit is checked, whatever its manifest says.
    expect(report.decisionsChecked).toBe(true);
    return told(report);
  };
  expect(await lie(() => {})).toEqual([]);
  expect(await lie((manifest) => Object.assign(manifest, { first: { n: 2, sequence: 4, at: 1 } }))).toEqual([
    expect.stringMatching(/^seal: .*begins with commit 1, and commit 2 was sealed as the first/),
  ]);
  expect(await lie((manifest) => Object.assign(manifest, { events: 1 }))).toEqual([
    expect.stringMatching(/^seal: .* events, and 1 were sealed/),
  ]);
  expect(await lie((manifest) => Object.assign(manifest, { prev: "x" }))).toEqual([
    expect.stringMatching(/^seal: .*first commit/),
  ]);
});

test("detects a line inserted in or added to a sealed file, even an empty one", async () => {
  const text = readFileSync(whole, "utf8");
  const spoilt = join(folder, "spoilt.ndjson");
  const publicKey = readPublicKey(loadSigningKey(folder).publicKey, "the key");
  const place = text.indexOf("\n", text.length >> 1);
  for (const changed of [`${text.slice(0, place)}\n${text.slice(place)}`, `\n${text}`, `${text}\n`, `${text}x`]) {
    writeFileSync(spoilt, changed);
    expect((await verifiedFile(spoilt, { publicKey })).isWell).toBe(false);
  }
});

test("checks heads in the ledger with the given key, and reports those of other keys", async () => {
  const key = loadSigningKey(folder);
  const publicKey = readPublicKey(key.publicKey, "the key");
  const other = loadSigningKey(mkdtempSync(join(folder, "other-")));
  const signedBy = (signer: typeof key, keyId = signer.id, pool = "default"): Buffer[] =>
    forge(ledger, 120, (commit) => {
      const head = { n: 120, hash: hashOf(ledger[119]!) };
      const signature = signer.sign(headStatement({ pool, ...head }));
      commit.events.push({ type: "HeadSigned", ...head, keyId, signature, inert: true });
    });
  expect(await verify(sourceOf(signedBy(key)), { publicKey })).toMatchObject({ isWell: true, noticeCount: 0 });
  const foreign = await verify(sourceOf(signedBy(other)), { publicKey });
  expect(foreign).toMatchObject({ isWell: true, notices: [{ rule: "head", n: 121 }] });
  expect(foreign.notices[0]?.what).toContain(other.id);
  for (const forged of [signedBy(other, key.id), signedBy(key, key.id, "elsewhere")]) {
    const report = await verify(sourceOf(forged), { publicKey });
    expect(report.findings).toMatchObject([{ rule: "head", n: 121, sequence: 242 }]);
    expect(report.findings[0]?.what).toContain("is not signed by");
  }
  expect((await verify(sourceOf(signedBy(other)), {})).noticeCount).toBe(0);
});
