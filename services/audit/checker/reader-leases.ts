// Leases granted and closed, read where they lie: with all their fields, of their kinds, and no other; undefined for
// whatever else stands there.
import type { Labels } from "../../../events/ids.ts";
import type { LeaseClosed, LeaseGranted, Wish } from "../../../events/lease.ts";
import { type Scan, wantedOf } from "./scan.ts";

const comma = 0x2c;
const colon = 0x3a;
const quote = 0x22;
const openingBracket = 0x5b;
const bracket = 0x5d;
const brace = 0x7d;
const granted = wantedOf('{"type":"LeaseGranted","leaseId":"');
const closed = wantedOf('{"type":"LeaseClosed","leaseId":"');
const ofProxy = wantedOf(',"proxyId":"');
const inUse = wantedOf(',"state":"in-use","wish":');
const requestId = wantedOf('"requestId":"');
const minUses = wantedOf('"minUses":');
const ttlMs = wantedOf('"ttlMs":');
const session = wantedOf('"session":"');
const holder = wantedOf('"holder":"');
const token = wantedOf('"token":true');
const oneUse = wantedOf(',"uses":1,"epoch":');
const uses = wantedOf(',"uses":');
const usesWished = wantedOf('"uses":');
const proxyWished = wantedOf('"proxyId":"');
const targetWished = wantedOf('"target":"');
const epoch = wantedOf(',"epoch":');
const expiresAt = wantedOf(',"expiresAt":');
const strategy = wantedOf(',"strategy":"');
const ranked = wantedOf(',"ranked":');
const rankedGranted = wantedOf('"granted":');
const labels = wantedOf('"labels":');
const exclude = wantedOf('"exclude":');
const score = wantedOf(',"score":');
const lastUsedAt = wantedOf(',"lastUsedAt":');
const slotAt = wantedOf(',"slotAt":');
const tokenId = wantedOf(',"tokenId":"');
const state = wantedOf(',"state":"');
const how = wantedOf(',"how":"');
const used = wantedOf(',"used":');
const completed = wantedOf(',"state":"available","how":"completed","used":');

export function readGrant(scan: Scan): LeaseGranted | undefined {
  if (!scan.has(granted)) return undefined;
  const leaseId = scan.name();
  scan.must(ofProxy);
  const proxyId = scan.name();
  scan.must(inUse);
  const wish = readWish(scan);
  let usesGranted = 1;
  if (!scan.has(oneUse)) {
    scan.must(uses);
    usesGranted = scan.whole();
    scan.must(epoch);
  }
  const epochNow = scan.whole();
  scan.must(expiresAt);
  const endsAt = scan.whole();
  scan.must(strategy);
  const kind = scan.name();
  scan.must(ranked);
  const by = readRanked(scan);
  const from = scan.has(slotAt) ? scan.whole() : undefined;
  const given = scan.has(tokenId) ? scan.name() : undefined;
  scan.mustByte(brace);
  if (scan.failed) return undefined;
  return {
    type: "LeaseGranted",
    leaseId,
    proxyId,
    state: "in-use",
    wish,
    uses: usesGranted,
    epoch: epochNow,
    expiresAt: endsAt,
    strategy: kind,
    ranked: by,
    slotAt: from,
    tokenId: given,
  };
}

