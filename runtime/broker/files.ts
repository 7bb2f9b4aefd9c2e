// The files of the managed broker, and its configuration.

import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Fault, messageOf } from "../fault.ts";
import { createFile } from "../files.ts";

export type BrokerFiles = {
  readonly dataDir: string;
  readonly ownerLock: string;
  readonly ownerRecord: string;
  readonly folder: string;
  readonly lock: string;
  readonly record: string;
  readonly conf: string;
  /** Accounts, users and rights, if there are any. */
  readonly usersConf: string;
  readonly log: string;
  /** The server's output before its log is open, and the stack of a panic. */
  readonly errors: string;
  readonly store: string;
  /** Random, and constant for the life of the store. It identifies a running server as this store's. */
  readonly serverName: string;
};

/** Creates missing folders. No other user may read them. */
export function openFiles(dataDir: string): BrokerFiles {
  const folder = join(dataDir, "nats");
  try {
    // An existing data directory keeps its mode, because it may be shared on purpose. Our own folders in it are
    // private.
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    chmodSync(folder, 0o700);
    return {
      dataDir,
      ownerLock: join(dataDir, "owner.lock"),
      ownerRecord: join(dataDir, "owner.json"),
      folder,
      lock: join(folder, "broker.lock"),
      record: join(folder, "broker.json"),
      conf: join(folder, "nats.conf"),
      usersConf: join(folder, "users.conf"),
      log: join(folder, "nats.log"),
      errors: join(folder, "nats.err"),
      store: join(folder, "store"),
      serverName: createFile(join(folder, "server-name"), `broker-${randomBytes(8).toString("hex")}\n`).trim(),
    };
  } catch (cause) {
    throw new Fault("fix-setup", `the data directory cannot be used (REMUDA_DATA_DIR): ${messageOf(cause)}`, { cause });
  }
}

export function confText(
  files: BrokerFiles,
  given: {
    readonly host: string;
    /** 0: the system chooses, and the server writes the port into a file in the folder. */
    readonly port: number;
    readonly tls?: { readonly cert: string; readonly key: string } | undefined;
    readonly hasUsers: boolean;
  },
): string {
  const { host, port, tls, hasUsers } = given;
  const text = (value: string) => JSON.stringify(value);
  return `# Written at every start; changes made here are lost.
host: ${text(host)}
port: ${port === 0 ? -1 : port}
server_name: ${text(files.serverName)}
max_payload: 4MB
ports_file_dir: ${text(files.folder)}
log_file: ${text(files.log)}
logfile_size_limit: 16MB
logfile_max_num: 3
${tls === undefined ? "" : `tls { cert_file: ${text(tls.cert)}, key_file: ${text(tls.key)} }\n`}${
  hasUsers ? `include ${text(basename(files.usersConf))}\n` : ""
}jetstream {
  store_dir: ${text(files.store)}
  # An acknowledged message is on the disk, not in the kernel's memory.
  sync_interval: always
  # A call with unknown fields is refused. So an answer that a client sends to the subject of a call has no effect.
  strict: true
  # Only a bound for what streams may reserve together. The disk is the real bound.
  max_file_store: 1TB
  max_memory_store: 1GB
}
`;
}

/** The last lines of the server's output, for a Fault. */
export function lastLines(files: BrokerFiles, count = 8): string {
  const lines = [files.log, files.errors].flatMap((path) => {
    try {
      return readFileSync(path, "utf8").trimEnd().split("\n").slice(-count);
    } catch {
      return [];
    }
  });
  return lines
    .filter((line) => line !== "")
    .map((line) => `\n  ${line}`)
    .join("");
}
