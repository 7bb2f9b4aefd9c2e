// A tunnel's life: bytes both ways, and the uses that its flights take (docs/protocol.md §8.5). A flight's bytes go on
// only once there is a use for it. A flight that has been answered is reported when the next begins, when the tunnel
// falls quiet, or at its end. So a quiet tunnel keeps no lease, and its exit is free for others.
//
// Memory is bounded: each side is paused while the other cannot take more, or while a use is awaited.
import type { Socket } from "node:net";
import type { Use } from "../../client/block.ts";
import type { Outcome } from "../../protocol/wire.ts";
import { offeredIn } from "./client-hello.ts";
import { spokenIn } from "./first-bytes.ts";
import { Flights } from "./flights.ts";
import type { ClosedBy } from "./metrics.ts";
import type { GatewayPorts, Routed } from "./ports.ts";

/** After this long without bytes an answer is taken to be whole. */
const quietMs = 1000;
/** How long the client may still send after upstream has ended, or take nothing of the last bytes. */
const lingerMs = 5000;
/** The report of a flight frees its lease, so the next lease request waits for it, this long at most. */
const reportMsMax = 1000;

export interface TunnelParts {
  client: Socket;
  upstream: Socket;
  /** Covers the first flight. */
  use: Use;
  /** Client bytes that have come already. */
  first: Buffer;
  /** It began with a request that the gateway has seen, such as that of a websocket: the tunnel is its answer. */
  isUpgraded?: boolean;
}

interface Flight {
  use: Use;
  beganAt: number;
  /** When its first byte came from upstream. */
  answeredAt?: number;
  bytes: number;
  off: () => void;
}

export class Tunnel {
  readonly #ports: GatewayPorts;
  readonly #routed: Routed;
  readonly #client: Socket;
  readonly #upstream: Socket;
  readonly #onHttp: (parts: TunnelParts) => void;
  readonly #onOver: () => void;
  /** While a use is awaited. */
  #awaiting: AbortController | undefined;
  #phase: "first" | "open" | "holding" | "over" = "first";
  #first: Buffer;
  #flights: Flights | undefined;
  #counted: NonNullable<Outcome["counted"]> = "flight";
  #flightCount = 0;
  #current: Flight | undefined;
  /** The use before, once it is reported. */
  #last: Use;
  #down = 0;
  /** Bytes that came after their flight had been reported. */
  #loose = 0;
  #lastAt = performance.now();
  #isLastUp = false;
  #endedBy: "client" | "upstream" | undefined;
  #idle: NodeJS.Timeout | undefined;
  #quiet: NodeJS.Timeout | undefined;
  readonly #age: NodeJS.Timeout;
  /** `performance.now()` */
  readonly beganAt = performance.now();

