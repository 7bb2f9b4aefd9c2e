// The ledger as tables, in DuckDB: a private database in its own folder, made for one question and then deleted. Only
// this file loads DuckDB, which is a large optional package.
//
// SQL text is untrusted. Before it runs, the database blocks files, network and extensions, and locks its settings. It
// accepts one reading statement.
import { createWriteStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DuckDBConnection } from "@duckdb/node-api";
import { limitNames } from "../../events/refusal.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import { columns, type Found, rowOf } from "./columns.ts";

/** DuckDB's memory limit. Beyond it DuckDB uses the folder. */
const memoryLimit = "512MB";
/** While the ledger is loaded, at most this much of it is on disk twice. */
const pieceBytesMax = 64 * 1024 ** 2;

export interface Tables {
  /**
   * Runs one reading statement.
   * @throws Fault "fix-setup" if the statement is not allowed or fails.
   */
  query(sql: string): Promise<{ names: string[]; types: string[]; rows: AsyncIterable<unknown[][]> }>;
  /** Writes the table of events. */
  toParquet(path: string): Promise<void>;
  close(): void;
}

/**
 * @param found the events for the tables.
 * @throws Fault "fix-setup" if DuckDB is not installed.
 */
export async function openTables(found: AsyncIterable<readonly Found[]>): Promise<Tables> {
  const { DuckDBInstance, StatementType } = await loadDuckDb();
  const folder = mkdtempSync(join(tmpdir(), "remuda-audit-"));
  const dispose = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    const instance = await DuckDBInstance.create(join(folder, "ledger.duckdb"), {
      memory_limit: memoryLimit,
      threads: "2",
      temp_directory: join(folder, "spill"),
      autoinstall_known_extensions: "false",
      autoload_known_extensions: "false",
      preserve_insertion_order: "true",
    });
    const connection = await instance.connect();
    await load(connection, found, folder);
    await connection.run(views);
    let isLocked = false;
    return {
      async query(sql) {
        if (!isLocked) await connection.run("SET enable_external_access = false; SET lock_configuration = true");
        isLocked = true;
        try {
          if (sql.trim() === "") throw new Error("the statement is empty. Give one");
          const statements = await connection.extractStatements(sql);
          if (statements.count !== 1) throw new Error("there are several statements. Give one");
          const prepared = await statements.prepare(0);
          const { statementType } = prepared;
          prepared.destroySync();
          if (statementType !== StatementType.SELECT && statementType !== StatementType.EXPLAIN)
            throw new Error("the ledger is read-only. Begin with SELECT, WITH, DESCRIBE or EXPLAIN");
          const result = await connection.stream(sql);
          return { names: result.columnNames(), types: result.columnTypes().map(String), rows: rowsOf(result) };
        } catch (cause) {
          throw refused(cause);
        }
      },
      async toParquet(path) {
        const quoted = `'${path.replaceAll("'", "''")}'`;
        try {
          await connection.run(`COPY events TO ${quoted} (FORMAT parquet, COMPRESSION zstd)`);
        } catch (cause) {
          throw refused(cause);
        }
      },
      close() {
        connection.closeSync();
        instance.closeSync();
        dispose();
      },
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

async function loadDuckDb(): Promise<typeof import("@duckdb/node-api")> {
  try {
    return await import("@duckdb/node-api");
  } catch (cause) {
    throw new Fault(
      "fix-setup",
      "DuckDB is not installed (the optional package @duckdb/node-api). Run npm ci without --omit=optional, or export ndjson or csv.",
      { cause },
    );
  }
}

async function load(
  connection: DuckDBConnection,
  found: AsyncIterable<readonly Found[]>,
  folder: string,
): Promise<void> {
  await connection.run(`CREATE TABLE events (${listed(([name, type]) => `"${name}" ${type}`)})`);
  const piece = join(folder, "piece.ndjson");
  const read = `read_json('${piece}', format = 'newline_delimited', maximum_object_size = 67108864, columns = {${listed(
    ([name, type]) => `"${name}": '${type === "TIMESTAMP" ? "BIGINT" : type}'`,
  )}})`;
  const take = `INSERT INTO events SELECT ${listed(([name, type]) => (type === "TIMESTAMP" ? `epoch_ms("${name}")` : `"${name}"`))} FROM ${read}`;
  let file = createWriteStream(piece, { mode: 0o600 });
  let bytes = 0;
  const flush = async (): Promise<void> => {
    await new Promise<void>((resolve, reject) => file.on("error", reject).end(resolve));
    if (bytes > 0) await connection.run(take);
    bytes = 0;
  };
  for await (const batch of found) {
    if (batch.length === 0) continue;
    const text = batch.map((each) => `${JSON.stringify(rowOf(each))}\n`).join("");
    bytes += text.length;
    if (!file.write(text)) await new Promise<void>((resolve) => file.once("drain", () => resolve()));
    if (bytes < pieceBytesMax) continue;
    await flush();
    file = createWriteStream(piece, { mode: 0o600 });
  }
  await flush();
}

function listed(each: (column: [name: string, type: string]) => string): string {
  return Object.entries(columns).map(each).join(", ");
}

async function* rowsOf(result: { yieldRowsJs(): AsyncIterable<unknown[][]> }): AsyncIterable<unknown[][]> {
  try {
    for await (const rows of result.yieldRowsJs()) yield rows.map((row) => row.map(plain));
  } catch (cause) {
    throw refused(cause);
  }
}

/** As JSON: instants in ISO 8601, numbers if they are exact, maps as objects. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) {
    const isMap = value.length > 0 && value.every((each) => isEntry(each));
    return isMap
      ? Object.fromEntries(
          value.map(({ key, value: of }: { key: unknown; value: unknown }) => [String(key), plain(of)]),
        )
      : value.map(plain);
  }
  if (typeof value === "object" && value !== null) {
    if ("micros" in value) return intervalOf(value as { months: number; days: number; micros: bigint });
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
  }
  return value;
}

function isEntry(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).join() === "key,value";
}

/** In seconds, and months, because their length varies. */
function intervalOf({ months, days, micros }: { months: number; days: number; micros: bigint }): string {
  const seconds = days * 86_400 + Number(micros) / 1e6;
  return months === 0 ? `${seconds} s` : `${months} months ${seconds} s`;
}

function refused(cause: unknown): Fault {
  return new Fault("fix-setup", `DuckDB: ${messageOf(cause).replace(/\s*\n[\s\S]*$/, "")}`, { cause });
}

/** docs/audit-reference.md has their columns. */
const views = `
CREATE VIEW uses AS
  SELECT sequence, "commit", leaseId, n, proxyId, recordedAt AS reportedAt, storedAt, class, result, status, error,
    latencyMs, bytes, target, retryAfterMs, score, streak, slotAt, coalesce(late, false) AS late, coalesce("over", false) AS "over"
  FROM events WHERE type = 'UseReported';
CREATE VIEW leases AS
  WITH granted AS (SELECT * FROM events WHERE type = 'LeaseGranted'),
    renewed AS (SELECT leaseId, max(expiresAt) AS expiresAt, count(*) AS renewals FROM events WHERE type = 'LeaseRenewed' GROUP BY leaseId),
    closed AS (SELECT leaseId, recordedAt AS closedAt, how, used FROM events WHERE type = 'LeaseClosed'),
    reported AS (SELECT leaseId, count(*) AS reported, count(*) FILTER (result = 'success') AS succeeded,
      count(*) FILTER (result = 'failure') AS failed FROM events WHERE type = 'UseReported' GROUP BY leaseId)
  SELECT g.leaseId, g.proxyId, g.sequence, g."commit", g.recordedAt AS grantedAt, coalesce(r.expiresAt, g.expiresAt) AS expiresAt,
    g.uses, g.epoch, g.strategy, g.ranked, g.requestId, g.session, g.holder, g.request, coalesce(r.renewals, 0) AS renewals,
    c.closedAt, c.how, c.used, coalesce(u.reported, 0) AS reported, coalesce(u.succeeded, 0) AS succeeded, coalesce(u.failed, 0) AS failed
  FROM granted g LEFT JOIN renewed r USING (leaseId) LEFT JOIN closed c USING (leaseId) LEFT JOIN reported u USING (leaseId);
CREATE VIEW rests AS
  WITH began AS (
    SELECT proxyId, epoch, min(recordedAt) AS beganAt, max(until) AS until, arg_max(reasons, ("commit", place)) AS reasons,
      arg_max(state, ("commit", place)) AS state, any_value(note) AS note, count(*) - 1 AS lengthened, min(("commit", place)) AS began
    FROM events WHERE type = 'RestBegan' GROUP BY proxyId, epoch),
    ended AS (SELECT proxyId, recordedAt AS endedAt, coalesce(how, 'retired') AS how, ("commit", place) AS ended
      FROM events WHERE type IN ('RestEnded', 'ProxyRetired'))
  SELECT b.proxyId, b.epoch, b.beganAt, b.until, b.reasons, b.state, b.note, b.lengthened, e.endedAt, e.how
  FROM began b ASOF LEFT JOIN ended e ON b.proxyId = e.proxyId AND b.began < e.ended;
CREATE VIEW refusals AS
  SELECT sequence, "commit", recordedAt, code, "count", request,
    ${limitNames.map((name) => `(limitedBy->>'${name}')::INTEGER AS "${name}"`).join(", ")}
  FROM events WHERE type = 'RequestsRefused';
CREATE VIEW proxies AS
  WITH known AS (
    SELECT proxyId, arg_max(scheme, ("commit", place)) AS scheme, arg_max(host, ("commit", place)) AS host,
      arg_max(port, ("commit", place)) AS port, arg_max(username, ("commit", place)) AS username,
      arg_max(exit, ("commit", place)) AS exit, arg_max(labels, ("commit", place)) AS labels,
      arg_max(limits, ("commit", place)) AS limits, max(recordedAt) FILTER (type = 'ProxyAdded') AS addedAt
    FROM events WHERE type IN ('ProxyAdded', 'ProxyChanged') GROUP BY proxyId),
    moved AS (SELECT proxyId, arg_max(state, ("commit", place)) AS state, max(epoch) AS epoch,
      max(recordedAt) FILTER (type = 'ProxyRetired') AS retiredAt, max(recordedAt) FILTER (type = 'LeaseGranted') AS lastUsedAt,
      count(*) FILTER (type = 'LeaseGranted') AS leases, coalesce(sum(uses) FILTER (type = 'LeaseGranted'), 0)::BIGINT AS granted
      FROM events WHERE proxyId IS NOT NULL AND type NOT IN ('UseReported', 'ProxyChanged') GROUP BY proxyId),
    reported AS (SELECT proxyId, arg_max(score, ("commit", place)) AS score, arg_max(streak, ("commit", place)) AS streak,
      count(*) FILTER (result = 'success') AS succeeded, count(*) FILTER (result = 'failure') AS failed,
      count(*) FILTER (result = 'neutral') AS neutral FROM events WHERE type = 'UseReported' GROUP BY proxyId)
  SELECT k.*, m.state, m.epoch, CASE WHEN m.state = 'retired' THEN m.retiredAt END AS retiredAt, m.lastUsedAt, m.leases, m.granted,
    coalesce(u.score, 0) AS score, coalesce(u.streak, 0) AS streak,
    coalesce(u.succeeded, 0) AS succeeded, coalesce(u.failed, 0) AS failed, coalesce(u.neutral, 0) AS neutral
  FROM known k LEFT JOIN moved m USING (proxyId) LEFT JOIN reported u USING (proxyId);
`;
