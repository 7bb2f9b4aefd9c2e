// One leader after another on the same in-memory ledger and bucket, for a pool whose policy has a token source. The
// test is the executor and controls time: the clock stands still unless the test moves it.

import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { Requests } from "../../services/picker/requests.ts";
import { HandClock } from "./hand-clock.ts";
import { foldedLeader } from "./leader.ts";
import { noSecrets } from "./no-secrets.ts";
import { loopbackAllowed } from "./outbound.ts";
import { proxyLines } from "./pool.ts";
import { source } from "./token-pool.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");

export class TokenLeaders {
  readonly clock = new HandClock();
  readonly ledger = new MemoryLedger({ wall: this.clock.wall });
  readonly bucket = new Map<string, string>();
  /** Called before each write to the bucket. */
  onPut: (id: string) => void = () => {};
  readonly #policy: object;

  constructor(policy: object = {}) {
    this.#policy = policy;
  }

  /**
   * Ready to claim the ledger. It does not see the commits that others store from now on.
   * @param given.isBehind the bucket was read from a replica that has nothing yet.
   */
  async fold({ isBehind = false } = {}) {
    const feed = { follow: () => {}, last: async () => undefined, stop: () => {} };
    const { ledger, bucket } = this;
    const seen = new Map(isBehind ? [] : bucket);
    const secrets = {
      ...noSecrets,
      putAs: async (id: string, secret: string) => {
        this.onPut(id);
        for (const map of [bucket, seen]) map.set(id, secret);
      },
      claim: async (id: string, by: string) => {
        const holder = bucket.get(id) ?? by;
        for (const map of [bucket, seen]) map.set(id, holder);
        return holder;
      },
      look: async (ids: readonly string[]) => {
        for (const id of ids) if (bucket.has(id)) seen.set(id, bucket.get(id)!); // Just asked.
      },
      get: (id: string) => seen.get(id),
    };
    const leader = await foldedLeader({
      pool: "test",
      id: "leader",
      ledger,
      feed,
      clock: this.clock,
      key,
      secrets,
      tell: () => {},
    });
    let leases = 0;
    const newLeaseId = (): string => `l_${String(++leases).padStart(22, "0")}`;
    const requests = new Requests({ outbound: loopbackAllowed, leader, secrets, key, newLeaseId });
    const ask = (verb: Parameters<Requests["handle"]>[0], body: object = {}) =>
      new Promise<Record<string, unknown>>((resolve) =>
        requests.handle(verb, body, (answer) => resolve(answer as Record<string, unknown>)),
      );
    return { leader, requests, ask };
  }

  async lead(proxies = 1, given?: { isBehind: boolean }) {
    const folded = await this.fold(given);
    const { leader, requests, ask } = folded;
    const open = this.ledger.commits.length === 0;
    const { token: more, ...policy } = this.#policy as { token?: object };
    const token = { scope: "pool", source: { ...source, timeoutMs: 1000 }, deadlineMs: 60_000, ...more };
    if (open) requests.open({ policy: { ...policy, token } }, () => {});
    await leader.lead();
    if (open) await ask("proxies.add", { proxies: proxyLines(proxies) });
    return folded;
  }

  commits(): Event[][] {
    return this.ledger.commits.map(({ bytes }) => decodeCommit(Buffer.from(bytes).toString()).events as Event[]);
  }

  events(): Event[] {
    return this.commits().flat();
  }

  types(): string[] {
    return this.events().map(({ type }) => type);
  }

  get requested() {
    return this.events().filter((event) => event.type === "TokenRequested");
  }
}
