// `remuda audit seal`, `key`, `head`: documents that can be kept and checked elsewhere.
import type { Command } from "commander";
import { decodeCommit } from "../events/commit.ts";
import type { Event } from "../events/event.ts";
import type { HeadSigned } from "../events/head.ts";
import { refuse } from "../protocol/refusal.ts";
import { loadSigningKey } from "../runtime/signing-key.ts";
import type { Moment } from "../services/audit/moment.ts";
import { seal } from "../services/audit/seal.ts";
import { poolCommand } from "./arguments.ts";
import { type AuditOptions, type AuditPorts, ledgerCommand, readMomentOption } from "./audit-options.ts";
import { Refused } from "./failure.ts";
import { print, printJson, showInstant } from "./output.ts";

export function addAuditSeal(audit: Command, { config, readLedger }: AuditPorts): void {
  poolCommand(audit, "seal", "write a range of the ledger into a file, signed, for verify --file on any machine")
    .option("--from <moment>", "from here on; the ledger's beginning where it is left out", readMomentOption)
    .option("--to <moment>", "up to here", readMomentOption)
    .requiredOption("--output <file>", "the file")
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
    .description("print the public key that this installation seals and signs heads with")
    .option("--json", "print one JSON object")
    .action((options: { json?: true }) => {
      const { id, publicKey } = loadSigningKey(config().dataDir);
      if (options.json) printJson({ keyId: id, publicKey });
      else process.stdout.write(publicKey);
    });

  ledgerCommand(
    audit,
    "head",
    "print the newest signed head, to be kept elsewhere: it shows later if the end was cut off",
  ).action(async (options: AuditOptions) => {
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
      throw new Refused(
        refuse(
          "unavailable",
          "No head has been signed yet: the leader signs once an hour. (audit seal signs at any time.)",
        ),
      );
    }
    const { n, hash, keyId, signature, at } = head;
    printJson({ pool: options.pool, n, hash, keyId, signature, at: showInstant(at) });
  });
}
