// Files that the command line names. `-` stands for the standard input.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { TextDecoder } from "node:util";
import { cannotRead, Fault, messageOf, resultOr } from "../runtime/fault.ts";
import { writeWhole } from "../runtime/whole-file.ts";
import { readDuration } from "./arguments.ts";
import { toStdout } from "./output.ts";

/**
 * A JSON object: given directly, or as the name of a file that holds one. Its durations may have a unit
 * (`{"windowMs": "10m"}`).
 */
export async function readDocument(given: string): Promise<object> {
  const inline = given.trimStart().startsWith("{");
  const name = inline ? "the document" : nameOf(given);
  const content = inline ? given : await text(await openFile(given)).catch((error) => failed(name, error));
  let document: unknown;
  try {
    document = JSON.parse(content.replace(/^\uFEFF/, ""));
  } catch (error) {
    throw new Fault("fix-setup", `${name} is not JSON: ${messageOf(error)}`);
  }
  if (typeof document === "object" && document !== null && !Array.isArray(document))
    return withDurations(document) as object; // The same shape.
  throw new Fault("fix-setup", `${name} is not a JSON object. Give one such as {"concurrency": 2}.`);
}

/** Milliseconds for texts such as `10m`, in fields whose name says so: `windowMs`, `ttlMsMax`, those in `baseMsBy`. */
export function withDurations(value: unknown, name = ""): unknown {
  const isDuration = /Ms(Max|By)?$/.test(name);
  if (Array.isArray(value)) return value.map((each) => withDurations(each, name));
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [key, withDurations(each, isDuration ? name : key)]),
    );
  return typeof value === "string" && isDuration ? resultOr<unknown>(() => readDuration(value), value) : value;
}

/** @throws Fault if it cannot be opened, so that nothing is begun. */
export async function openFile(file: string): Promise<Readable> {
  if (file === "-") return process.stdin;
  try {
    if ((await stat(file)).isDirectory()) throw new Fault("fix-setup", `${file} is a folder. Name a file.`);
    const stream = createReadStream(file);
    await new Promise((resolve, reject) => stream.once("open", resolve).once("error", reject));
    return stream;
  } catch (error) {
    return failed(file, error);
  }
}

export function nameOf(file: string): string {
  return file === "-" ? "standard input" : file;
}

/** The text, piece by piece: UTF-8, or UTF-16 as Windows writes it. The first two bytes tell which. */
export async function* textOf(stream: Readable, name: string): AsyncGenerator<string> {
  let decoder: TextDecoder | undefined;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      decoder ??= new TextDecoder(chunk[0] === 0xff && chunk[1] === 0xfe ? "utf-16le" : "utf-8");
      yield decoder.decode(chunk, { stream: true });
    }
    yield decoder?.decode() ?? "";
  } catch (error) {
    failed(name, error);
  }
}

/**
 * The lines, which end with LF, CRLF or CR. Each array has the lines that one piece completes.
 * @param charsMax how much is kept of a line before its end has come.
 */
export async function* linesIn(pieces: AsyncIterable<string>, charsMax: number): AsyncGenerator<string[]> {
  let rest = "";
  let heldReturn = ""; // At the end of a piece, a CR may be half of a CRLF.
  for await (const piece of pieces) {
    const read = heldReturn + piece;
    heldReturn = read.endsWith("\r") ? "\r" : "";
    const lines = read.slice(0, read.length - heldReturn.length).split(/\r\n|\n|\r/);
    lines[0] = rest + lines[0];
    rest = (lines.pop() ?? "").slice(0, charsMax);
    yield lines;
  }
  if (rest !== "" || heldReturn !== "") yield [rest];
}

/** Writes to a file that appears only when it is whole, or to the standard output if no file is named. */
export function writing(
  file: string | undefined,
  use: (write: (text: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  return file === undefined ? use(toStdout) : writeWhole(file, (whole) => use((text) => whole.writeFile(text)));
}

function failed(name: string, error: unknown): never {
  throw error instanceof Fault ? error : cannotRead(name, error);
}
