import { expect, test, vi } from "vitest";
import { followOn } from "../../services/picker/following.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import { PoolState } from "../../state-machines/fold/state.ts";

test("reports a failure while it follows a pool, and goes on", async () => {
  const state = new PoolState("shop");
  const stopping = new AbortController();
  const readOn = vi.fn(async () => {});
  readOn.mockRejectedValueOnce(new TypeError("a bug"));
  const onTrouble = vi.fn();
  const after = async (): Promise<void> => stopping.abort();
  const ledger = { read: () => expect.unreachable("the fold reads it") };
  const news = { mark: "", lastSeq: 0, after };
  await followOn(
    { fold: { state, readOn }, ledger, candidates: new Candidates(state), news, onTrouble },
    stopping.signal,
  );
  expect(onTrouble.mock.calls).toEqual([[new TypeError("a bug")]]);
  expect(readOn).toHaveBeenCalledTimes(2);
});
