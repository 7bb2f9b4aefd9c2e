// How a pool is led here. A leader is made from the pool's ledger, and answers on the pool's subjects until it is let
// go. The pool's life (pool-life.ts) decides when each of these happens.
import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import type { Cursor } from "../../events/commit.ts";
import { overNats, userHeader } from "../../protocol/over-nats.ts";
import { ledgerStream, ledgerSubject, requestSubject } from "../../protocol/subjects.ts";
import type { Archive } from "../../runtime/archive/archive.ts";
import type { AtMost } from "../../runtime/at-most.ts";
import type { Bus } from "../../runtime/bus.ts";
import { type Clock, systemClock } from "../../runtime/clock.ts";
import type { Defects } from "../../runtime/defects.ts";
import { Fault } from "../../runtime/fault.ts";
import { unlessGone } from "../../runtime/jetstream-api.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import type { Pulse } from "../../runtime/pulse.ts";
import type { Responder } from "../../runtime/responder.ts";
import type { StreamRoom } from "../../runtime/room.ts";
import { type InstallationKey, openSecrets, type Secrets, type SecretsBucket } from "../../runtime/secrets.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";
import type { StallWatch } from "../../runtime/stall.ts";
import type { StreamNews } from "../../runtime/stream-news.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import { shareOf } from "../../state-machines/queue/load.ts";
import type { Quotas } from "../../state-machines/queue/quotas.ts";
import type { Outbound } from "../../transport/outbound.ts";
import { checkKey, goOnFrom, hashOfWitnessed, recovered, untilReadTo } from "./fold.ts";
import { followOn } from "./following.ts";
import { Gate, type Handed, type Receiver } from "./gate.ts";
import type { Demand } from "./growth.ts";
import { Leader } from "./leader.ts";
import type { LeaderEvent } from "./leader-event.ts";
import type { LeftOut } from "./left-out.ts";
import type { Seen } from "./pool-time.ts";
import { Requests } from "./requests.ts";
import type { Snapshots } from "./snapshots.ts";
import { outcomeFeed, outcomeStoredAfter } from "./streams.ts";
import { wantedTokens } from "./token-values.ts";
import type { UpkeepSettings } from "./upkeep.ts";
import { type Users, whoSent } from "./who.ts";
import { lossIn, type Witnesses } from "./witness.ts";
import { WitnessKeeper } from "./witness-keeper.ts";

export interface PickerOptions {
  /** So that none can delay another. Each has only the rights of its user. */
  buses: { ledger: Bus; front: Bus; follower: Bus; peers: Bus };
  key: InstallationKey;
  /** Signs ledgers' heads. */
  signer: SigningKey;
  log: Logger;
  /** Absent: bugs are logged, and counted nowhere. */
  defects?: Defects;
  version: string;
  ledgerBytesMax: number;
  /** How many servers of a cluster keep each stream. Absent: three. */
  replicas?: number | undefined;
  /** The most pools that may have a ledger, closed ones included. Absent: no bound. */
  poolsMax?: number;
  /** The most proxies of a pool, retired ones included. Absent: no bound. */
  proxiesMax?: number;
  /** Which addresses of token sources and proxies are allowed. */
  outbound: Outbound;
  /** Absent: the NATS server has no users. */
  users?: Users | undefined;
  clock?: Clock;
  /**
   * A stream has taken no messages since its disk was full, and takes none until the NATS server restarts. Called
   * repeatedly.
   */
  onFrozen?: (message: string) => void;
  /** How often to look at the streams. Absent: every two seconds. */
  streamsEveryMs?: number;
  /** How ledgers' past is kept. Absent: no snapshot is made, and nothing is archived. */
  upkeep?: UpkeepSettings;
  /** A folder for the witnesses of ledgers. Absent: they are kept in the bucket of secrets alone. */
  witnessFolder?: string;
}

