// `remuda audit what-if`: the recorded lease requests under another policy, compared with the recorded results.

import { type Command, InvalidArgumentError, Option } from "commander";
import { waitMsMax } from "../protocol/lease.ts";
import { printable, showInstant } from "../runtime/text.ts";
import { type WhatIf, whatIf } from "../services/audit/what-if/what-if.ts";
import { readDuration } from "./arguments.ts";
import { type AuditOptions, type AuditPorts, rangeCommand } from "./audit-options.ts";
import { readDocument } from "./files.ts";
import { print, printJson, showDuration, Table } from "./output.ts";

type WhatIfOptions = AuditOptions & { policy: string; wait: number };

export function addAuditWhatIf(audit: Command, { readLedger }: AuditPorts): void {
  rangeCommand(audit, "what-if", "replay the recorded requests under another policy, and compare the results")
    .requiredOption("--policy <policy>", "a partial policy to merge over the recorded one: JSON, or a file")
    .addOption(
      new Option("--wait <duration>", "how long a lease request waits for a proxy (at most 60s)")
        .argParser(readWait)
        .default(waitMsMax, "60s"),
    )
    .action(async (options: WhatIfOptions) => {
      const policy = await readDocument(options.policy);
      const { from, to, wait: waitMs } = options;
      const result = await readLedger(options, "deciding", (source, onProgress) =>
        whatIf(source, { policy, from, to, waitMs, onProgress }),
      );
      if (options.json) printJson(result);
      else show(result);
      if (!result.reproduced.isExact) process.exitCode = 1;
    });
}

function readWait(text: string): number {
  const ms = readDuration(text);
  if (ms <= waitMsMax) return ms;
  throw new InvalidArgumentError(`It must be at most ${waitMsMax / 1000}s.`);
}

function show(result: WhatIf): void {
  const { from, to, reproduced, same, record, other } = result;
  if (from !== undefined && to !== undefined) {
    print(`commits ${from.n} to ${to.n}, ${showInstant(from.at)} to ${showInstant(to.at)}`);
  }
  const rows: Row[] = [
    ["leases granted", record.leases, other.leases],
    ["uses granted", record.uses, other.uses],
    ["uses returned", record.usesReturned, other.usesReturned],
    ["uses not made", "–", other.usesNotMade],
    ["leases expired", record.expired, other.expired],
    ...both("refused", record.refused, other.refused),
    ["requests that waited", "not recorded", other.waited.requests],
    ["… and got a lease", "", `${other.waited.granted}, after ${averageOf(other.waited)}`],
    ["… and still wait", "", other.waited.stillWaiting],
    ...both("outcomes", record.outcomes, other.outcomes),
    ...both("rests", record.rests, other.rests),
    ["fullest window", fullestOf(record), fullestOf(other)],
    ["full windows", record.windowsFull, other.windowsFull],
    ["over a limit", record.overLimit, other.overLimit],
  ];
  new Table(["", "RECORDED", "WHAT IF"]).print(rows);
  const { isExact, events, difference } = reproduced;
  if (isExact) {
    print(`The record was decided again: all ${events} events came out as recorded.`);
    print(
      same.commits === same.of
        ? `Under this policy every commit would have been the same (${same.of}).`
        : `Under this policy ${same.commits} of ${same.of} commits would have been the same.`,
    );
  } else if (difference !== undefined) {
    print(`This program would have decided commit ${difference.n} differently, so the comparison ends before it:`);
    print(printable(`  recorded ${difference.recorded}`));
    print(printable(`  decided  ${difference.decided}`));
  }
  print("Assumptions:");
  for (const assumption of result.assumptions) print(`  ${assumption}`);
}

type Row = [what: string, recorded: string | number, other: string | number];

function both(what: string, a: Record<string, number>, b: Record<string, number>): Row[] {
  const words = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  if (words.length === 0) return [[what, 0, 0]];
  return words.map((word) => [`${what}: ${word}`, a[word] ?? 0, b[word] ?? 0]);
}

function averageOf({ granted, totalMs, longestMs }: WhatIf["other"]["waited"]): string {
  if (granted === 0) return "–";
  return `${showDuration(totalMs / granted)} on average, ${showDuration(longestMs)} at most`;
}

function fullestOf({ fullest }: WhatIf["record"]): string {
  return fullest === undefined ? "–" : `${fullest.slots} of ${fullest.limit} in ${fullest.windowMs} ms`;
}
