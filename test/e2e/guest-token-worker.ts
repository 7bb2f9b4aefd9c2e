// One process of workers. Each leases a proxy with a token, makes one request with it, reports, and begins again, until
// stdin ends. Then each does so once more, and the process prints its results as one line of JSON.
import { connect } from "../../client/client.ts";

const [natsUrl = "", pool = "", siteUrl = "", workers = "1", pauseMs = "500"] = process.argv.slice(2);
const client = await connect({ natsUrl, pool, token: { header: "x-guest-token" }, retryMs: 60_000 });
const seen = {
  requests: 0,
  taken: 0,
  rejected: [] as { tokenId: string; grantedAt: number }[],
  /** Of answers that are neither: the proxy's own. */
  others: [] as number[],
  failed: [] as string[],
  longestMs: 0,
  /** Workers whose last turn, begun after the end of stdin, brought an answer. */
  answeredLast: 0,
};
let over = false;
process.stdin.resume().on("end", () => {
  over = true;
});

async function work(k: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, (Number(pauseMs) * k) / Number(workers)));
  for (let isLast = false; !isLast; ) {
    isLast = over;
    const startedAt = performance.now();
    try {
      // Longer than a refresh whose executor is killed may take. A killed leader is noticed only when this time is
      // over.
      await client.withLease({ token: true, waitMs: 10_000 }, async (lease) => {
        const response = await lease.fetch(`${siteUrl}/data`);
        await response.arrayBuffer();
        seen.requests++;
        if (response.status === 200) seen.taken++;
        else if (response.status !== 401) seen.others.push(response.status);
        else seen.rejected.push({ tokenId: lease.token?.tokenId ?? "none", grantedAt: lease.grantedAt });
      });
      if (isLast) seen.answeredLast++;
    } catch (error) {
      seen.failed.push(String(error));
    }
    seen.longestMs = Math.max(seen.longestMs, performance.now() - startedAt);
    if (!isLast) await new Promise((resolve) => setTimeout(resolve, Number(pauseMs) * (0.5 + Math.random())));
  }
}

await Promise.all(Array.from({ length: Number(workers) }, (_, k) => work(k)));
await client.close();
process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