/** Shared by all pools of a picker. */
export interface Station {
  /** This picker's id in the ledger. */
  id: string;
  options: PickerOptions;
  responder: Responder;
  stalls: StallWatch;
  witnesses: Witnesses;
  snapshots: Snapshots;
  /** Of this machine. Absent: nothing is archived. */
  archive?: Archive | undefined;
  outcomes: StreamNews;
  /** Of the ledgers' stream, for the pools that are followed here. */
  ledgers: StreamNews;
  /** How full the ledgers' stream is. */
  room: StreamRoom;
  /** The amount that the pools that are led here may still store in it. */
  demand: Demand;
  /** Only a few ledgers are folded at once. */
  folds: AtMost;
  defects: Defects;
  /** Opened once, for all pools. */
  bucket: () => Promise<SecretsBucket>;
  /** How much of its quotas each user has used, in all pools that are led here. */
  quotas: Quotas;
  /** Of this process. */
  pulse: Pulse;
}

export interface Served {
  pool: string;
  leader: Leader;
  /** How much was folded (`workOf`). */
  folded: number;
  requests: Requests;
  ledger: JetStreamLedger;
  secrets: Secrets;
  keeper: Pick<WitnessKeeper, "start" | "end">;
  /** The loss that an operator has accepted, as a sentence. */
  loss: string | undefined;
  gate: Gate;
  /** Requests that waited at the last leader, which has handed the pool over. Absent: it has not. */
  handed?: readonly Handed[];
  /** `shut`: no further request comes, but it is still said that the pool is led here. */
  subscriptions: { unsubscribe(): void; shut?: () => Promise<void> }[];
}

interface FoldGiven {
  picker: Station;
  /** The pool's time as the last leader reported it. */
  seen: () => Seen | undefined;
  /** Lead a ledger that ends before its witness, because an operator has accepted the loss. */
  forget: boolean;
  leftOut?: LeftOut;
  /** Called when the claim is stored. */
  announce: (term: number, gate: Gate) => Promise<void>;
  /** Called with the leader's later events. */
  tell: (event: LeaderEvent) => void;
  signal: AbortSignal;
}

/** A ledger that is folded, and not led yet. */
export interface Prepared {
  gate: Gate;
  /** The term of the last commit that was read. */
  readonly term: number;
  /**
   * Reads what has been stored since, and follows no more. Not if another picker has claimed the pool since `term`: then
   * it goes on following, and resolves with false. @throws as `preparePool` does.
   */
  readOn(term?: number): Promise<boolean>;
  /**
   * Reads each commit as it is stored, and keeps the indexes of the pool's proxies. Resolves when aborted, or finished.
   * @throws as `preparePool` does.
   */
  follow(signal: AbortSignal): Promise<void>;
  /** Ready to be claimed. */
  finish(): Promise<Served>;
  /** It is not wanted any more. */
  end(): void;
}

/**
 * Folds the ledger, ready to claim it.
 * @throws Fault "stop-damaged" or "fix-setup" if it can never be led here.
 */
export async function foldPool(pool: string, given: FoldGiven): Promise<Served> {
  return (await preparePool(pool, given)).finish();
}

