// Requests that the last leader has handed over, without a broker.
import { expect, test, vi } from "vitest";
import { type Served, type Station, servePool } from "../../services/picker/serving.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { log } from "../kit/picker.ts";

test("notes a bug in the answer to one of them, and takes the others", async () => {
  const note = vi.fn();
  const taken: unknown[] = [];
  const handle = (verb: string, body: { requestId: string }): void => {
    if (body.requestId === "evil") throw new TypeError("planted");
    taken.push([verb, body.requestId]);
  };
  const cancel = (requestId: string) => ({ verb: "cancel", body: { requestId } });
  const served = {
    pool: "shop",
    requests: { handle },
    secrets: { prune: async () => {} },
    leader: { state: new PoolState("shop") },
    gate: { open: (_hall: object, first: () => void) => first() },
    handed: [cancel("evil"), cancel("good")],
  };
  const picker = { options: { log }, defects: { note }, responder: {} };
  const { signal } = new AbortController();
  await servePool(served as unknown as Served, { picker: picker as unknown as Station, signal });
  await vi.waitFor(() => expect(note).toHaveBeenCalledOnce());
  expect(note.mock.calls[0]).toMatchObject(["request", { message: "planted" }, { pool: "shop", verb: "cancel" }]);
  expect(taken).toEqual([["cancel", "good"]]);
});
