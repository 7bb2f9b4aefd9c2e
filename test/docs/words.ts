// Lists of words: the refusals with their numbers, the events with their fields, the metrics of pools.
import type { z } from "zod";
import { eventSchemas } from "../../events/event.ts";
import { fieldsOf } from "../../events/field.ts";
import { type exitRuleNames, limitNames, type RefusalWord, refusalNumbers } from "../../events/refusal.ts";
import type { MetricsReply } from "../../protocol/metrics.ts";
import { poolFamilies } from "../../services/api/pool-metrics.ts";
import { columns } from "../../services/audit/columns.ts";
import { exitRules } from "../../state-machines/rules/exit.ts";
import { code, showTable } from "./markdown.ts";

export function refusalTable(): string {
  const reasons: Record<RefusalWord, string> = {
    "invalid-request": "the request is wrong; `field` names the field",
    forbidden: "the role of the user does not allow it (HTTP)",
    "no-match": "no proxy of the pool has these labels and schemes, resting or not",
    "unknown-pool": "the pool is not open",
    "unknown-lease": "the lease has ended, never existed, or belongs to another user",
    "unknown-proxy": "the pool has no proxy with this id",
    "no-token-source": "the policy has no source of guest tokens",
    "too-large": "the request is larger than 512 KB",
    "pool-exhausted": "no matching proxy can be leased now; `limitedBy` says why",
    overloaded: "a queue is full, or another bound is reached",
    unavailable: "the pool has no leader that can store commits, or its ledger is nearly full",
    "token-unavailable": "there is no guest token now",
  };
  const rows = Object.entries(reasons).map(([word, reason]) => [
    code(word),
    String(refusalNumbers[word as RefusalWord]),
    reason,
  ]);
  return showTable(["code", "number", "reason"], rows);
}

/** The fields of `limitedBy`: those of the exit rules come from their objects, the others are here. */
export function limitTable(): string {
  const others: Record<Exclude<(typeof limitNames)[number], (typeof exitRuleNames)[number]>, [string, string]> = {
    rest: ["rests", "proxies that rest (cooldown), or whose exit rests"],
    exclude: ["", "proxies that the request excludes"],
    session: ["sessions", "all proxies but the session's"],
    holder: ["holders", "all matching proxies, if the holder has its maximum of open leases; otherwise absent"],
  };
  const rows = [
    ...exitRules.map(({ name, holdsBack }) => [`[${code(name)}](rules/${name}.md)`, holdsBack]),
    ...Object.entries(others).map(([name, [page, what]]) => [
      page === "" ? code(name) : `[${code(name)}](rules/${page}.md)`,
      what,
    ]),
  ];
  return showTable(["rule", "holds back"], rows);
}

export function eventList(): string {
  return Object.entries(eventSchemas)
    .map(([name, schema]) => `### ${name}\n\n${fieldTable(schema)}`)
    .join("\n\n");
}

function fieldTable(schema: z.ZodObject): string {
  const rows = fieldsOf(schema)
    .filter(({ name }) => name !== "type")
    .map(({ name, isRequired, type, description }) => [code(isRequired ? name : `${name}?`), code(type), description]);
  return showTable(["field", "type", ""], rows);
}

/** Of the table of events, in lines of bounded length. */
export function columnList(): string {
  const lines: string[] = [];
  for (const name of Object.keys(columns)) {
    const line = `${lines.at(-1) ?? ""} ${code(name)}`.trim();
    if (lines.length > 0 && line.length <= 118) lines[lines.length - 1] = line;
    else lines.push(code(name));
  }
  return lines.join("\n");
}

export function poolMetrics(): string {
  const rows = poolFamilies([everything], ["default"], ["default"]).map(({ name, type, help, samples }) => {
    const labels = Object.keys(Object.assign({}, ...samples.map((sample) => sample.labels))).filter((l) => l !== "le");
    return [code(name), type, labels.map(code).join(", "), help];
  });
  return showTable(["metric", "type", "labels", ""], rows);
}

const histogram = { le: [1], counts: [0, 0], sum: 0 };

/** A reply in which nothing is empty, so that every label is seen. */
const everything: MetricsReply = {
  stats: {
    pool: "default",
    at: 0,
    sequence: 1,
    commits: 1,
    proxies: { available: 0, "in-use": 0, cooling: 0, exhausted: 0, retired: 0, leasable: 0 },
    leases: { open: 0, granted: 0, expired: 0 },
    outcomes: { succeeded: 0, failed: 0, neutral: 0, ignored: 0 },
    refused: { overloaded: 1 },
    waiting: 0,
    leader: { id: "", term: 1 },
  },
  heldBack: Object.fromEntries(limitNames.map((name) => [name, 0])) as MetricsReply["heldBack"], // All names.
  rejected: { unavailable: 1 },
  cancelled: 0,
  waitMs: { granted: histogram, refused: histogram },
  commitMs: histogram,
  eventsPerCommit: histogram,
  answersPerCommit: histogram,
  ambiguousAttempts: 0,
  defects: 0,
  outcomeLagMs: 0,
  stallMs: histogram,
};