/** @throws Fault "stop-damaged" or "fix-setup" if it can never be led here. */
export async function preparePool(pool: string, given: FoldGiven): Promise<Prepared> {
  const { picker, seen, forget, leftOut, announce, tell, signal } = given;
  const { buses, key, signer, clock = systemClock, log, version } = picker.options;
  const { archive } = picker;
  let leader: Leader | undefined; // Set below, because the leader is made on its ledger.
  const warn = (why: string, message: string): void => log.warn({ pool, why }, message);
  const ledger = new JetStreamLedger({
    bus: buses.ledger,
    stream: ledgerStream,
    subject: ledgerSubject(pool),
    room: picker.room,
    whole: archive && ((...stored) => archive.whole(pool, ...stored)),
    onDoubt: (why) => {
      leader?.metrics.ambiguousAttempt();
      warn(why, "the result of a commit is unknown; asking again");
    },
    onTrouble: (why) => warn(why, "the ledger cannot be read; trying again"),
  });
  const onTrouble = unlessGone((error) => warn(String(error), "outcomes cannot be followed; trying again"));
  // Read before the ledger, so that the ledger has it. With another key it cannot be read. The check of the ledger
  // reports that more clearly.
  const read = await picker.witnesses.of(pool).catch((error: Error) => error);
  const { witness, kept } = read instanceof Error ? {} : read;
  if (witness !== undefined) await untilReadTo({ ledger, clock }, witness.seq, signal);
  const { snapshots } = picker;
  const onBadSnapshot = (message: string): void => log.warn({ pool }, message);
  const ports = { pool, ledger, clock, key };
  const folding = { ...ports, kept, witnessed: witness, snapshots, onBadSnapshot };
  const fold = await recovered(folding);
  checkKey(ports, fold.state);
  if (read instanceof Error) throw read;
  const witnessedHash = await hashOfWitnessed(folding, fold);
  const found = { commits: fold.state.commits, hash: witnessedHash };
  const loss = witness === undefined ? undefined : lossIn(pool, witness, found);
  if (loss !== undefined && !forget) throw lostCommits(pool, loss);
  if (loss !== undefined) log.warn({ pool, loss }, "an operator has accepted that commits are lost");
  // Clients and pickers ignore the notice of a term that is not above the last one that they have heard.
  if (fold.state.commits === 0 && witness !== undefined) fold.state.term = witness.term;
  const secrets = await openSecrets(await picker.bucket(), { under: pool, key });
  const gate = new Gate({ pool, responder: picker.responder, front: buses.front });
  let candidates: Candidates | undefined;
  const finishing = new AbortController();
  const follow = async (stopping: AbortSignal): Promise<void> => {
    candidates = new Candidates(fold.state);
    const onTrouble = unlessGone((error) => warn(String(error), "the pool cannot be followed; trying again"));
    const followed = { fold, ledger, candidates, news: picker.ledgers, onTrouble };
    await followOn(followed, AbortSignal.any([stopping, finishing.signal]));
  };
  const finish = async (): Promise<Served> => {
    finishing.abort();
    await fold.isRead;
    const folded = { ...(await goOnFrom({ ...folding, seen: seen() }, fold, witnessedHash)), candidates };
    const hasLeases = (): boolean => folded.state.leases.size > 0;
    const feed = outcomeFeed(buses.follower, pool, { news: picker.outcomes, hasLeases, onTrouble });
    const { id, pulse, quotas, demand, defects } = picker;
    const known = { quotas, demand, gapOn: pulse.gapOn };
    const announced = (term: number): Promise<void> => announce(term, gate);
    const ports = { pool, id, version, ledger, feed, clock, key, secrets, signer, tell, announce: announced, ...known };
    const onDefect = (error: unknown, where: object): void => defects.note("request", error, { pool, ...where });
    leader = new Leader({ ...ports, onDefect, ...(leftOut && { leftOut }) }, folded);
    const watched = {
      outcomeStoredAfter: (cursor: Cursor) => outcomeStoredAfter(buses.follower, pool, cursor),
      defects: () => defects.ofPool(pool),
      stallMs: () => picker.stalls.view(),
    };
    const { outbound, proxiesMax } = picker.options;
    const requests = new Requests({ leader, secrets, key, outbound, proxiesMax, newLeaseId: leaseIds(), watched });
    const forgotten = (witness?.forgotten ?? 0) + (loss === undefined ? 0 : 1);
    const keeper = new WitnessKeeper({ pool, leader, witnesses: picker.witnesses, clock, forgotten });
    const { work } = folded;
    const made = { pool, leader, folded: work, requests, ledger, secrets, keeper, loss, gate };
    const served: Served = { ...made, subscriptions: [] };
    if (signal.aborted) letGo(served);
    return served;
  };
  const end = (): void => {
    finishing.abort();
    gate.end();
    ledger.close();
  };
  if (signal.aborted) end();
  return {
    gate,
    follow,
    finish,
    end,
    get term() {
      return fold.state.term;
    },
    async readOn(term) {
      await fold.readOn(ledger);
      if (term !== undefined && fold.state.term !== term) return false;
      finishing.abort();
      await fold.isRead;
      await secrets.readAgain(); // After the ledger, so that it has the logins of all proxies.
      return true;
    },
  };
}

