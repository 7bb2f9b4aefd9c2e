// Flights, byte by byte, and the protocols that a client offers in its ClientHello.

import { Duplex } from "node:stream";
import { connect } from "node:tls";
import { describe, expect, test } from "vitest";
import { offeredIn } from "../../services/gateway/client-hello.ts";
import { spokenIn } from "../../services/gateway/first-bytes.ts";
import { Flights } from "../../services/gateway/flights.ts";

const record = (type: number, length: number): Buffer =>
  Buffer.concat([Buffer.of(type, 3, 3, length >> 8, length & 255), Buffer.alloc(length, 7)]);
const [changeCipher, alert, handshake, data] = [20, 21, 22, 23];

/** `>`: client bytes, each a chunk; `<`: bytes from upstream. Gives how many flights begin. */
function count(steps: readonly (Buffer | "<")[], how: ConstructorParameters<typeof Flights>[0] = {}): number {
  const flights = new Flights(how);
  let begun = 0;
  for (const step of steps) {
    if (step === "<") flights.down();
    else if (flights.up(step) !== undefined) begun += 1;
  }
  return begun;
}

describe("a flight", () => {
  test("is neither the ClientHello nor the remainder of a TLS 1.2 handshake", () => {
    const finished = Buffer.concat([record(handshake, 70), record(changeCipher, 1), record(handshake, 40)]);
    expect(count([record(handshake, 500), "<", finished, "<", record(alert, 26)])).toBe(0);
  });

  test("is each run of application data that follows bytes from upstream", () => {
    expect(count([record(handshake, 500), "<", record(data, 200), record(data, 10), "<", "<", record(data, 5)])).toBe(
      2,
    );
  });

  test("is the Finished of TLS 1.3 only where it travels alone", () => {
    const finished = Buffer.concat([record(changeCipher, 1), record(data, 53)]);
    expect(count([record(handshake, 500), "<", finished, record(data, 100), "<", record(data, 100)])).toBe(2);
    expect(count([record(handshake, 500), "<", finished, "<", record(data, 100)])).toBe(2);
  });

  test("is early data, before any byte of upstream", () => {
    expect(count([record(handshake, 500), record(data, 100), "<", record(data, 100)])).toBe(2);
  });

  test("begins at the first record that counts, in any pieces", () => {
    const bytes = Buffer.concat([record(changeCipher, 1), record(data, 100)]);
    expect(new Flights().up(bytes)).toBe(6 + 5);
    for (let cut = 1; cut < bytes.length; cut++) {
      const flights = new Flights();
      const begun = [flights.up(bytes.subarray(0, cut)), flights.up(bytes.subarray(cut))];
      expect(begun.filter((at) => at !== undefined)).toHaveLength(1);
    }
  });

  test("is a body that goes on after bytes from upstream", () => {
    const body = record(data, 1000);
    expect(count([body.subarray(0, 400), "<", body.subarray(400)])).toBe(2);
  });

  test("of a client that offers HTTP/2 has a record above 96 bytes", () => {
    const frames = [record(data, 91), "<", record(data, 40), "<", record(data, 92)] as const;
    expect([count(frames), count(frames, { estimate: true })]).toEqual([3, 1]);
  });

  test("is every run of bytes that are not TLS", () => {
    expect(count([Buffer.from("EHLO"), "<", Buffer.from("a"), Buffer.from("b")], { opaque: true })).toBe(2);
    expect(count([Buffer.of(99, 1, 2, 3, 4, 5), "<", Buffer.of(1)])).toBe(2);
  });
});

describe("a ClientHello", () => {
  async function helloOf(protocols: string[]): Promise<Buffer> {
    const chunks: Buffer[] = [];
    const wire = new Duplex({
      read() {},
      write(chunk, _encoding, done) {
        chunks.push(chunk);
        done();
      },
    });
    const socket = connect({
      socket: wire,
      servername: "example.com",
      ...(protocols.length > 0 ? { ALPNProtocols: protocols } : {}),
    });
    socket.on("error", () => {});
    while (chunks.length === 0) await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
    return Buffer.concat(chunks);
  }

  test("says which protocols the client offers", async () => {
    expect(offeredIn(await helloOf(["h2", "http/1.1"]))).toEqual(["h2", "http/1.1"]);
    expect(offeredIn(await helloOf([]))).toEqual([]);
  });

  test("is read whatever pieces and records it comes in, and not before it is whole", async () => {
    const hello = await helloOf(["h2"]);
    for (let cut = 0; cut < hello.length; cut += 7) expect(offeredIn(hello.subarray(0, cut))).toBeUndefined();
    const message = hello.subarray(5);
    const parts = [message.subarray(0, 3), message.subarray(3, 100), message.subarray(100)];
    const split = parts.map((part) => Buffer.concat([Buffer.of(22, 3, 1, part.length >> 8, part.length & 255), part]));
    expect(offeredIn(Buffer.concat(split))).toEqual(["h2"]);
  });

  test("that is damaged offers nothing", () => {
    expect(offeredIn(Buffer.of(22, 3, 1, 0, 4, 1, 0, 0, 0))).toEqual([]);
    expect(offeredIn(Buffer.concat([Buffer.of(22, 3, 1, 0, 14, 1, 0, 0, 10), Buffer.alloc(10, 255)]))).toEqual([]);
    expect(offeredIn(Buffer.of(22, 3, 1, 0, 4, 2, 0, 0, 0))).toEqual([]);
  });
});

test.each([
  ["GET / HTTP/1.1\r\n", "http"],
  ["GET / HTT", undefined],
  ["G", undefined],
  ["PRI * HTTP/2.0\r\n", "opaque"],
  ["EHLO mail\r\n", "opaque"],
  ["SSH-2.0-x\r\n", "opaque"],
  ["\x16\x03", "tls"],
  ["\x00", "opaque"],
  ["", undefined],
])("the first bytes %j are %s", (text, spoken) => expect(spokenIn(Buffer.from(text, "latin1"))).toBe(spoken));
