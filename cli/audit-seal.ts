// `remuda audit seal`, `key`, `head`: documents that can be kept and checked elsewhere.

import type { Command } from "commander";
import { decodeCommit } from "../events/commit.ts";
import type { Event } from "../events/event.ts";
import type { HeadSigned } from "../events/head.ts";
import { refuse } from "../protocol/refusal.ts";
import { loadSigningKey } from "../runtime/signing-key.ts";
import { showInstant } from "../runtime/text.ts";
import type { Moment } from "../services/audit/moment.ts";
import { seal } from "../services/audit/seal.ts";
import { poolCommand } from "./arguments.ts";
import { type AuditOptions, type AuditPorts, ledgerCommand, readMomentOption } from "./audit-options.ts";
import { Refused } from "./failure.ts";
import { print, printJson } from "./output.ts";

export function addAuditSeal(audit: Command, { config, readLedger }: AuditPorts): void {
  poolCommand(audit, "seal", "write a range of the ledger to a signed file, for verify --file on any machine")
    .option("--from <moment>", "from this moment (default: the beginning)", readMomentOption)
    .option("--to <moment>", "up to this moment (default: the end)", readMomentOption)
    .requiredOption("--output <file>", "the file to write")
    .action(async (options: AuditOptions & { from?: Moment; to?: Moment; output: string }) => {
      const key = loadSigningKey(config().dataDir);
      const { pool, from, to, output } = options;
      const manifest = await readLedger(options, "sealing", (source, onProgress) =>
        seal(source, { pool, from, to, output, key, now: Date.now(), onProgress }),
      );
      if (options.json) return printJson(manifest);
      const { first, last, commits, events } = manifest;
      print(
        `${options.output}: commits ${first.n} to ${last.n} (${commits} with ${events} events), signed by ${manifest.keyId}`,
      );
    });

  audit
    .command("key")
    .description("print the public key for the seals and signed heads of this installation")
    .option("--json", "print JSON")
    .action((options: { json?: true }) => {
      const { id, publicKey } = loadSigningKey(config().dataDir);
      if (options.json) printJson({ keyId: id, publicKey });
      else process.stdout.write(publicKey);
    });

  const what = "print the newest signed head; kept elsewhere, it reveals later whether the ledger's end was cut off";
  ledgerCommand(audit, "head", what).action(async (options: AuditOptions) => {
    const head = await readLedger(options, "looking", async (source, onProgress) => {
      let newest: (HeadSigned & { at: number; sequence: number }) | undefined;
      for await (const batch of source.read()) {
        for (const { bytes, seq } of batch) {
          if (!bytes.includes('"HeadSigned"')) continue;
          const { events, at } = decodeCommit(bytes.toString("utf8"));
          for (const event of events as Event[])
            if (event.type === "HeadSigned") newest = { ...event, at, sequence: seq };
        }
        onProgress(source.done);
      }
      return newest;
    });
    if (head === undefined) {
      const why = "No head has been signed yet: the leader signs one each hour. Try later, or use audit seal.";
      throw new Refused(refuse("unavailable", why));
    }
    const { n, hash, keyId, signature, at } = head;
    printJson({ pool: options.pool, n, hash, keyId, signature, at: showInstant(at) });
  });
}
