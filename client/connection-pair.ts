// A connection within this process: two ends that behave like sockets. The one end writes only as fast as the other end
// reads. If one end is destroyed, the other one ends too, and knows the error.
import { Duplex } from "node:stream";

export class End extends Duplex {
  #other: End | undefined;
  /** Of a chunk that this end has and has not read. */
  #taken: (() => void) | undefined;
  #idleMs = 0;
  #timer: NodeJS.Timeout | undefined;
  /** The error with which this end was destroyed. */
  cause: Error | undefined;
  /** It was idle for as long as `setTimeout` has said. */
  timedOut = false;

  static pair(): [End, End] {
    const [one, other] = [new End(), new End()];
    one.#other = other;
    other.#other = one;
    return [one, other];
  }

  get other(): End | undefined {
    return this.#other;
  }

  override _read(): void {
    const taken = this.#taken;
    this.#taken = undefined;
    taken?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#touch();
    const other = this.#other;
    if (other === undefined || other.destroyed || chunk.length === 0) return void process.nextTick(done);
    other.#touch();
    other.#taken = done;
    other.push(chunk);
  }

  override _final(done: () => void): void {
    this.#other?.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer);
    this.cause = error ?? undefined;
    const other = this.#other;
    // Later, so that the other end can still read what has been written before.
    if (other !== undefined && !other.destroyed) setImmediate(() => other.destroy());
    done(error);
  }

  /** As of a socket. */
  setTimeout(ms: number, callback?: () => void): this {
    this.#idleMs = ms;
    if (callback !== undefined) this.once("timeout", callback);
    this.#touch();
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  #touch(): void {
    clearTimeout(this.#timer);
    if (this.#idleMs === 0 || this.destroyed) return;
    const idle = (): void => {
      this.timedOut = true;
      this.emit("timeout");
    };
    this.#timer = setTimeout(idle, this.#idleMs).unref();
  }
}
