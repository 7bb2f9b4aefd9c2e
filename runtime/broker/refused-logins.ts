// The logins that a managed nats-server refuses, read from its log, because events about them would need a login to its
// system account.
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { resultOr } from "../fault.ts";

const everyMs = 1000;
const pieceBytes = 64 * 1024;
/** The server writes no longer line. */
const lineBytesMax = 16 * 1024;

export interface RefusedLogin {
  /** As the server quotes it. Absent: none was given. */
  user?: string;
  host: string;
}

const refused =
  /^\[\d+\] [\d/]+ [\d:.]+ \[ERR\] (\S+):\d+ - cid:\d+ - authentication error(?: - User "((?:[^"\\]|\\.)*)"| - Token .*)?$/;

/** Undefined if the line says something else. */
export function refusedIn(line: string): RefusedLogin | undefined {
  const [, host, user] = refused.exec(line) ?? [];
  return host === undefined ? undefined : { ...(user === undefined ? {} : { user }), host };
}

/** Follows the server's log from its present end. The server may begin a new file, and renames the old one. */
export class RefusedByServer {
  readonly #path: string;
  readonly #onRefused: (login: RefusedLogin) => void;
  readonly #timer: NodeJS.Timeout;
  #file: number | undefined;
  #at = 0;
  #rest = "";

  constructor(path: string, onRefused: (login: RefusedLogin) => void) {
    this.#path = path;
    this.#onRefused = onRefused;
    this.#open();
    if (this.#file !== undefined) this.#at = fstatSync(this.#file).size;
    this.#timer = setInterval(() => this.look(), everyMs).unref();
  }

  /** Reads the new lines. */
  look(): void {
    if (this.#file === undefined) this.#open();
    if (this.#file === undefined) return;
    this.#read(this.#file);
    const now = statSync(this.#path, { throwIfNoEntry: false });
    if (now === undefined || now.ino === fstatSync(this.#file).ino) return;
    this.#read(this.#file); // The last lines before it was renamed.
    closeSync(this.#file);
    this.#file = undefined;
    this.#open();
    if (this.#file !== undefined) this.#read(this.#file);
  }

  close(): void {
    clearInterval(this.#timer);
    this.look();
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #open(): void {
    this.#file = resultOr(() => openSync(this.#path, "r"), undefined);
    this.#at = 0;
    this.#rest = "";
  }

  #read(file: number): void {
    const piece = Buffer.alloc(pieceBytes);
    for (let size = readSync(file, piece, 0, pieceBytes, this.#at); size > 0; ) {
      this.#at += size;
      // Names are quoted in ASCII, so no character is cut where a line is matched.
      const lines = (this.#rest + piece.toString("latin1", 0, size)).split("\n");
      this.#rest = (lines.pop() ?? "").slice(0, lineBytesMax);
      for (const line of lines) {
        const login = refusedIn(line);
        if (login !== undefined) this.#onRefused(login);
      }
      size = readSync(file, piece, 0, pieceBytes, this.#at);
    }
  }
}
