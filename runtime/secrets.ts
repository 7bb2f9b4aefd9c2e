// Secrets: the installation's key, the keys derived from it, and the sealed bucket. Nothing here is ever logged.
//
// The bucket holds entries of many secrets each, sealed with AES-256-GCM. One put per secret under fsync would take
// minutes for a hundred thousand.
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, hkdfSync, randomBytes } from "node:crypto";
import { type KV, Kvm } from "@nats-io/kv";
import type { Bus } from "./bus.ts";
import { Fault } from "./fault.ts";
import { callJs, storedMessage, subjectsOf } from "./jetstream-api.ts";
import { ensureStream, type StreamSettings } from "./streams.ts";

export type InstallationKey = ReturnType<typeof keyOf>;

/**
 * @param text of a key file. Its first line makes proxies' ids. It also seals and opens if there is no other line. Each
 * rotation adds a line: the last one seals, and every added line opens.
 */
export function keyOf(text: string, where: string) {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const [first = Buffer.alloc(0), ...rotated] = lines.map((line) => Buffer.from(line.trim(), "base64url"));
  if ([first, ...rotated].some(({ length }) => length !== 32))
    throw new Fault("fix-setup", `${where} does not hold a key (32 bytes in base64url). Restore it from a backup.`);
  const derive = (purpose: string, secret = first): Buffer =>
    Buffer.from(hkdfSync("sha256", secret, "", `remuda ${purpose}`, 32));
  // A key object is set up once. Raw bytes would be set up again for each proxy, which takes five times as long.
  const idKey = createSecretKey(derive("ids"));
  const sealKeys = (rotated.length === 0 ? [first] : rotated).map((secret) => derive("seal", secret)).reverse();
  const [sealKey = derive("seal")] = sealKeys;
  const opened = (sealed: Uint8Array, by: Buffer): string => {
    const decipher = createDecipheriv("aes-256-gcm", by, sealed.subarray(0, 12));
    decipher.setAuthTag(sealed.subarray(12, 28));
    return decipher.update(sealed.subarray(28), undefined, "utf8") + decipher.final("utf8");
  };
  return {
    /** base64url HMAC-SHA-256 of the text. */
    hmac: (text: string): string => createHmac("sha256", idKey).update(text).digest("base64url"),
    seal(plain: string): Uint8Array {
      const nonce = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", sealKey, nonce);
      const body = Buffer.concat([cipher.update(plain, "utf8"), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), body]);
    },
    /** @throws Fault if the text was sealed under another key. */
    unseal(sealed: Uint8Array): string {
      let cause: unknown;
      for (const by of sealKeys) {
        try {
          return opened(sealed, by);
        } catch (error) {
          cause = error;
        }
      }
      const what =
        `A secret in the bucket was sealed under a different key from ${where}. ` +
        "After a rotation each picker needs the new file.";
      throw new Fault("fix-setup", what, { cause });
    },
    /** Distinguishes keys, and reveals nothing about them. */
    fingerprint: createHmac("sha256", derive("fingerprint")).update("key").digest("base64url").slice(0, 16),
  };
}

export type Secrets = Awaited<ReturnType<typeof openSecrets>>;

/** Entries are kept well under any broker's message limit. */
const entryBytesMax = 200_000;

export interface SecretsBucket {
  bus: Bus;
  name: string;
  entries: Pick<KV, "put" | "create">;
}

/** Of the bucket's stream, as the library makes it. Nothing in it expires. */
export function bucketSettings(name: string, { isSingle }: { isSingle: boolean }): StreamSettings {
  return {
    name: `KV_${name}`,
    fixed: {
      subjects: [`$KV.${name}.>`],
      storage: "file",
      retention: "limits",
      discard: "new",
      max_age: 0,
      max_msgs: -1,
      max_msgs_per_subject: 1,
    },
    adjusted: { allow_direct: true, compression: "none" },
    initial: {
      num_replicas: isSingle ? 1 : 3,
      allow_rollup_hdrs: true,
      duplicate_window: 120e9,
    },
  };
}

/** Creates the bucket if there is none. */
export async function openBucket(bus: Bus, name: string): Promise<SecretsBucket> {
  await ensureStream(bus, bucketSettings(name, { isSingle: bus.nc.info?.cluster === undefined }));
  return { bus, name, entries: await new Kvm(bus.nc).open(name) };
}

