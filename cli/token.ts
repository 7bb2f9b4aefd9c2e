// `remuda token`: the current token, a rejection of it, and its history. The history is read from the ledger, with an
// auditor's rights. It gives the reason of each refresh, and of each rejection that led to no refresh.
import { type Command, Option } from "commander";
import { type CommitEnvelope, decodeCommit } from "../events/commit.ts";
import type { Event } from "../events/event.ts";
import type { TokenEvent, TokenRejected, WhyRefused } from "../events/token.ts";
import { given } from "../protocol/given.ts";
import { ledgerSubject } from "../protocol/subjects.ts";
import type { RejectReply, TokenReply } from "../protocol/token.ts";
import { Archive } from "../runtime/archive/archive.ts";
import { storedMessage, streamOf } from "../runtime/jetstream-api.ts";
import { type Place, tail } from "../runtime/tail.ts";
import { showInstant } from "../runtime/text.ts";
import type { LedgerAddress } from "./address.ts";
import { type Asked, durationForm, poolCommand, readDuration } from "./arguments.ts";
import { type WithService, withBus } from "./connection.ts";
import { noLedger, Refused } from "./failure.ts";
import { print, printJson, printReply, showDuration } from "./output.ts";
import { readPlace } from "./watch.ts";

export function addTokens(program: Command, find: () => LedgerAddress, withService: WithService): void {
  const token = program.command("token").description("show or reject the current guest token, or show its history");

  poolCommand(token, "get", "show the current guest token, or fetch one first if the pool has no token")
    .option("--proxy <proxyId>", "the token of this proxy, if each proxy has its own")
    .addOption(
      new Option("--wait <duration>", `how long to wait for the token, ${durationForm}`)
        .argParser(readDuration)
        .default(10_000, "10s"),
    )
    .action(async (options: Asked & { proxy?: string; wait: number }) => {
      const body = { waitMs: options.wait, ...given({ proxyId: options.proxy }) };
      const reply = await withService(options, (ask) => ask<TokenReply>("token.get", body, options.wait));
      printReply(options, reply);
    });

  poolCommand(token, "reject", "report that a target no longer accepts a token")
    .argument("<tokenId>")
    .option("--proxy <proxyId>", "the proxy of the token, if each proxy has its own")
    .action(async (tokenId: string, options: Asked & { proxy?: string }) => {
      const body = { tokenId, ...given({ proxyId: options.proxy }) };
      printReply(options, await withService(options, (ask) => ask<RejectReply>("token.reject", body)));
    });

  poolCommand(token, "history", "show each refresh in the ledger, and each rejection that led to no refresh")
    .option("--proxy <proxyId>", "only the token of this proxy")
    .option("--from <place>", "begin at a sequence, an instant (2026-01-31T12:00Z), or a time ago (10m)", readPlace)
    .addHelpText("after", "\nWith --json, each event is one line: {n, at, sequence, type, event, says}.")
    .action((options: Asked & { proxy?: string; from?: Place }) => history(options, find));
}

const marked = Buffer.from('{"type":"Token');

async function history(options: Asked & { proxy?: string; from?: Place }, find: () => LedgerAddress): Promise<void> {
  const { pool, json, proxy } = options;
  const address = find();
  await withBus(address, "remuda token history", async (bus) => {
    const subject = ledgerSubject(pool);
    const stream = await streamOf(bus, subject);
    const last = stream === undefined ? undefined : await storedMessage(bus, stream, { last_by_subj: subject });
    if (stream === undefined || last === undefined) throw new Refused(noLedger(pool));
    if (options.from !== undefined && options.from.at > last.storedAt) return;
    const from = options.from ?? { seq: 0, at: 0 };
    const teller = new Teller();
    const stored = tail({ bus, stream, subject, from, until: last.seq });
    for await (const { bytes, seq: sequence } of new Archive(address.archiveFolder).whole(pool, stored, from.seq)) {
      // Most commits have no event about tokens, and need not be parsed.
      if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(marked)) continue;
      const commit = decodeCommit(Buffer.from(bytes).toString());
      for (const { event, says } of teller.tell(commit)) {
        if (proxy !== undefined && event.proxyId !== proxy) continue;
        if (json === true) printJson({ n: commit.n, at: commit.at, sequence, type: event.type, event, says });
        else print(`${showInstant(commit.at)}  ${says}`);
      }
    }
  });
}

interface Known {
  requestedAt?: number;
  mintedAt?: number;
}

/** Sentences refer to at most this many earlier tokens. */
const knownMax = 100_000;

export class Teller {
  readonly #known = new Map<string, Known>();
  /** Proxies or pools whose token value was lost and not fetched again so far. */
  readonly #lost = new Set<string>();

