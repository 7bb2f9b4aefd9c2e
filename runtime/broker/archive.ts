// The official release archive. The version is pinned by hash, so the fetched bytes are the tested ones, whichever
// server answers.

import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Source } from "./cache.ts";
import { run } from "./run.ts";

export const releaseVersion = "2.15.0";

const sha256ByPlatform: Readonly<Record<string, string>> = {
  "linux-amd64": "5d2c51caca950333aba84911df7d377f826f3a59ec36061c6539105084f65c92",
  "linux-arm64": "cdc208f5a3f42963a52b6ab06ef65626bb870315dc936e26ba571780c6351112",
};

/** The archive is 6 MB. A larger answer than this is something else. */
const bytesMax = 64 * 1024 * 1024;

export type ArchiveOptions = {
  readonly baseUrl?: string;
  readonly sha256?: string;
  /**
   * From the request to the first byte of the answer. On a closed network the fetch must fail in seconds, not minutes.
   */
  readonly answerMsMax?: number;
  readonly totalMsMax?: number;
};

export function officialArchive(options: ArchiveOptions = {}): Source {
  const { answerMsMax = 3_000, totalMsMax = 60_000 } = options;
  const baseUrl = options.baseUrl ?? "https://github.com/nats-io/nats-server/releases/download";
  return {
    name: "release archive",
    async unpack(directory, say) {
      const platform = `${process.platform}-${process.arch === "x64" ? "amd64" : process.arch}`;
      const sha256 = options.sha256 ?? sha256ByPlatform[platform];
      if (sha256 === undefined) throw new Error(`no archive is pinned for ${platform}`);

      const folder = `nats-server-v${releaseVersion}-${platform}`;
      const url = `${baseUrl}/v${releaseVersion}/${folder}.tar.gz`;
      say(`fetching ${url}`);
      const bytes = await download(url, { answerMsMax, totalMsMax });
      const actual = createHash("sha256").update(bytes).digest("hex");
      if (actual !== sha256) {
        throw new Error(`REFUSED, nothing was stored: ${url} has SHA-256 ${actual}, expected ${sha256}`);
      }
      await writeFile(join(directory, "archive.tar.gz"), bytes);
      await run("tar", ["-xzf", join(directory, "archive.tar.gz"), "-C", directory], { msMax: 60_000 });
      return join(directory, folder, "nats-server");
    },
  };
}

async function download(
  url: string,
  { answerMsMax, totalMsMax }: { readonly answerMsMax: number; readonly totalMsMax: number },
): Promise<Buffer> {
  const abort = new AbortController();
  const tooLate = (ms: number) => setTimeout(() => abort.abort(new Error(`no answer within ${ms} ms`)), ms);
  const total = tooLate(totalMsMax);
  const answer = tooLate(answerMsMax);
  try {
    const response = await fetch(url, { signal: abort.signal });
    clearTimeout(answer);
    if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of response.body) {
      length += chunk.length;
      if (length > bytesMax) throw new Error(`the answer is larger than ${bytesMax} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    throw new Error(`${url} could not be fetched (${deepestMessage(error)})`, { cause: error });
  } finally {
    clearTimeout(total);
    clearTimeout(answer);
  }
}

/** fetch says "fetch failed" and keeps the reason in its cause. */
function deepestMessage(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.cause instanceof Error) return deepestMessage(error.cause);
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return error.message || code || error.name;
}