/** @param signal aborted if the pool is lost meanwhile: then this picker must not answer beside the next leader. */
export async function servePool(
  { pool, leader, requests, secrets, gate, handed = [] }: Served,
  { picker, signal }: { picker: Station; signal: AbortSignal },
): Promise<void> {
  const { log, users } = picker.options;
  // Only the leader knows which secrets are unused. Others may not have seen the proxies that they belong to.
  const wanted = wantedTokens(leader.state);
  try {
    await secrets.prune((id) => leader.state.proxies.has(id) || wanted(id));
  } catch (why) {
    log.warn({ pool, why: String(why) }, "unused secrets could not be deleted; the next leader tries again");
  }
  if (signal.aborted) return;
  const take: Receiver["take"] = (verb, asked, from) => {
    const { body, respond, bytes } = asked;
    return requests.handle(verb, body, respond, whoSent(asked, users), bytes, from);
  };
  const admits: Receiver["admits"] = (verb, unread) => leader.admits(shareOf(verb), unread);
  const rejects: Receiver["rejects"] = (unread) => leader.inbox.reject(unread, overNats.tooMany);
  gate.open({ admits, rejects, take }, () => {
    const onBug = (error: unknown, verb: string): void => picker.defects.note("request", error, { pool, verb });
    for (const each of handed) takeHanded(each, { pool, requests, gate, responder: picker.responder, onBug });
  });
  const { term, proxies, commits } = leader.state;
  log.info({ pool, term, proxies: proxies.size, commits }, "leading the pool");
}

/** The last leader has not answered it. A bug in its answer ends no other request. */
function takeHanded(
  { verb, body, from }: Handed,
  given: Pick<Served, "pool" | "requests" | "gate"> &
    Pick<Station, "responder"> & { onBug: (error: unknown, verb: string) => void },
): void {
  const { pool, requests, gate, responder, onBug } = given;
  const taken = async (): Promise<void> => {
    if (from === undefined) return requests.handle(verb, body, () => {});
    const { inbox, user, waitedMs = 0 } = from;
    const header = (name: string): string | undefined => (name === userHeader ? user : undefined);
    const respond = responder.answering(verb, inbox);
    await gate.take(verb, { subject: requestSubject(verb, pool), body, inbox, header, bytes: 0, respond }, waitedMs);
  };
  taken().catch((error: unknown) => onBug(error, verb));
}

/** Answers nothing and commits nothing from now on. */
export function letGo({ subscriptions, gate, ledger, leader, keeper }: Served): void {
  gate.end();
  for (const subscription of subscriptions) subscription.unsubscribe();
  void keeper.end();
  ledger.close();
  leader.stop();
}

function lostCommits(pool: string, loss: string): Fault {
  const message =
    `${loss}. It is not served, because its limits, leases and proxies would be forgotten. Restore the stream from a ` +
    `backup. To go on without the lost commits: npx remuda pool open --pool ${pool} --forget`;
  return new Fault("stop-damaged", message);
}

/** Makes unguessable ids. Asking the system for random bits is expensive, so it is done for many ids at a time. */
function leaseIds(): () => string {
  const idBytes = 16;
  const idsAtOnce = 256;
  let bits = Buffer.alloc(0);
  let next = 0;
  return () => {
    if (next >= bits.length) {
      bits = randomBytes(idBytes * idsAtOnce);
      next = 0;
    }
    next += idBytes;
    return `l_${bits.toString("base64url", next - idBytes, next)}`;
  };
}
