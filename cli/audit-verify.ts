// `remuda audit verify`: checks that the ledger is whole, and that every decision kept the policy in force at the time.

import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { cannotRead, Fault } from "../runtime/fault.ts";
import { type PublicKey, readPublicKey } from "../runtime/signing-key.ts";
import { counted, countNames, printable, showInstant } from "../runtime/text.ts";
import type { Finding } from "../services/audit/checker/finding.ts";
import { type KeptHead, type Report, verify } from "../services/audit/verify.ts";
import { type AuditOptions, type AuditPorts, rangeCommand } from "./audit-options.ts";
import { readDocument } from "./files.ts";
import { print, printJson } from "./output.ts";

type VerifyOptions = AuditOptions & { head?: string; publicKey?: string };

const findingsShown = 50;
const peaksShown = 10;

export function addAuditVerify(audit: Command, { readLedger }: AuditPorts): void {
  rangeCommand(
    audit,
    "verify",
    "check the whole ledger, independently of the service; exit code 1 if anything is wrong",
  )
    .option("--head <head>", 'a signed head that you kept ("remuda audit head" prints it): JSON, or a file')
    .option("--public-key <file>", 'the public key of the seal and the heads ("remuda audit key" prints it)')
    .addHelpText("after", "\n--from and --to bound the report. Events before --from are checked as well.")
    .action(async (options: VerifyOptions) => {
      const head = options.head === undefined ? undefined : headIn(await readDocument(options.head));
      const publicKey = options.publicKey === undefined ? undefined : keyIn(options.publicKey);
      const { from, to } = options;
      const report = await readLedger(options, "verifying", (source, onProgress) =>
        verify(source, { from, to, head, publicKey, onProgress }),
      );
      if (options.json) printJson(report);
      else show(report);
      if (!report.isWell) process.exitCode = 1;
    });
}

function headIn(document: object): KeptHead {
  const head = document as Partial<KeptHead>; // Checked here.
  if (Number.isSafeInteger(head.n) && typeof head.hash === "string") return head as KeptHead;
  throw new Fault(
    "fix-setup",
    '--head: not a signed head. Give {"n": …, "hash": "…", "signature": "…"}, as "remuda audit head" prints it.',
  );
}

function keyIn(path: string): PublicKey {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw cannotRead(path, cause);
  }
  return readPublicKey(text, path);
}

function show(report: Report): void {
  const { first, last, leases, uses, proxies, peaks } = report;
  const line = (name: string, text: string): void => print(`${name.padEnd(12)}${printable(text)}`);
  line(
    "ledger",
    `${report.where}${report.pool === "" || report.where.includes(report.pool) ? "" : `, pool ${report.pool}`}`,
  );
  if (first !== undefined && last !== undefined) {
    line(
      "range",
      `commits ${first.n} to ${last.n}${first.sequence === 0 ? "" : `, sequences ${first.sequence} to ${last.sequence}`}`,
    );
    line("", `${showInstant(first.at)} to ${showInstant(last.at)}`);
  }
  line("head", `${report.head} (SHA-256 of the last commit)`);
  line(
    "commits",
    `${report.commits} with ${report.events} events, ${report.bytes} bytes; ${report.terms} claims, ${report.policies} policies`,
  );
  if (report.decisionsChecked) {
    line(
      "leases",
      `${leases.granted} granted, ${leases.renewed} renewed, ${countNames(leases.closed)}; ${leases.open} open at the end`,
    );
    line(
      "uses",
      `${uses.granted} granted, ${uses.returned} returned, ${uses.unreported} never reported, ${uses.over} beyond those granted`,
    );
    line("outcomes", countNames(uses.outcomes));
    line("proxies", `${proxies.added} added, ${proxies.retired} retired`);
    line("rests", countNames(report.rests));
    line("refused", countNames(report.refused));
    for (const [i, peak] of peaks.slice(0, peaksShown).entries()) {
      const most = `${peak.slots} of ${peak.limit} in ${peak.windowMs} ms (the target saw at most ${peak.seen})`;
      line(i === 0 ? "maxima" : "", `${peak.exit}: ${most}, commit ${peak.n}, ${showInstant(peak.at)}`);
    }
    const full = peaks.filter((peak) => peak.slots >= peak.limit).length;
    if (peaks.length > peaksShown)
      line("", `… of ${peaks.length} exits and windows, ${full} at their limit (--json lists all)`);
  } else
    line("decisions", "not checked, because the file does not begin where the ledger does. Its bytes are checked.");
  if (report.seal !== undefined) {
    const { isSigned, keyId, sealedAt } = report.seal;
    const checked = {
      "by this key": "which is the given public key",
      "not checked": "not checked: give --public-key",
      wrong: "NOT by the given public key",
    };
    line("seal", `by ${keyId} at ${showInstant(sealedAt)}, ${checked[isSigned]}`);
  }
  if (report.headKept !== undefined) {
    const { n, isThere, isOutside, isSigned } = report.headKept;
    const where = isOutside
      ? "is outside of the part that was read, and is not checked"
      : isThere
        ? "is as it was signed"
        : "is NOT as it was signed";
    line("kept head", `commit ${n} ${where} (signature ${isSigned})`);
  }
  if (report.findingsBefore > 0)
    line("before", `${report.findingsBefore} findings before this range: verify without --from lists them`);
  showAll("notices", report.notices, report.noticeCount);
  showAll("wrong", report.findings, report.findingCount);
  print(
    report.isWell
      ? `Nothing is wrong${report.findingsBefore > 0 ? " in this range" : ""}.`
      : `${counted(report.findingCount, "thing is", "things are")} wrong.`,
  );
}

function showAll(name: string, findings: readonly Finding[], count: number): void {
  if (count === 0) return;
  print(`${name}:`);
  for (const finding of findings.slice(0, findingsShown)) print(`  ${sentence(finding)}`);
  if (count > findingsShown) print(`  … and ${count - findingsShown} more`);
}

function sentence({ rule, n, sequence, line, at, what, afterDamage }: Finding): string {
  const place = [
    `commit ${n}`,
    ...(sequence === 0 ? [] : [`sequence ${sequence}`]),
    ...(line === 0 ? [] : [`line ${line}`]),
    ...(at === 0 ? [] : [showInstant(at)]), // Unknown if the first commit cannot be read.
  ].join(", ");
  return printable(`${place}: ${rule}: ${what}${afterDamage ? " (possibly a consequence of earlier damage)" : ""}`);
}