  /** The events about tokens of one commit, each with a sentence. */
  tell(commit: Pick<CommitEnvelope, "at" | "events">): { event: TokenEvent; says: string }[] {
    const told: { event: TokenEvent; says: string }[] = [];
    const through = new Map<string, string>();
    for (const event of commit.events as Event[]) {
      if (event.type === "LeaseGranted") through.set(event.leaseId, event.proxyId);
      else if (isAboutTokens(event)) told.push({ event, says: this.#says(event, commit.at, through) });
    }
    return told;
  }

  #says(event: TokenEvent, at: number, through: ReadonlyMap<string, string>): string {
    const whose = event.proxyId === undefined ? "the pool's token" : `the token of ${event.proxyId}`;
    switch (event.type) {
      case "TokenRequested": {
        this.#learn(event.tokenId, { requestedAt: at });
        const proxy = through.get(event.leaseId);
        const way = proxy === undefined ? "" : ` through ${proxy}`;
        const why = this.#lost.has(whose) ? "the value of the previous token was lost" : because[event.why];
        return `Refresh ${event.tokenId} of ${whose} began${way}, because ${why}; its deadline is ${showDuration(event.deadlineAt - at)} later.`;
      }
      case "TokenMinted": {
        const tookMs = this.#since(event.tokenId, at, "requestedAt");
        const took = tookMs === undefined ? "" : tookMs === 0 ? " at once" : ` after ${showDuration(tookMs)}`;
        this.#learn(event.tokenId, { mintedAt: event.mintedAt });
        this.#lost.delete(whose);
        const end = event.expiresAt === undefined ? "with no end known" : `good until ${showInstant(event.expiresAt)}`;
        return `Refresh ${event.tokenId} brought ${whose}${took}, ${end}.`;
      }
      case "TokenRefused": {
        const again = `failure ${event.failures} in a row, next refresh not before ${showInstant(event.retryAt)} (${showDuration(event.retryAt - at)})`;
        const kept = event.token === "fresh" ? "; leases still get the previous token" : "";
        const gone = event.token === "unavailable" ? "; the token is unavailable until then" : "";
        return `Refresh ${event.tokenId} of ${whose} failed: ${refused(event.why, event.status)}; ${again}${kept}${gone}.`;
      }
      case "TokenRejected":
        return this.#rejected(event, at, whose);
    }
  }

  #rejected(event: TokenRejected, at: number, whose: string): string {
    const id = event.tokenId ?? "an id that no token has";
    if (event.why === "value-lost") {
      this.#lost.add(whose);
      return `The leader that took over found no value of token ${id} in the bucket: ${whose} is fetched again.`;
    }
    if (event.count === undefined) {
      const ageMs = this.#since(id, at, "mintedAt");
      const age = ageMs === undefined ? "" : ` ${showDuration(ageMs)} after it was minted`;
      return `Token ${id} was rejected${age}: ${whose} is fetched again.`;
    }
    const skipped = `${event.count === 1 ? "A rejection" : `${event.count} rejections`} of ${id} led to no refresh`;
    if (event.action === "ignored") return `${skipped}: it is not the current token.`;
    if (event.action === "refreshing")
      return `${skipped} of its own: the token was already rejected, and one refresh is enough.`;
    const age = event.mintedAt === undefined ? "recently" : `${showDuration(at - event.mintedAt)} earlier`;
    const until = event.keptUntil === undefined ? "" : `, and is kept until ${showInstant(event.keptUntil)}`;
    return `${skipped}: it was minted ${age}${until}.`;
  }

  #learn(tokenId: string, news: Known): void {
    const [oldest] = this.#known.keys();
    if (this.#known.size >= knownMax && oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(tokenId, { ...this.#known.get(tokenId), ...news });
  }

  #since(tokenId: string, at: number, what: keyof Known): number | undefined {
    const then = this.#known.get(tokenId)?.[what];
    return then === undefined ? undefined : at - then;
  }
}

const because = {
  asked: "a token was requested and there was none",
  rejected: "the previous token was rejected",
  expired: "a token was requested and the previous one had expired",
  ahead: "the previous token was about to expire",
} as const;

function refused(why: WhyRefused, status: number | undefined): string {
  if (why === "status") return `the source answered ${status ?? "with a status other than 2xx"}`;
  return {
    deadline: "no result came before its deadline (is an executor running?)",
    "not-allowed": "its address is not public, and REMUDA_OUTBOUND_ALLOW does not allow it",
    "not-sent": "no time was left to send its request",
    timeout: "the source did not answer in time",
    unreachable: "the source could not be reached through the proxy",
    "too-large": "the answer was too large",
    unreadable: "the answer could not be read",
    "no-value": "the answer had no token at the place that the policy names",
    "no-life": "the answer did not say how long the token is valid, or the token had expired",
  }[why];
}

function isAboutTokens(event: Event): event is TokenEvent {
  return event.type.startsWith("Token");
}
