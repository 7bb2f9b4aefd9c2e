// `remuda audit verify`: checks that the ledger is whole, and that every decision kept the policy in force at the time.
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { Fault } from "../runtime/fault.ts";
import { type PublicKey, readPublicKey } from "../runtime/signing-key.ts";
import type { Finding } from "../services/audit/checker/finding.ts";
import type { Moment } from "../services/audit/moment.ts";
import { type KeptHead, type Report, verify } from "../services/audit/verify.ts";
import { type AuditOptions, type AuditPorts, ledgerCommand, readMomentOption } from "./audit-options.ts";
import { readDocument } from "./files.ts";
import { print, printable, printJson, showInstant } from "./output.ts";

type VerifyOptions = AuditOptions & { from?: Moment; to?: Moment; head?: string; publicKey?: string };

const findingsShown = 50;
const peaksShown = 10;

export function addAuditVerify(audit: Command, { readLedger }: AuditPorts): void {
  ledgerCommand(audit, "verify", "check the whole ledger, independently of the service; exit 1 if anything is wrong")
    .option("--from <moment>", "tell of the range from here; what was before is checked in silence", readMomentOption)
    .option("--to <moment>", "up to here", readMomentOption)
    .option("--head <head>", 'a signed head kept elsewhere ("remuda audit head" prints it): JSON, or a file')
    .option("--public-key <file>", 'whose seal and head it must be ("remuda audit key" prints it)')
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
    '--head is no signed head (expected {"n": …, "hash": "…", "signature": "…"}, as "remuda audit head" prints it)',
  );
}

function keyIn(path: string): PublicKey {
  try {
    return readPublicKey(readFileSync(path, "utf8"), path);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("fix-setup", `${path} cannot be read (${(cause as NodeJS.ErrnoException).code}).`, { cause });
  }
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
  if (report.decisionsJudged) {
    line(
      "leases",
      `${leases.granted} granted, ${leases.renewed} renewed, ${words(leases.closed)}; ${leases.open} open at the end`,
    );
    line(
      "uses",
      `${uses.granted} granted, ${uses.returned} returned, ${uses.unreported} never reported, ${uses.over} beyond those granted`,
    );
    line("outcomes", words(uses.outcomes));
    line("proxies", `${proxies.added} added, ${proxies.retired} retired`);
    line("rests", words(report.rests));
    line("refused", words(report.refused));
    for (const [i, peak] of peaks.slice(0, peaksShown).entries()) {
      const most = `${peak.slots} of ${peak.limit} in ${peak.windowMs} ms (the target saw at most ${peak.seen})`;
      line(i === 0 ? "maxima" : "", `${peak.exit}: ${most}, commit ${peak.n}, ${showInstant(peak.at)}`);
    }
    const full = peaks.filter((peak) => peak.slots >= peak.limit).length;
    if (peaks.length > peaksShown)
      line("", `… of ${peaks.length} exits and windows, ${full} at their limit (--json has all)`);
  } else line("decisions", "not judged: the file does not begin where the ledger does. Its bytes are.");
  if (report.seal !== undefined) {
    const { isSigned, keyId, sealedAt } = report.seal;
    const who = {
      "by this key": "which is the public key given",
      "not checked": "not checked: give --public-key",
      wrong: "NOT by the public key given",
    };
    line("seal", `by ${keyId} at ${showInstant(sealedAt)}, ${who[isSigned]}`);
  }
  if (report.headKept !== undefined) {
    const { n, isThere, isOutside, isSigned } = report.headKept;
    const where = isOutside
      ? "is outside of what was read, so nothing is said of it"
      : isThere
        ? "is there, as it was signed"
        : "is NOT there as it was signed";
    line("head kept", `commit ${n} ${where} (signature ${isSigned})`);
  }
  if (report.findingsBefore > 0)
    line("before", `${report.findingsBefore} wrong before this range: verify without --from tells what`);
  showAll("notices", report.notices, report.noticeCount);
  showAll("wrong", report.findings, report.findingCount);
  print(
    report.isWell
      ? `Nothing is wrong${report.findingsBefore > 0 ? " in this range" : ""}.`
      : `${report.findingCount} ${report.findingCount === 1 ? "thing is" : "things are"} wrong.`,
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
  ].join(", ");
  const follows = afterDamage ? " (perhaps only because of what was found before)" : "";
  // If the first commit cannot be read, its time is unknown.
  const when = at === 0 ? "" : `, ${showInstant(at)}`;
  return printable(`${place}${when}: ${rule}: ${what}${follows}`);
}

function words(counts: Record<string, number>): string {
  const all = Object.entries(counts).map(([word, count]) => `${count} ${word}`);
  return all.length === 0 ? "none" : all.join(", ");
}