/** The secrets under one name, all of them in memory. */
export async function openSecrets(
  { bus, name: bucket, entries }: SecretsBucket,
  given: { under: string; key: InstallationKey },
) {
  const stream = `KV_${bucket}`;
  const known = new Map<string, string>();
  const idsOf = new Map<string, string[]>();
  const prefix = `${given.under}.`;
  const subjectOf = (name: string): string => `$KV.${bucket}.${name}`;
  const sealed = (secrets: Record<string, string>): Uint8Array => given.key.seal(JSON.stringify(secrets));
  const note = (name: string, secrets: Record<string, string>): void => {
    idsOf.set(name, Object.keys(secrets));
    for (const [id, secret] of Object.entries(secrets)) known.set(id, secret);
  };
  const remember = (name: string, entry: Uint8Array): void => note(name, JSON.parse(given.key.unseal(entry)));
  /** Not with the bucket's own `get`: a replica that is behind may answer it. */
  const read = async (name: string): Promise<void> => {
    const stored = await storedMessage(bus, stream, { last_by_subj: subjectOf(name) });
    if (stored !== undefined && stored.header("KV-Operation") === undefined) remember(name, stored.bytes);
  };
  /** Reads these ids again: other processes may have stored each in its own entry since. */
  const look = async (ids: readonly string[]): Promise<void> => {
    for (const id of ids) if (!known.has(id)) await read(`${prefix}${id}`);
  };
  /** Finds the entries that others have stored, and forgets those that they have deleted. An entry never changes. */
  const readAgain = async (): Promise<void> => {
    // Not with the bucket's own `keys`, which needs a consumer, and leaves it behind if this process is killed.
    const subjects = await subjectsOf(bus, stream, subjectOf(`${prefix}>`));
    const names = new Set(subjects.map((subject) => subject.slice(subjectOf("").length)));
    // An id may be in several entries.
    if ([...idsOf.keys()].some((name) => !names.has(name))) for (const each of [known, idsOf]) each.clear();
    await atOnce(
      [...names].filter((name) => !idsOf.has(name)),
      read,
    );
  };
  await readAgain();
  return {
    /** How many entries of the bucket hold them. */
    get entries(): number {
      return idsOf.size;
    },
    /** Stores all of them, in as few entries as possible, each under its id. Resolves when they are on disk. */
    async put(secrets: ReadonlyMap<string, string>): Promise<void> {
      let batch: Record<string, string> = {};
      let size = 0;
      const flush = async (): Promise<void> => {
        if (size === 0) return;
        const name = `${prefix}${randomBytes(12).toString("base64url")}`;
        await entries.put(name, sealed(batch));
        note(name, batch);
        batch = {};
        size = 0;
      };
      for (const [id, secret] of secrets) {
        if (known.has(id)) continue;
        batch[id] = secret;
        size += id.length + secret.length + 8;
        if (size > entryBytesMax) await flush();
      }
      await flush();
    },
    /** Stores one, in its own entry. Resolves when it is on disk. */
    async putAs(id: string, secret: string): Promise<void> {
      const name = `${prefix}${id}`;
      await entries.put(name, sealed({ [id]: secret }));
      note(name, { [id]: secret });
    },
    /**
     * Stores the owner of an id, unless one is already stored. Returns the stored owner, whichever process wrote it.
     */
    async claim(id: string, by: string): Promise<string> {
      const present = known.get(id);
      if (present !== undefined) return present;
      const name = `${prefix}${id}`;
      try {
        await entries.create(name, sealed({ [id]: by }));
        note(name, { [id]: by });
      } catch (error) {
        // Another process was first, or the answer was lost. The bucket has the result.
        await look([id]);
        if (!known.has(id)) throw error;
      }
      return known.get(id) ?? by;
    },
    look,
    readAgain,
    get: (id: string): string | undefined => known.get(id),
    /** Deletes entries without any wanted id. */
    async prune(wanted: (id: string) => boolean): Promise<void> {
      const unwanted = [...idsOf].filter(([, ids]) => !ids.some(wanted));
      await atOnce(unwanted, async ([name, ids]) => {
        // Not with the bucket's own `purge`, which leaves a marker for each entry for ever.
        await callJs(bus, `STREAM.PURGE.${stream}`, { filter: subjectOf(name) });
        idsOf.delete(name);
        for (const id of ids) known.delete(id);
      });
    },
  };
}

/** How many entries are requested at once. One by one, thousands would take as many round trips. */
const callsAtOnce = 100;

export async function atOnce<T>(items: readonly T[], call: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next < items.length) await call(items[next++]!); // The index is below the length.
  };
  await Promise.all(Array.from({ length: Math.min(callsAtOnce, items.length) }, caller));
}
