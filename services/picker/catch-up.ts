// A leader's work between its claim and its first grant. It looks up the values of tokens, and ingests every outcome
// that was stored before the claim. From then on it follows the stream as long as it leads.
import type { Clock } from "../../runtime/clock.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import type { Engine } from "../../state-machines/engine.ts";
import type { OutcomeFeed, Outcomes } from "./outcomes.ts";
import { lookUpTokens } from "./token-values.ts";

export interface CatchUpPorts {
  feed: OutcomeFeed;
  ledger: Pick<Ledger, "head">;
  secrets: Pick<Secrets, "look">;
  clock: Pick<Clock, "after">;
  /**
   * Tells clients and pickers that this process leads now, under the term. Called again until it resolves. Absent: no
   * client or picker listens.
   */
  announce?: ((term: number) => Promise<void>) | undefined;
}

const lookMs = 1000;
const retryMs = 100;
/** Without progress for this long, the leader may have to give the pool up. */
const stuckMs = 5000;

/**
 * Resolves when the engine serves, or when stopped.
 * @param given.onAnnounced called when clients and pickers have been told of the leader.
 * @param given.onLook called when the engine knows the outcomes that it must ingest.
 * @param given.onOutcome called when one more outcome waits to be ingested.
 * @param given.onStuck called when it has made no progress for seconds, although the ledger can be read.
 */
export async function catchUp(
  { feed, ledger, secrets, clock, announce }: CatchUpPorts,
  engine: Pick<Engine<never>, "state" | "catchUp" | "serves">,
  given: {
    outcomes: Outcomes;
    stopping: AbortSignal;
    onAnnounced: () => void;
    onLook: () => void;
    onOutcome: () => void;
    onStuck: () => void;
  },
): Promise<void> {
  const { outcomes, stopping, onAnnounced, onLook, onOutcome, onStuck } = given;
  const wait = (ms: number): Promise<void> => new Promise((resolve) => void clock.after(ms, resolve));
  /** Repeats until the broker answers. */
  const insist = async (ask: () => Promise<void>): Promise<void> => {
    while (!stopping.aborted) {
      try {
        return await ask();
      } catch {
        await wait(retryMs);
      }
    }
  };
  const look = async (): Promise<void> => {
    await insist(async () => engine.catchUp(await feed.last()));
    if (!stopping.aborted) onLook();
  };
  let phase = 0;
  const watch = async (): Promise<void> => {
    const place = (): string => `${phase} ${JSON.stringify(engine.state.cursor)}`;
    while (!stopping.aborted && !engine.serves) {
      const before = place();
      await wait(stuckMs);
      if (stopping.aborted || engine.serves || place() !== before) continue;
      // If the ledger cannot be read here either, no other process would fare better.
      const isReadable = await ledger.head().then(
        () => true,
        () => false,
      );
      if (isReadable && !stopping.aborted && !engine.serves) onStuck();
    }
  };
  void watch();
  // First of all, so that the previous leader falls silent before this one says anything.
  await insist(async () => announce?.(engine.state.term));
  if (stopping.aborted) return;
  onAnnounced();
  phase++;
  // The previous leader may have stored values until the claim. From now on only this leader does.
  await insist(() => lookUpTokens(secrets, engine.state));
  phase++;
  await look();
  if (stopping.aborted) return;
  stopping.addEventListener("abort", () => feed.stop());
  feed.follow(engine.state.cursor, (message) => {
    const offered = outcomes.offer(message);
    onOutcome();
    return offered;
  });
  // The outcome that was last at that time may have been removed since. Then there is less to wait for.
  while (!stopping.aborted && !engine.serves) {
    await wait(lookMs);
    if (!engine.serves) await look();
  }
}
