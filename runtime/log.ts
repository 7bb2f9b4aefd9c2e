// The log of a process: one JSON object per line, or text on a terminal. A line has `time` (ISO 8601), `level` (a
// word), `service`, `version` and `msg`, and `pool`, `user`, `leaseId` and `requestId` where they apply.
//
// A repeated line passes once a minute, with the number of times that it came meanwhile (`repeated`). So the refusals
// and administrative acts at `info` are a sample. Details that were asked for (`debug`, `trace`) and `fatal` always
// pass.
import { styleText } from "node:util";
import { type Logger, pino } from "pino";
import { Repeats } from "./repeats.ts";
import { printable } from "./text.ts";

interface LogOptions {
  /** Lines below it are not written. */
  level: string;
  version: string;
  /** Text to read, and not JSON. */
  isTerminal: boolean;
  /** Absent: to stderr. */
  write?: (line: string) => void;
  /** In ms. Absent: this machine's. */
  monotonic?: () => number;
}

/** Returns the log of each service in this process. */
export function openLog({ level, version, isTerminal, write, monotonic }: LogOptions): (service: string) => Logger {
  const out = write === undefined ? pino.destination({ fd: 2, sync: true }) : { write };
  const stream = isTerminal ? { write: (line: string) => void out.write(`${shown(line)}\n`) } : out;
  return (service) => {
    const repeats = new Repeats(monotonic);
    return pino(
      {
        level,
        base: { service, version },
        timestamp: pino.stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
        hooks: {
          logMethod(args, method, number) {
            const { fields, text } = lineOf(args);
            const isSampled = number >= info && number < fatal;
            const passed = isSampled
              ? repeats.pass(`${number} ${text} ${fields["pool"] ?? ""}`, detailsOf(fields))
              : {};
            if (passed !== undefined) method.call(this, { ...fields, ...passed }, text);
          },
        },
      },
      stream,
    );
  };
}

type Fields = Readonly<Record<string, unknown>>;

const { info = 0, fatal = 0 } = pino.levels.values;

/** Lines that differ in these alone count as the same line. */
const ids = new Set(["leaseId", "requestId", "tokenId"]);

function lineOf([first, second]: readonly unknown[]): { fields: Fields; text: string } {
  if (typeof first === "string") return { fields: {}, text: first };
  return { fields: first instanceof Error ? { err: first } : (first as Fields), text: String(second ?? "") };
}

function detailsOf(fields: Fields): string {
  return JSON.stringify(fields, (name, value: unknown) => {
    if (ids.has(name)) return undefined;
    return value instanceof Error ? value.message : value;
  });
}

const colours = { info: "green", warn: "yellow", error: "red", fatal: "red" } as const;

/** A line of the log, to read on a terminal. */
function shown(line: string): string {
  const { time, level, service, version: _, msg, err, ...rest } = JSON.parse(line) as Record<string, string>;
  const colour = colours[level as keyof typeof colours] ?? "dim";
  const paint = (style: Parameters<typeof styleText>[0], text: string): string =>
    styleText(style, text, { stream: process.stderr });
  const fields = Object.entries(rest).map(([name, value]) => `${name}=${plain(value)}`);
  const { stack = "" } = (err ?? {}) as { stack?: string };
  return [
    paint("dim", time?.slice(11, 23) ?? ""),
    paint(colour, (level ?? "").padEnd(5)),
    `${service}:`,
    printable(msg ?? ""),
    ...(fields.length === 0 ? [] : [paint("dim", fields.join(" "))]),
    ...(stack === "" ? [] : [`\n${stack.split("\n").map(printable).join("\n")}`]),
  ].join(" ");
}

function plain(value: unknown): string {
  return typeof value === "string" && /^[\w.:@/-]+$/.test(value) ? value : printable(JSON.stringify(value));
}
