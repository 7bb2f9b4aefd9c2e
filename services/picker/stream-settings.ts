// The streams that a picker needs, and their settings.
import { outcomesMessageBytesMax } from "../../protocol/outcome.ts";
import {
  ledgerStream,
  ledgerSubjects,
  outcomeSubjects,
  outcomesStream,
  secretsBucket,
} from "../../protocol/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";
import { whenFormed } from "../../runtime/forming.ts";
import { payloadFault } from "../../runtime/payload.ts";
import { bucketSettings } from "../../runtime/secrets.ts";
import { ensureStream, type StreamSettings } from "../../runtime/streams.ts";

const secondNs = 1e9;
const dayNs = 86_400 * secondNs;
const outcomesBytesMax = 1024 ** 3;

// No stream is compressed. With `sync_interval: always`, brokers that were killed often left a replica of a compressed
// stream that never caught up again.
const adjusted = { allow_direct: true, compression: "none" };

/** @param given.isSingle the broker is not a cluster. */
export function ledgerSettings(given: { isSingle: boolean; ledgerBytesMax: number }): StreamSettings {
  return {
    name: ledgerStream,
    fixed: {
      subjects: [ledgerSubjects],
      storage: "file",
      retention: "limits",
      // Rejects new messages when full, instead of losing the oldest facts.
      discard: "new",
      max_age: 0,
      max_msgs: -1,
      max_msgs_per_subject: -1,
      max_msg_size: -1,
      deny_delete: true,
      allow_rollup_hdrs: false,
      persist_mode: "default",
    },
    adjusted,
    raised: { max_bytes: given.ledgerBytesMax },
    initial: { num_replicas: replicas(given) },
  };
}

export function outcomesSettings({ isSingle }: { isSingle: boolean }): StreamSettings {
  return {
    name: outcomesStream,
    fixed: { subjects: [outcomeSubjects], storage: "file", retention: "limits" },
    // The stream must accept every worker's outcome, whatever bounds were set. A message that is larger than a report
    // cannot be read in one go.
    adjusted: {
      ...adjusted,
      discard: "old",
      max_msgs: -1,
      max_msgs_per_subject: -1,
      max_msg_size: outcomesMessageBytesMax,
      // The server keeps each Nats-Msg-Id in memory for this long, and one may have 64 kB. The leader knows copies
      // anyway.
      duplicate_window: secondNs,
    },
    initial: {
      max_age: 7 * dayNs,
      max_bytes: outcomesBytesMax,
      num_replicas: replicas({ isSingle }),
      // An fsync per outcome would cut the throughput to a tenth, and then leases would come faster than outcomes and
      // fill every proxy. The price: a broker that is killed forgets outcomes that it acknowledged in the last moments.
      // A cluster refuses this mode.
      ...(isSingle ? { persist_mode: "async" } : {}),
    },
  };
}

/** A stream, the connection on which it is called, and advice for an operator. */
export interface NeededStream {
  bus: Bus;
  settings: StreamSettings;
  /** It may be made again while it is in use, because it is only a buffer. */
  isBuffer: boolean;
  /** If it is missing. */
  todo: string;
}

/** @param buses The streams may belong to different accounts. */
export function neededStreams(
  buses: { ledger: Bus; follower: Bus },
  given: { ledgerBytesMax: number },
): readonly NeededStream[] {
  const { ledger, follower } = buses;
  const isSingle = ledger.nc.info?.cluster === undefined;
  return [
    {
      bus: ledger,
      settings: ledgerSettings({ isSingle, ...given }),
      isBuffer: false,
      todo:
        "Stop Remuda, restore the stream from a backup, and start it again. Without a backup: start it again, and open " +
        'each pool anew with "npx remuda pool open --forget"',
    },
    {
      bus: ledger,
      settings: bucketSettings(secretsBucket, { isSingle }),
      isBuffer: false,
      todo:
        "It has the passwords of proxies, which the running pickers still know. Export each pool now (npx remuda proxies " +
        "export), restart Remuda, and add the proxies again",
    },
    { bus: follower, settings: outcomesSettings({ isSingle }), isBuffer: true, todo: "It is made again by itself" },
  ];
}

/** @throws Fault "fix-setup" if a stream, or the server, cannot be used as it is. */
export async function ensureStreams(needed: readonly NeededStream[]): Promise<void> {
  for (const { bus, settings } of needed) {
    const fault = payloadFault(bus);
    if (fault !== undefined) throw fault;
    await whenFormed(bus, () => ensureStream(bus, settings));
  }
}

function replicas({ isSingle }: { isSingle: boolean }): number {
  return isSingle ? 1 : 3;
}
