// Objects in JetStream, in the form of its object store (ADR-20): chunks in one subject, and a last message that
// describes them. So an object is there whole or not at all, and `nats object` can read it. The library's own store
// needs consumers, which a killed process leaves behind, and reads from replicas that may be behind.
import { createHash, randomBytes } from "node:crypto";
import { headers } from "@nats-io/transport-node";
import { type Bus, requestOn } from "./bus.ts";
import { answered, answerOf, brokerNow, callJs, ifStream, storedMessage, subjectsOf } from "./jetstream-api.ts";
import type { StreamSettings } from "./streams.ts";
import { readUntil } from "./tail.ts";

const chunkBytes = 128 * 1024;
const storeMs = 10_000;
const leftoverMs = 600_000;

interface Meta {
  name: string;
  bucket: string;
  nuid: string;
  size: number;
  chunks: number;
  /** `SHA-256=` and the hash of all chunks in base64url, padded. */
  digest: string;
  options: { max_chunk_size: number };
}

export function objectStoreSettings(bucket: string, { isSingle }: { isSingle: boolean }): StreamSettings {
  return {
    name: `OBJ_${bucket}`,
    fixed: {
      subjects: [`$O.${bucket}.C.>`, `$O.${bucket}.M.>`],
      storage: "file",
      retention: "limits",
      discard: "new",
      max_age: 0,
    },
    adjusted: { allow_direct: true, compression: "none", allow_rollup_hdrs: true },
    // A cluster refuses asynchronous writes. On a single server, an fsync for each chunk would delay the ledger's commits.
    initial: { num_replicas: isSingle ? 1 : 3, ...(isSingle ? { persist_mode: "async" } : {}) },
  };
}

export class ObjectStore {
  readonly #bus: Bus;
  readonly #bucket: string;
  readonly #stream: string;

  constructor(bus: Bus, bucket: string) {
    this.#bus = bus;
    this.#bucket = bucket;
    this.#stream = `OBJ_${bucket}`;
  }

  /** The names of all objects. None if there is no store yet. */
  async names(): Promise<string[]> {
    const prefix = this.#metaSubject("");
    const subjects = (await ifStream(subjectsOf(this.#bus, this.#stream, `${prefix}>`))) ?? [];
    return subjects.map((subject) => Buffer.from(subject.slice(prefix.length), "base64url").toString());
  }

  /** Replaces an object of this name. Returns the base64url SHA-256 of its bytes. */
  async put(name: string, bytes: AsyncIterable<Uint8Array>): Promise<string> {
    const nuid = randomBytes(16).toString("hex");
    const before = await this.#meta(name);
    const hash = createHash("sha256");
    let size = 0;
    let chunks = 0;
    try {
      for await (const chunk of inChunks(bytes)) {
        hash.update(chunk);
        size += chunk.length;
        chunks++;
        await this.#store(this.#chunkSubject(nuid), chunk);
      }
      const digest = hash.digest("base64url");
      const options = { max_chunk_size: chunkBytes };
      const meta: Meta = { name, bucket: this.#bucket, nuid, size, chunks, digest: `SHA-256=${digest}=`, options };
      await this.#store(this.#metaSubject(name), JSON.stringify(meta), { replaces: true });
      if (before !== undefined) await this.#purge(this.#chunkSubject(before.nuid));
      return digest;
    } catch (error) {
      await this.#purge(this.#chunkSubject(nuid)).catch(() => {}); // The broker may be away.
      throw error;
    }
  }

  /** Base64url SHA-256 of its bytes, as it was stored. Undefined if there is no such object. */
  async hashOf(name: string): Promise<string | undefined> {
    return hashIn(await this.#meta(name));
  }

  /**
   * @throws Error, perhaps only at the end, if there is no such object or it is not whole; Fault "retry-later" if that
   * cannot be known now.
   */
  async *read(name: string): AsyncGenerator<Uint8Array> {
    const meta = await this.#meta(name);
    if (meta === undefined) throw new Error("it is gone");
    const subject = this.#chunkSubject(meta.nuid);
    const last = await answered(storedMessage(this.#bus, this.#stream, { last_by_subj: subject }));
    const hash = createHash("sha256");
    let chunks = 0;
    if (last !== undefined) {
      const from = { seq: 0, at: 0 };
      const where = { bus: this.#bus, stream: this.#stream, subject, from, until: last.seq };
      for await (const { bytes } of readUntil({ ...where, what: `The object ${name}` })) {
        hash.update(bytes);
        chunks++;
        yield bytes;
      }
    }
    if (chunks !== meta.chunks) throw new Error(`it has ${chunks} of ${meta.chunks} chunks`);
    if (hash.digest("base64url") !== hashIn(meta)) throw new Error("its bytes are not those that were stored");
  }

  async remove(name: string): Promise<void> {
    const meta = await this.#meta(name);
    // A reader that finds no description knows that the object is gone.
    await this.#purge(this.#metaSubject(name));
    if (meta !== undefined) await this.#purge(this.#chunkSubject(meta.nuid));
  }

  /** Removes the chunks of writers that were killed. One that is at work has stored its last chunk lately. */
  async removeLeftovers({ olderThanMs = leftoverMs } = {}): Promise<void> {
    const prefix = this.#chunkSubject("");
    const chunks = (await ifStream(subjectsOf(this.#bus, this.#stream, `${prefix}*`))) ?? [];
    const names = await this.names(); // Later than the chunks, so a whole object has its description by now.
    if (chunks.length <= names.length) return;
    const described = new Set<string | undefined>();
    for (const name of names) described.add((await this.#meta(name))?.nuid);
    const now = await brokerNow(this.#bus, this.#stream);
    for (const subject of chunks.filter((each) => !described.has(each.slice(prefix.length)))) {
      const last = await storedMessage(this.#bus, this.#stream, { last_by_subj: subject });
      if (last !== undefined && last.storedAt < now - olderThanMs) await this.#purge(subject);
    }
  }

  async #meta(name: string): Promise<Meta | undefined> {
    const found = storedMessage(this.#bus, this.#stream, { last_by_subj: this.#metaSubject(name) });
    const message = await answered(ifStream(found));
    return message === undefined ? undefined : JSON.parse(Buffer.from(message.bytes).toString());
  }

  async #store(subject: string, bytes: Uint8Array | string, { replaces = false } = {}): Promise<void> {
    const sent = headers();
    if (replaces) sent.set("Nats-Rollup", "sub");
    const reply = await requestOn(this.#bus, subject, bytes, { timeoutMs: storeMs, headers: sent });
    answerOf(reply.string());
  }

  async #purge(subject: string): Promise<void> {
    await ifStream(callJs(this.#bus, `STREAM.PURGE.${this.#stream}`, { filter: subject }));
  }

  #chunkSubject(nuid: string): string {
    return `$O.${this.#bucket}.C.${nuid}`;
  }

  #metaSubject(name: string): string {
    const encoded = Buffer.from(name).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
    return `$O.${this.#bucket}.M.${encoded}`;
  }
}

function hashIn(meta: Meta | undefined): string | undefined {
  return meta?.digest.replace(/^SHA-256=/, "").replace(/=$/, "");
}

async function* inChunks(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let size = 0;
  for await (const piece of pieces) {
    waiting.push(piece);
    size += piece.length;
    if (size < chunkBytes) continue;
    const whole = Buffer.concat(waiting);
    let start = 0;
    for (; whole.length - start >= chunkBytes; start += chunkBytes) yield whole.subarray(start, start + chunkBytes);
    waiting = [whole.subarray(start)];
    size = whole.length - start;
  }
  if (size > 0) yield Buffer.concat(waiting);
}