/** As recorded: without what is not said. Most name their request alone. */
function readWish(scan: Scan): Wish {
  if (scan.failed) return {};
  const start = scan.at;
  const wish: Wish = newWish();
  if (scan.field(requestId, start)) wish.requestId = scan.text();
  let isWhole = scan.ends(start);
  if (!isWhole) {
    if (scan.field(usesWished, start)) wish.uses = scan.whole();
    if (scan.field(minUses, start)) wish.minUses = scan.whole();
    if (scan.field(ttlMs, start)) wish.ttlMs = scan.whole();
    if (scan.field(session, start)) wish.session = scan.name();
    if (scan.field(labels, start)) wish.labels = readLabels(scan);
    if (scan.field(exclude, start)) wish.exclude = readList(scan);
    if (scan.field(proxyWished, start)) wish.proxyId = scan.name();
    if (scan.field(holder, start)) wish.holder = scan.name();
    if (scan.field(token, start)) wish.token = true;
    if (scan.field(targetWished, start)) wish.target = scan.name();
    isWhole = scan.ends(start);
  }
  const { uses: wished = 1, minUses: least = 1, ttlMs: life = 1 } = wish;
  if (isWhole && !scan.failed && wished >= 1 && least >= 1 && life >= 1) return wish;
  scan.at = start;
  scan.failed = false;
  return scan.any() as Wish; // Guessed: the whole event is read anew.
}

function readLabels(scan: Scan): Labels {
  const start = scan.at;
  const read: Labels = {};
  while (scan.next(start)) {
    scan.mustByte(quote);
    const name = scan.name();
    scan.mustByte(colon);
    scan.mustByte(quote);
    const value = scan.name();
    if (name === "__proto__") scan.failed = true; // Which would be none.
    if (scan.failed) break;
    read[name] = value;
  }
  if (!scan.ends(start)) scan.failed = true;
  return read;
}

/** Of text, one or more. */
function readList(scan: Scan): string[] {
  const read: string[] = [];
  scan.mustByte(openingBracket);
  do {
    scan.mustByte(quote);
    read.push(scan.name());
  } while (!scan.failed && scan.hasByte(comma));
  scan.mustByte(bracket);
  return read;
}

/** Most rank by what `best` does; others name figures of their own. */
function readRanked(scan: Scan): Record<string, number> {
  if (scan.failed) return {};
  const start = scan.at;
  if (scan.field(rankedGranted, start)) {
    const uses = scan.whole();
    scan.must(score);
    const points = scan.whole();
    scan.must(lastUsedAt);
    const at = scan.whole();
    if (scan.ends(start) && !scan.failed) return { granted: uses, score: points, lastUsedAt: at };
    scan.at = start;
    scan.failed = false;
  }
  const figures: Record<string, number> = {};
  while (scan.next(start)) {
    scan.mustByte(quote);
    const name = scan.name();
    scan.mustByte(colon);
    const figure = scan.whole();
    if (name === "__proto__") scan.failed = true; // Which would be none.
    if (scan.failed) break;
    figures[name] = figure;
  }
  if (scan.ends(start) && !scan.failed) return figures;
  scan.at = start;
  scan.failed = false;
  return scan.any() as Record<string, number>; // As above.
}

export function readClosing(scan: Scan): LeaseClosed | undefined {
  if (!scan.has(closed)) return undefined;
  const leaseId = scan.name();
  scan.must(ofProxy);
  const proxyId = scan.name();
  let leadsTo: LeaseClosed["state"] = "available";
  let ending: string = "completed";
  if (!scan.has(completed)) {
    scan.must(state);
    leadsTo = scan.name() as LeaseClosed["state"]; // Judged by who asked, against the chart.
    scan.must(how);
    ending = scan.name();
    scan.must(used);
  }
  if (ending !== "completed" && ending !== "released" && ending !== "expired") return undefined;
  const made = scan.whole();
  scan.must(slotAt);
  const from = scan.whole();
  scan.mustByte(brace);
  if (scan.failed) return undefined;
  return { type: "LeaseClosed", leaseId, proxyId, state: leadsTo, how: ending, used: made, slotAt: from };
}

/** With every field it can have, so that all have one form. */
function newWish(): Wish {
  return {
    requestId: undefined,
    uses: undefined,
    minUses: undefined,
    ttlMs: undefined,
    session: undefined,
    labels: undefined,
    schemes: undefined,
    exclude: undefined,
    proxyId: undefined,
    holder: undefined,
    token: undefined,
    target: undefined,
  };
}
