// The key of the installation, and its rotation. All pickers on one NATS server have the same key.
import { headers } from "@nats-io/transport-node";
import { ledgerStream, secretsBucket } from "../../protocol/subjects.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";
import { whenFormed } from "../../runtime/forming.ts";
import { answerOf, ifStream, storedMessage, streamInfo, subjectsOf } from "../../runtime/jetstream-api.ts";
import { keyFileOf, makeKey, readKey } from "../../runtime/key-file.ts";
import { atOnce, type InstallationKey } from "../../runtime/secrets.ts";

const stream = `KV_${secretsBucket}`;
const storeMs = 10_000;

/** @throws Fault "fix-setup" if the key is missing here, and the NATS server has ledgers or secrets. */
export async function installationKey(dataDir: string, bus: Bus): Promise<InstallationKey> {
  const present = readKey(dataDir);
  if (present !== undefined) return present;
  if (!(await whenFormed(bus, () => isUsed(bus)))) return makeKey(dataDir);
  const path = keyFileOf(dataDir);
  const what = `There is no ${path}, and the NATS server has ledgers or secrets. A new key would be another installation's key.`;
  const todo = "Restore the file from a backup, or copy it from another picker's data directory.";
  throw new Fault("fix-setup", `${what} ${todo}`);
}

/** Whether the NATS server has ledgers or secrets of an installation. */
export async function isUsed(bus: Bus): Promise<boolean> {
  for (const name of [ledgerStream, stream])
    if (((await ifStream(streamInfo(bus, name)))?.state.messages ?? 0) > 0) return true;
  return false;
}

export interface SealedEntry {
  /** In the bucket. */
  name: string;
  /** Of the stored message. */
  seq: number;
  sealed: Uint8Array;
}

/** Calls `each` with every entry of the bucket of secrets, many at the same time. Returns how many there are. */
export async function forEachSealed(bus: Bus, each: (entry: SealedEntry) => Promise<void> | void): Promise<number> {
  const prefix = `$KV.${secretsBucket}.`;
  const subjects = (await ifStream(subjectsOf(bus, stream, `${prefix}>`))) ?? [];
  let count = 0;
  await atOnce(subjects, async (subject) => {
    const message = await storedMessage(bus, stream, { last_by_subj: subject });
    if (message === undefined || message.header("KV-Operation") !== undefined) return;
    count++;
    await each({ name: subject.slice(prefix.length), seq: message.seq, sealed: message.bytes });
  });
  return count;
}

/** Stores an entry if the last one of its name is at `afterSeq`. 0: the name has no entry yet. */
export async function storeSealed(
  bus: Bus,
  { name, sealed }: Omit<SealedEntry, "seq">,
  afterSeq: number,
): Promise<void> {
  const expected = headers();
  expected.set("Nats-Expected-Last-Subject-Sequence", String(afterSeq));
  const subject = `$KV.${secretsBucket}.${name}`;
  answerOf((await requestOn(bus, subject, sealed, { timeoutMs: storeMs, headers: expected })).string());
}

/** Seals every entry again. Returns how many there are. No picker may run meanwhile. */
export async function sealAnew(bus: Bus, key: InstallationKey): Promise<number> {
  return forEachSealed(bus, ({ name, seq, sealed }) =>
    storeSealed(bus, { name, sealed: key.seal(key.unseal(sealed)) }, seq),
  );
}
