// Reported uses, read where they lie: with all their fields, of their kinds, and no other; undefined for whatever else
// stands there.
import { type OutcomeClass, outcomeClasses, type UseReported } from "../../../events/outcome.ts";
import { type Scan, wantedOf } from "./scan.ts";

const brace = 0x7d;
const reported = wantedOf('{"type":"UseReported","leaseId":"');
const ofProxy = wantedOf(',"proxyId":"');
const score = wantedOf(',"score":');
const slotAt = wantedOf(',"slotAt":');
const tokenId = wantedOf(',"tokenId":"');
const n = wantedOf(',"n":');
const outcomeClass = wantedOf(',"class":"');
const result = wantedOf(',"result":"');
const succeeded = wantedOf(',"class":"success","result":"success","score":');
const firstOfProxy = wantedOf(',"n":1,"proxyId":"');
const noStreak = wantedOf(',"streak":0,"slotAt":');
const counts = wantedOf(',"counts":true');
const streak = wantedOf(',"streak":');
const storedAt = wantedOf(',"storedAt":');
const status = wantedOf(',"status":');
const error = wantedOf(',"error":"');
const latencyMs = wantedOf(',"latencyMs":');
const ofBytes = wantedOf(',"bytes":');
const target = wantedOf(',"target":"');
const retryAfterMs = wantedOf(',"retryAfterMs":');
const tokenRejected = wantedOf(',"tokenRejected":true');
const final = wantedOf(',"final":true');
const late = wantedOf(',"late":true');
const over = wantedOf(',"over":true');

export function readUse(scan: Scan): UseReported | undefined {
  if (!scan.has(reported)) return undefined;
  const use: UseReported = newUse();
  use.leaseId = scan.name();
  if (scan.has(firstOfProxy)) use.n = 1;
  else {
    scan.must(n);
    use.n = scan.whole();
    scan.must(ofProxy);
  }
  use.proxyId = scan.name();
  if (!scan.has(succeeded)) {
    scan.must(outcomeClass);
    const kind = scan.name();
    scan.must(result);
    const meaning = scan.name();
    if (!isClass(kind) || !isResult(meaning)) return undefined;
    use.class = kind;
    use.result = meaning;
    if (scan.has(counts)) use.counts = true;
    scan.must(score);
  }
  use.score = scan.whole();
  if (scan.has(noStreak)) use.slotAt = scan.whole();
  else {
    scan.must(streak);
    use.streak = scan.whole();
    if (scan.has(slotAt)) use.slotAt = scan.whole();
  }
  scan.must(storedAt);
  use.storedAt = scan.whole();
  if (scan.has(status)) use.status = scan.whole();
  if (scan.has(error)) use.error = scan.name();
  if (scan.has(latencyMs)) use.latencyMs = scan.whole();
  if (scan.has(ofBytes)) use.bytes = scan.whole();
  if (scan.has(target)) use.target = scan.name();
  if (scan.hasByte(brace)) return scan.failed ? undefined : use;
  if (scan.has(retryAfterMs)) use.retryAfterMs = scan.whole();
  if (scan.has(tokenRejected)) use.tokenRejected = true;
  if (scan.has(tokenId)) use.tokenId = scan.name();
  if (scan.has(final)) use.final = true;
  if (scan.has(late)) use.late = true;
  if (scan.has(over)) use.over = true;
  scan.mustByte(brace);
  return scan.failed ? undefined : use;
}

function isClass(word: string): word is OutcomeClass {
  return outcomeClasses.some((each) => each === word);
}

function isResult(word: string): word is UseReported["result"] {
  return word === "success" || word === "failure" || word === "neutral";
}

/** With every field it can have, so that all have one form. */
function newUse(): UseReported {
  return {
    type: "UseReported",
    leaseId: "",
    n: 0,
    proxyId: "",
    class: "success",
    result: "success",
    counts: undefined,
    score: 0,
    streak: 0,
    slotAt: undefined,
    storedAt: 0,
    status: undefined,
    error: undefined,
    latencyMs: undefined,
    bytes: undefined,
    target: undefined,
    retryAfterMs: undefined,
    tokenRejected: undefined,
    tokenId: undefined,
    final: undefined,
    late: undefined,
    over: undefined,
  };
}
