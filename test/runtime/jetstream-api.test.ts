// A NATS server that reads its users again has no JetStream for a moment. Calls are repeated until it is back.
import { type Msg, NoRespondersError, RequestError } from "@nats-io/transport-node";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Bus } from "../../runtime/bus.ts";
import { callJs } from "../../runtime/jetstream-api.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** JetStream is back after this many calls without responders. */
function absentFor(calls: number) {
  let asked = 0;
  const request = async (subject: string): Promise<Pick<Msg, "string">> => {
    asked++;
    if (asked > calls) return { string: () => JSON.stringify({ subject }) };
    throw new RequestError("no responders", { cause: new NoRespondersError(subject) });
  };
  const whenDown = () => ({ promise: new Promise<never>(() => {}), cancel: () => {} });
  const bus = { up: true, nc: { request }, whenDown } as unknown as Bus; // What a request needs.
  return { bus, asked: () => asked };
}

test.each(["STREAM.INFO.S", "STREAM.MSG.GET.S", "STREAM.CREATE.S", "STREAM.PURGE.S"])(
  "repeats %s while JetStream is absent for a moment",
  async (call) => {
    const { bus, asked } = absentFor(3);
    const answer = callJs(bus, call);
    await vi.runAllTimersAsync();
    expect(await answer).toEqual({ subject: `$JS.API.${call}` });
    expect(asked()).toBe(4);
  },
);

test("gives up on a server that has no JetStream", async () => {
  const { bus } = absentFor(Infinity);
  const began = performance.now();
  const refused = expect(callJs(bus, "STREAM.CREATE.S")).rejects.toThrow("no responders");
  await vi.runAllTimersAsync();
  await refused;
  expect(performance.now() - began).toBeLessThan(2500);
});
