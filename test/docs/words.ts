// Lists of words: the refusals with their numbers, the events with their fields, the metrics of pools.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { refusalNumbers } from "../../events/refusal.ts";
import type { MetricsReply } from "../../protocol/metrics.ts";
import { poolFamilies } from "../../services/api/pool-metrics.ts";
import { code, showTable } from "./markdown.ts";

export function refusalTable(): string {
  const rows = Object.entries(refusalNumbers).map(([word, number]) => [code(word), String(number)]);
  return showTable(["code", "number"], rows);
}

interface Field {
  name: string;
  optional: boolean;
  type: string;
  note: string;
}

/** From the source, since types are gone when a program runs. */
export function eventList(root: string): string {
  const source = readFileSync(join(root, "events/event.ts"), "utf8");
  const union = /export type Event =([^;]*);/.exec(source)?.[1] ?? "";
  const names = [...union.matchAll(/\| (\w+)/g)].map(([, name = ""]) => name);
  if (names.length === 0) throw new Error("events/event.ts: the union of events cannot be read");
  return names.map((name) => showEvent(name, fieldsOf(root, source, name))).join("\n\n");
}

function showEvent(name: string, fields: readonly Field[]): string {
  const rows = fields.map(({ name, optional, type, note }) => [code(optional ? `${name}?` : name), code(type), note]);
  return `### ${name}\n\n${rows.length === 0 ? "No fields." : showTable(["field", "type", ""], rows)}`;
}

function fieldsOf(root: string, source: string, name: string): Field[] {
  const file = new RegExp(`import type \\{[^}]*\\b${name}\\b[^}]*\\} from "([^"]+)"`).exec(source)?.[1];
  if (file === undefined) throw new Error(`events/event.ts: where does ${name} come from?`);
  const text = readFileSync(join(root, dirname("events/event.ts"), file), "utf8");
  const body = new RegExp(`export interface ${name} \\{\\n(.*?)\\n\\}`, "s").exec(text)?.[1];
  if (body === undefined) throw new Error(`events/${file}: has no interface ${name}`);
  const fields: Field[] = [];
  const left = body.replaceAll(field, (_all, note = "", name: string, mark: string | undefined, type: string) => {
    const told = type.replaceAll(/\s+/g, " ").replace(" | undefined", "");
    if (name !== "type")
      fields.push({ name, optional: mark !== undefined, type: told, note: note.replaceAll(/\s+\*?\s*/g, " ") });
    return "";
  });
  if (left.trim() !== "") throw new Error(`events/${file}: this of ${name} cannot be read: ${left.trim()}`);
  return fields;
}

/** A field of an interface, with the comment above it; its type may have lines of its own, indented further. */
const field = /(?: {2}\/\*\*\s*([\s\S]*?)\s*\*\/\n)? {2}(\w+)(\?)?: ([\s\S]*?);(?:\n(?= {2}\S)|$)/g;

export function poolMetrics(): string {
  const rows = poolFamilies([everything], ["default"]).map(({ name, type, help, samples }) => {
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
  heldBack: { rate: 0, concurrency: 0, usage: 0, rest: 0, exclude: 0, session: 0, holder: 0 },
  turnedAway: { unavailable: 1 },
  withdrawn: 0,
  waitMs: { granted: histogram, refused: histogram },
  commitMs: histogram,
  eventsPerCommit: histogram,
  answersPerCommit: histogram,
  ambiguousAttempts: 0,
  outcomeLagMs: 0,
  stallMs: histogram,
};
