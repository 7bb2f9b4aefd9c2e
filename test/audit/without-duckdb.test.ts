// DuckDB is an optional package. Without it, the message says so, and what to do.
import { expect, test, vi } from "vitest";
import { openTables } from "../../services/audit/tables.ts";

vi.mock("@duckdb/node-api", () => {
  throw Object.assign(new Error("Cannot find package '@duckdb/node-api'"), { code: "ERR_MODULE_NOT_FOUND" });
});

test("refuses SQL and Parquet without DuckDB in a sentence that says what to install", async () => {
  const opened = openTables((async function* () {})());
  await expect(opened).rejects.toMatchObject({ code: "fix-setup" });
  await expect(opened).rejects.toThrow(/DuckDB is not installed .*npm ci without --omit=optional/);
});