  /** @param on.http the client speaks plain HTTP: from then on its requests are seen. @param on.over it has ended. */
  constructor(
    ports: GatewayPorts,
    routed: Routed,
    { client, upstream, use, first, isUpgraded = false }: TunnelParts,
    on: { http(parts: TunnelParts): void; over(): void },
  ) {
    this.#ports = ports;
    this.#routed = routed;
    this.#client = client;
    this.#upstream = upstream;
    this.#onHttp = on.http;
    this.#onOver = on.over;
    this.#last = use;
    this.#first = first;
    this.#begin(use);
    ports.metrics.tunnels += 1;
    const { idleMs, ageMsMax } = routed.policy.gateway;
    this.#age = setTimeout(() => this.end("age"), ageMsMax).unref();
    this.#watchIdle(idleMs);
    client.setNoDelay(true);
    client
      .on("data", this.#onUp)
      .on("end", this.#onClientEnd)
      .on("close", this.#onClientClose)
      .on("error", this.#onError);
    upstream.on("data", this.#onDown).on("end", this.#onUpstreamEnd).on("close", this.#onUpstreamClose);
    upstream.on("error", this.#onError);
    if (isUpgraded) this.#open("request", undefined);
    else if (first.length > 0) this.#decide();
    if (this.#phase !== "over") client.resume();
  }

  get isOver(): boolean {
    return this.#phase === "over";
  }

  /** Ends it at once. */
  end(by: ClosedBy): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    this.#stop();
    this.#ports.metrics.closed(by);
    if (this.#current !== undefined) this.#report(this.#current, this.#resultAt(by));
    const isBroken = by === "error" && !this.#client.destroyed;
    // A broken answer must not look whole.
    if (isBroken) this.#client.resetAndDestroy();
    else this.#client.setTimeout(lingerMs, () => this.#client.destroy()).destroySoon();
    this.#upstream.destroy();
    this.#onOver();
  }

  readonly #onError = (): void => {}; // "close" follows.

  readonly #onUp = (chunk: Buffer): void => {
    this.#touch({ isUp: true });
    if (this.#phase === "open") return this.#pass(chunk);
    this.#first = Buffer.concat([this.#first, chunk]);
    if (this.#phase === "first") this.#decide();
  };

  readonly #onDown = (chunk: Buffer): void => {
    this.#touch({ isUp: false });
    this.#flights?.down();
    this.#down += chunk.length;
    this.#ports.metrics.bytesDown += chunk.length;
    if (this.#current === undefined) this.#loose += chunk.length;
    else {
      this.#current.answeredAt ??= performance.now();
      this.#current.bytes += chunk.length;
    }
    this.#quiet ??= setTimeout(() => this.#whenQuiet(), quietMs).unref();
    if (this.#client.write(chunk)) return;
    this.#upstream.pause();
    this.#client.once("drain", () => this.#upstream.resume());
  };

  readonly #onClientEnd = (): void => {
    this.#endedBy ??= "client";
    this.#upstream.end();
  };

  readonly #onUpstreamEnd = (): void => {
    this.#endedBy ??= "upstream";
    if (this.#down === 0) return this.end(this.#endedBy);
    this.#client.end();
    if (this.#endedBy === "upstream") this.#watchIdle(lingerMs);
  };

  readonly #onClientClose = (): void => {
    this.end(this.#endedBy ?? "client");
  };

  readonly #onUpstreamClose = (hadError: boolean): void => {
    this.end(hadError && this.#endedBy !== "client" ? "error" : (this.#endedBy ?? "upstream"));
  };

  /** Finds the protocol that the client speaks. */
  #decide(): void {
    const first = this.#first;
    const spoken = this.#down > 0 ? "opaque" : spokenIn(first);
    if (spoken === undefined) return;
    if (spoken === "http") return this.#handOver();
    const { tunnelUses, h2 } = this.#routed.policy.gateway;
    const offered = spoken === "tls" ? offeredIn(first) : [];
    if (offered === undefined) return;
    const isH2 = offered.includes("h2");
    if (isH2 && h2 === "refuse") {
      this.#ports.log.warn({ pool: this.#routed.pool }, "a tunnel that offers HTTP/2 was closed (gateway.h2: refuse)");
      return this.end("h2");
    }
    if (tunnelUses === "once" || (isH2 && h2 === "once")) return this.#open("tunnel", undefined);
    const flights = new Flights({ estimate: isH2, opaque: spoken === "opaque" });
    if (this.#down > 0) flights.down();
    this.#open(isH2 ? "estimate" : "flight", flights);
  }

  /** @param flights undefined: however much passes, it is one use. */
  #open(counted: NonNullable<Outcome["counted"]>, flights: Flights | undefined): void {
    this.#counted = counted;
    this.#flights = flights;
    this.#phase = "open";
    const first = this.#first;
    this.#first = Buffer.alloc(0);
    this.#pass(first);
  }

  #pass(chunk: Buffer): void {
    const at = this.#flights?.up(chunk);
    if (at === undefined) return this.#send(chunk);
    this.#send(chunk.subarray(0, at));
    const rest = chunk.subarray(at);
    this.#flightCount += 1;
    if (this.#flightCount === 1 && this.#current !== undefined) return this.#send(rest);
    if (this.#flightCount > (this.#routed.options.uses ?? Number.POSITIVE_INFINITY)) return this.end("uses");
    this.#phase = "holding";
    this.#first = rest;
    this.#client.pause();
    void this.#nextUse().then(
      (use) => this.#goOn(use),
      (error: unknown) => {
        if (this.#phase === "over") return;
        const why = error instanceof Error ? error.message : "unknown";
        this.#ports.log.info(
          { pool: this.#routed.pool, why },
          "a tunnel got no further use of its proxy, and was closed",
        );
        this.end("lease");
      },
    );
  }

  async #nextUse(): Promise<Use> {
    const { leasing, options } = this.#routed;
    const current = this.#current;
    if (current !== undefined) {
      const next = leasing.next(current.use);
      this.#current = undefined;
      const reported = this.#report(current, { result: "success" });
      if (next !== undefined) return next;
      await Promise.race([reported, new Promise((resolve) => setTimeout(resolve, reportMsMax).unref())]);
    }
    this.#awaiting = new AbortController();
    return leasing.takeAlso(this.#last, { waitMs: options.waitMs, signal: this.#awaiting.signal });
  }

  #goOn(use: Use): void {
    if (this.#phase === "over") {
      void this.#routed.leasing.ended(use, this.#outcome(use, { reason: "client-abort" }));
      return;
    }
    this.#phase = "open";
    this.#begin(use);
    const held = this.#first;
    this.#first = Buffer.alloc(0);
    this.#send(held);
    if (this.#upstream.writableNeedDrain !== true) this.#client.resume();
  }

  #begin(use: Use): void {
    const off = use.block.onCut(() => this.end("lease"));
    this.#current = { use, beganAt: performance.now(), bytes: this.#loose, off };
    this.#loose = 0;
    this.#last = use;
  }

  #send(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#ports.metrics.bytesUp += chunk.length;
    if (this.#current === undefined) this.#loose += chunk.length;
    else this.#current.bytes += chunk.length;
    if (this.#upstream.write(chunk)) return;
    this.#client.pause();
    this.#upstream.once("drain", () => {
      if (this.#phase !== "holding") this.#client.resume();
    });
  }

  /** From here on the gateway sees the requests themselves. */
  #handOver(): void {
    const { use, off } = this.#current!; // In the phase "first" the tunnel has its first use.
    this.#phase = "over";
    off();
    this.#stop();
    this.#client.pause();
    this.#onHttp({ client: this.#client, upstream: this.#upstream, use, first: this.#first });
  }

  #stop(): void {
    this.#awaiting?.abort(new Error("The tunnel has ended."));
    clearTimeout(this.#age);
    clearTimeout(this.#idle);
    clearTimeout(this.#quiet);
    this.#ports.metrics.tunnels -= 1;
    this.#client.off("data", this.#onUp).off("end", this.#onClientEnd).off("close", this.#onClientClose);
    this.#upstream.off("data", this.#onDown).off("end", this.#onUpstreamEnd).off("close", this.#onUpstreamClose);
  }

  #touch({ isUp }: { isUp: boolean }): void {
    this.#lastAt = performance.now();
    this.#isLastUp = isUp;
  }

  #watchIdle(ms: number): void {
    clearTimeout(this.#idle);
    const look = (): void => {
      const leftMs = this.#lastAt + ms - performance.now();
      if (leftMs <= 0 && this.#phase !== "holding") return this.end(this.#endedBy ?? "idle");
      this.#idle = setTimeout(look, Math.max(leftMs, 1)).unref();
    };
    this.#idle = setTimeout(look, ms).unref();
  }

  #whenQuiet(): void {
    this.#quiet = undefined;
    const leftMs = this.#lastAt + quietMs - performance.now();
    const isReading = this.#client.writableLength > 0;
    if (leftMs > 0 || isReading) {
      this.#quiet = setTimeout(() => this.#whenQuiet(), Math.max(leftMs, 1)).unref();
      return;
    }
    const current = this.#current;
    const isAnswered = current?.answeredAt !== undefined && this.#flightCount > 0 && !this.#isLastUp;
    if (current === undefined || !isAnswered || this.#flights === undefined || this.#phase !== "open") return;
    this.#current = undefined;
    void this.#report(current, { result: "success" });
  }

  #resultAt(by: ClosedBy): Pick<Outcome, "result" | "reason"> {
    const isClients = by === "client" || by === "h2" || by === "drain";
    if (this.#counted === "request") return { result: "success" };
    if (this.#down === 0) return { reason: isClients ? "client-abort" : "proxy-error" };
    if (this.#current?.answeredAt !== undefined) return { result: "success" };
    // A later flight had no answer: a kept connection that its server was just closing, or a target that hangs.
    return { reason: by === "idle" || by === "age" ? "timeout" : "client-abort" };
  }

  #report(flight: Flight, result: Pick<Outcome, "result" | "reason">): Promise<void> {
    flight.off();
    const { answeredAt, beganAt, bytes, use } = flight;
    const latencyMs = answeredAt === undefined ? {} : { latencyMs: Math.round(answeredAt - beganAt) };
    return this.#routed.leasing.ended(use, { ...this.#outcome(use, result), ...latencyMs, bytes });
  }

  #outcome({ block, n }: Use, result: Pick<Outcome, "result" | "reason">): Outcome {
    const status = this.#counted === "request" ? { status: 101 } : {};
    return {
      leaseId: block.lease.leaseId,
      n,
      target: this.#routed.target.host,
      counted: this.#counted,
      ...result,
      ...status,
    };
  }
}
