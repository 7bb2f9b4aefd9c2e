// Reading commits, a hundred thousand events a second and more: the events that a ledger is full of are read where they
// lie, in the very form in which the service writes them. Whatever comes in another form is read by `JSON.parse`, so that
// what comes out is the same for any bytes at all; only the time it takes differs.
import type { CommitEnvelope, Cursor } from "../../../events/commit.ts";
import { readClosing, readGrant } from "./reader-leases.ts";
import { readUse } from "./reader-uses.ts";
import { Scan, wantedOf } from "./scan.ts";

const comma = 0x2c;
const bracket = 0x5d;
const brace = 0x7d;
const version = wantedOf('{"v":');
const prev = wantedOf(',"prev":"');
const term = wantedOf(',"term":');
const at = wantedOf(',"at":');
const cursor = wantedOf(',"cursor":{"seq":');
const taken = wantedOf(',"taken":');
const chance = wantedOf(',"chance":"');
const eventsBegin = wantedOf(',"events":[');
const n = wantedOf(',"n":');

export class Reader {
  readonly #scan = new Scan();
  /** Events that were read where they lie: each has all fields of its type, of their kinds, and no other. */
  quick = 0;
  /** Places in the last commit of those that may be of any form. */
  readonly unproven: number[] = [];

  /** The document of these bytes, unjudged. Throws where `JSON.parse` would. */
  read(bytes: Buffer): unknown {
    const { unproven } = this;
    if (unproven.length > 0) unproven.length = 0;
    const commit = this.#quickly(bytes);
    if (commit !== undefined) {
      this.quick += commit.events.length - unproven.length;
      return commit;
    }
    unproven.length = 0;
    const document = JSON.parse(bytes.toString("utf8")) as { events?: unknown } | null; // Or anything else.
    if (Array.isArray(document?.events)) for (const place of document.events.keys()) unproven.push(place);
    return document;
  }

  #quickly(bytes: Buffer): CommitEnvelope | undefined {
    const scan = this.#scan;
    scan.begin(bytes);
    const commit = readHead(scan);
    if (scan.failed) return undefined;
    const { events } = commit;
    if (!scan.hasByte(bracket)) {
      do events.push(this.#event(scan, events.length));
      while (!scan.failed && scan.hasByte(comma));
      scan.mustByte(bracket);
    }
    scan.mustByte(brace);
    return scan.failed || scan.at !== bytes.length ? undefined : commit;
  }

  #event(scan: Scan, place: number): unknown {
    const start = scan.at;
    scan.guessed = false;
    // Of `{"type":"LeaseGranted` the tenth byte and the fifteenth tell which it can be.
    const event =
      scan.bytes[start + 9] === 0x55
        ? readUse(scan)
        : scan.bytes[start + 14] === 0x47
          ? readGrant(scan)
          : scan.bytes[start + 14] === 0x43
            ? readClosing(scan)
            : undefined;
    if (event !== undefined && !scan.guessed) return event;
    this.unproven.push(place);
    scan.at = start;
    scan.failed = false;
    return scan.any();
  }
}

function readHead(scan: Scan): CommitEnvelope {
  scan.must(version);
  const v = scan.whole();
  scan.must(n);
  const number = scan.whole();
  scan.must(prev);
  const hash = scan.text();
  scan.must(term);
  const claim = scan.whole();
  scan.must(at);
  const instant = scan.whole();
  scan.must(cursor);
  const seq = scan.whole();
  scan.must(at);
  const cursorNow: Cursor = { seq, at: scan.whole() };
  if (scan.has(taken)) cursorNow.taken = scan.whole();
  scan.mustByte(brace);
  const head = { v, n: number, prev: hash, term: claim, at: instant, cursor: cursorNow };
  const commit: CommitEnvelope = scan.has(chance)
    ? { ...head, chance: scan.text(), events: [] }
    : { ...head, events: [] };
  scan.must(eventsBegin);
  return commit;
}
