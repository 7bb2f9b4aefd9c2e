// Which files are on a read-only mount. access(2) cannot tell: for a user that owns neither the file nor the mount, it
// also fails on a writable mount.
import { readFileSync } from "node:fs";
import { resultOr } from "./fault.ts";

/**
 * @param path absolute, without links. @param table as in /proc/self/mountinfo; on other systems than Linux it is
 * empty.
 */
export function isOnReadOnlyMount(path: string, table = mountTable()): boolean {
  const mounts = table.split("\n").flatMap((line) => {
    // proc_pid_mountinfo(5): the fields after the dash come last, because optional ones precede it.
    const [own = "", system = ""] = line.split(" - ");
    const [, , , , at, options = ""] = own.split(" ");
    if (at === undefined) return [];
    return [{ at: unescaped(at), isReadOnly: [options, system.split(" ")[2] ?? ""].some(saysReadOnly) }];
  });
  const above = mounts.filter(({ at }) => path === at || path.startsWith(at === "/" ? at : `${at}/`));
  // Of several mounts on one folder the last is on top.
  return above.reduce((top, each) => (each.at.length >= top.at.length ? each : top), root).isReadOnly;
}

const root = { at: "", isReadOnly: false };

function mountTable(): string {
  return resultOr(() => readFileSync("/proc/self/mountinfo", "utf8"), "");
}

function saysReadOnly(options: string): boolean {
  return options.split(",").includes("ro");
}

/** The table has white space and backslashes as octal numbers. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
