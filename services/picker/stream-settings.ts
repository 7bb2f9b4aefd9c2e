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
import { Fault } from "../../runtime/fault.ts";
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

/** `isSingle`: the broker is not a cluster. `replicas`: as the operator wants it. */
interface Copies {
  isSingle: boolean;
  replicas?: number | undefined;
}

export function ledgerSettings(given: Copies & { ledgerBytesMax: number }): StreamSettings {
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
    raised: { max_bytes: given.ledgerBytesMax, ...atLeast(given) },
    initial: copiesOf(given),
  };
}

export function outcomesSettings(given: Copies): StreamSettings {
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
    raised: atLeast(given),
    initial: {
      max_age: 7 * dayNs,
      max_bytes: outcomesBytesMax,
      ...copiesOf(given),
      // An fsync per outcome would cut the throughput to a tenth, and then leases would come faster than outcomes and
      // fill every proxy. The price: a broker that is killed forgets outcomes that it acknowledged in the last moments.
      // A cluster refuses this mode.
      ...(given.isSingle ? { persist_mode: "async" } : {}),
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

/**
 * @param buses The streams may belong to different accounts.
 * @throws Fault "fix-setup" if the streams are to have more copies than there can be.
 */
export function neededStreams(
  buses: { ledger: Bus; follower: Bus },
  { ledgerBytesMax, replicas }: { ledgerBytesMax: number; replicas?: number | undefined },
): readonly NeededStream[] {
  const { ledger, follower } = buses;
  const isSingle = ledger.nc.info?.cluster === undefined;
  if (isSingle && (replicas ?? 1) > 1)
    throw new Fault(
      "fix-setup",
      `REMUDA_REPLICAS is ${replicas}, and the NATS server is not in a cluster (expected 1).`,
    );
  const given = { isSingle, replicas };
  const secrets = bucketSettings(secretsBucket, given);
  return [
    {
      bus: ledger,
      settings: ledgerSettings({ ...given, ledgerBytesMax }),
      isBuffer: false,
      todo:
        "Stop Remuda, restore the stream from a backup, and start it again. Without a backup: start it again, and open " +
        'each pool anew with "npx remuda pool open --forget"',
    },
    {
      bus: ledger,
      settings: { ...secrets, raised: atLeast(given), initial: { ...secrets.initial, ...copiesOf(given) } },
      isBuffer: false,
      todo:
        "It has the passwords of proxies, which the running pickers still know. Export each pool now (npx remuda proxies " +
        "export), restart Remuda, and add the proxies again",
    },
    { bus: follower, settings: outcomesSettings(given), isBuffer: true, todo: "It is made again by itself" },
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

function copiesOf({ isSingle, replicas = isSingle ? 1 : 3 }: Copies): { num_replicas: number } {
  return { num_replicas: replicas };
}

/** A stream that has fewer copies gets more, if the operator says so. */
function atLeast({ replicas }: Copies): Record<string, number> {
  return replicas === undefined ? {} : { num_replicas: replicas };
}
