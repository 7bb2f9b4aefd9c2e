// The contents of the last message of each subject of a stream. A message is read again only if the number of messages
// of its subject has changed since. So any number of unchanged subjects costs one request.
import type { Bus } from "./bus.ts";
import { type StoredMessage, storedMessage, streamInfo } from "./jetstream-api.ts";

interface LastPorts<T> {
  bus: Bus;
  stream: string;
  /** The subjects: a prefix and one more token, `remuda.ledger.*`. */
  filter: string;
  read: (message: StoredMessage) => T;
}

const readsAtOnce = 50;

export class LastMessages<T> {
  readonly #ports: LastPorts<T>;
  readonly #known = new Map<string, { messages: number; says: T }>();

  constructor(ports: LastPorts<T>) {
    this.#ports = ports;
  }

  /** How many messages each subject has, by its last token. */
  async sizes(): Promise<ReadonlyMap<string, number>> {
    const { bus, stream, filter } = this.#ports;
    const info = await streamInfo(bus, stream, { subjects_filter: filter });
    const subjects = Object.entries(info.state.subjects ?? {});
    return new Map(subjects.map(([subject, messages]) => [subject.slice(filter.length - 1), messages]));
  }

  /** By last token, for subjects of these sizes. @throws errors of the calls. */
  async of(sizes: ReadonlyMap<string, number>): Promise<ReadonlyMap<string, T>> {
    for (const name of this.#known.keys()) if (!sizes.has(name)) this.#known.delete(name);
    const changed = [...sizes].filter(([name, messages]) => this.#known.get(name)?.messages !== messages);
    const reader = async (): Promise<void> => {
      for (let next = changed.pop(); next !== undefined; next = changed.pop()) await this.#read(...next);
    };
    await Promise.all(Array.from({ length: readsAtOnce }, reader));
    return new Map([...this.#known].map(([name, { says }]) => [name, says]));
  }

  async #read(name: string, messages: number): Promise<void> {
    const { bus, stream, filter, read } = this.#ports;
    const last = await storedMessage(bus, stream, { last_by_subj: `${filter.slice(0, -1)}${name}` });
    if (last !== undefined) this.#known.set(name, { messages, says: read(last) });
  }
}
