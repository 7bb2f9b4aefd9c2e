// A store from before there were accounts has its streams in the server's global account. They are moved to their
// present account before a server runs on the store. Otherwise stored messages would silently vanish.
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { codeOf, Fault } from "../fault.ts";

/** @param accounts the account of each stream. @returns the streams that were moved. */
export function moveStreams(store: string, accounts: Readonly<Record<string, string>>): string[] {
  const folderOf = (account: string): string => join(store, "jetstream", account, "streams");
  return Object.entries(accounts).flatMap(([stream, account]) => {
    const from = join(folderOf("$G"), stream);
    const to = join(folderOf(account), stream);
    if (!existsSync(from)) return [];
    if (existsSync(to)) {
      throw new Fault(
        "fix-setup",
        `the stream ${stream} is there twice, in ${from} and in ${to}: remove the unwanted one`,
      );
    }
    try {
      mkdirSync(folderOf(account), { recursive: true, mode: 0o700 });
      renameSync(from, to);
    } catch (cause) {
      const what = `the stream ${stream} cannot be moved from ${from} to ${to}`;
      throw new Fault("fix-setup", `${what} (${codeOf(cause)})`, { cause });
    }
    return [stream];
  });
}
