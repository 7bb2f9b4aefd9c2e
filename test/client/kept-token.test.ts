// A request that was rejected with a token, and that then failed on a proxy, waits for another proxy. It must not be
// sent with the rejected token either.
import { expect, test } from "vitest";
import { Blocks } from "../../client/blocks.ts";
import { TokenKept } from "../../client/token.ts";
import type { LeaseReply } from "../../protocol/lease.ts";

const lease: LeaseReply = {
  leaseId: "l_aaaaaaaaaaaaaaaaaaaaaaaa",
  pool: "default",
  proxyId: "p_bbbbbbbbbbbbbbbb",
  url: "http://192.0.2.1:8080",
  scheme: "http",
  host: "192.0.2.1",
  port: 8080,
  labels: {},
  uses: 1,
  epoch: 0,
  grantedAt: 0,
  expiresAt: 90_000,
  leftMs: 90_000,
  token: { value: "secret", tokenId: "t_rejected", mintedAt: 0 },
};

test.each([
  ["its first proxy", []],
  ["another proxy", ["p_aaaaaaaaaaaaaaaa"]],
])("does not send a rejected token again through %s", async (_, avoid) => {
  const blocks = new Blocks({
    ask: async () => ({ lease, askedAt: performance.now() }),
    giveBack: async () => {},
    reserve: () => true,
    free: () => {},
    onWaiting: () => {},
    parallelMax: 1,
    usesMax: 1,
    idleMs: 0,
    retryMs: 0,
  });
  const taking = blocks.take({ avoid: new Set(avoid), waitMs: 1000, notToken: "t_rejected" });
  await expect(taking).rejects.toBeInstanceOf(TokenKept);
  blocks.close(new Error("the test is over"));
});
