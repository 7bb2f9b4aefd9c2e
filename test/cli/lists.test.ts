// Lists in every form: imported by the command into a separate service, and exported again.
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import type { RemudaProcess } from "../kit/process.ts";
import { serviceForAll } from "../kit/service.ts";
import { vendorList } from "../kit/vendor-list.ts";

let dataDir: string;
let service: RemudaProcess;

serviceForAll((started) => {
  ({ dataDir, service } = started);
});

const remuda = (args: string, stdin?: string | Uint8Array) =>
  runCommand(args.split(" "), { dataDir, ...(stdin === undefined ? {} : { stdin }) });

/** Over HTTP, which starts no process. */
async function open(pool: string): Promise<void> {
  expect((await fetch(`${service.httpUrl}/v1/pools/${pool}`, { method: "PUT" })).ok).toBe(true);
}

async function idsOf(pool: string): Promise<string[]> {
  const response = await fetch(`${service.httpUrl}/v1/pools/${pool}/proxies?limit=1000`);
  const { proxies, next } = (await response.json()) as { proxies: { id: string }[]; next?: string };
  expect(next).toBeUndefined();
  return proxies.map(({ id }) => id);
}

describe("proxies add", () => {
  test("a CSV: rejected rows have their line, and adding it again changes nothing", async () => {
    await open("csv");
    const list =
      '\uFEFFIP;Port;User;Pass;Country\r\n192.0.2.1;8080;user;"p;w";de\r\n192.0.2.2;0;user;secret;de\r\n\r\n192.0.2.3;80;;;\r\n';
    expect(await remuda("proxies add --pool csv --verbose", list)).toEqual({
      code: 0,
      stdout: [
        "standard input:2: http://u…:***@192.0.2.1:8080 added",
        'standard input:3: "192.0.2.2:0" has a port that is not a number from 1 to 65535',
        "standard input:5: http://192.0.2.3:80 added",
        "standard input: 3 read: 2 added, 0 already there, 0 updated, 1 rejected",
        "",
      ].join("\n"),
      stderr: "",
    });
    expect((await remuda("proxies add --pool csv", list)).stdout).toContain("0 added, 2 already there, 0 updated");
    const lease = JSON.parse((await remuda("lease --pool csv --label country=DE --json")).stdout);
    expect(lease).toMatchObject({ url: "http://user:p%3Bw@192.0.2.1:8080", password: "p;w" });
  });

  test("a JSON document: rejected entries have their index", async () => {
    await open("json");
    const path = join(dataDir, "webshare.json");
    const residential = { proxy_address: null, port: 80, username: "u", password: "secret" };
    const direct = { ...residential, proxy_address: "192.0.2.1", country_code: "US", city_name: "Miami" };
    await writeFile(path, JSON.stringify({ count: 2, next: null, results: [direct, residential] }, null, 2));
    const { stdout, code } = await remuda(`proxies add --pool json ${path}`);
    expect(stdout).toContain(`${path}[1]: "***" has null as its address (for a residential plan`);
    expect(stdout).toContain("2 read: 1 added, 0 already there, 0 updated, 1 rejected");
    expect(stdout + code).not.toContain("secret");
    const again = JSON.parse((await remuda(`proxies add --pool json ${path} --json`)).stdout);
    expect(again).toMatchObject({ already: 1, rejected: [{ file: path, index: 1, input: "***" }], rejectedCount: 1 });
  });

  test("JSON lines of any number, each rejected one with its line; limits reach the service", async () => {
    await open("lines");
    const lines = Array.from({ length: 3000 }, (_, i) => JSON.stringify({ ip: `10.8.${i >> 8}.${i & 255}`, port: 80 }));
    lines[0] = '{"url": "192.0.2.1:80", "limits": {"concurrency": 7}, "labels": {"tier": "a"}}';
    lines[2000] = '{"ip": "10.8.7.208", "port"';
    expect((await remuda("proxies add --pool lines", lines.join("\n"))).stdout).toBe(
      'standard input:2001: "***" is not JSON\n' +
        "standard input: 3000 read: 2999 added, 0 already there, 0 updated, 1 rejected\n",
    );
    const { stdout } = await remuda("proxies list --pool lines --label tier=a --json");
    expect(JSON.parse(stdout)).toMatchObject({ proxies: [{ host: "192.0.2.1", limits: { concurrency: 7 } }] });
  });

  test("reads UTF-16, as Windows writes it, and refuses another encoding where it matters", async () => {
    await open("encodings");
    const utf16 = Buffer.from("\uFEFF192.0.2.1:80,DE,Köln\r\n", "utf16le");
    expect((await remuda("proxies add --pool encodings --verbose", utf16)).stdout).toContain(
      ":1: 192.0.2.1:80,DE,Köln added",
    );
    const latin1 = Buffer.from("# für alle\n192.0.2.2:80:user:pässword\n192.0.2.3:80\n", "latin1");
    expect((await remuda("proxies add --pool encodings", latin1)).stdout).toBe(
      'standard input:2: "192.0.2.2:80:u…:***" has characters that are not UTF-8 (save the list as UTF-8)\n' +
        "standard input: 2 read: 1 added, 0 already there, 0 updated, 1 rejected\n",
    );
  });

  test("refuses a document that is not JSON, and shows nothing of it", async () => {
    const { code, stdout, stderr } = await remuda(
      "proxies add",
      '[{"ip": "192.0.2.1", "password": "secret" "port": 80}]',
    );
    expect(stdout).toContain('standard input:1: "***" is not JSON from here on\n');
    expect({ code, secret: /secret/.test(stdout + stderr) }).toEqual({ code: 1, secret: false });
  });

  test("imports a vendor's list with countries and exits, and exports it to the same ids", async () => {
    const real = join(dataDir, "vendor.json");
    await writeFile(real, vendorList(492));
    await Promise.all([open("real"), open("copy"), open("bare")]);
    const counts = (list: string) => `${list}: 492 read: 492 added, 0 already there, 0 updated, 0 rejected\n`;
    expect((await remuda(`proxies add --pool real ${real}`)).stdout).toBe(counts(real));
    const { stdout } = await remuda("proxies list --pool real --all --json");
    for (const proxy of JSON.parse(stdout).proxies) {
      expect(proxy).toMatchObject({
        exit: proxy.labels.exit,
        labels: { country: expect.stringMatching(/^[A-Z]{2}$/) },
      });
    }
    const asJson = await remuda("proxies export --pool real");
    expect(asJson).toMatchObject({ code: 0, stderr: "" });
    expect((await remuda("proxies add --pool copy", asJson.stdout)).stdout).toBe(counts("standard input"));
    expect(await remuda("proxies export --pool copy")).toEqual(asJson);
    const asLines = await remuda("proxies export --pool real --format lines");
    expect(asLines.stderr).toBe(
      "remuda: 492 proxies have labels or limits that a line cannot hold. Use --format json to keep them.\n",
    );
    expect((await remuda("proxies add --pool bare", asLines.stdout)).stdout).toBe(counts("standard input"));
    const ids = await idsOf("real");
    expect(new Set(ids).size).toBe(492);
    expect(await Promise.all(["copy", "bare"].map(idsOf))).toEqual([ids, ids]);
    for (const list of [asJson.stdout, asLines.stdout]) {
      const again = await remuda("proxies add --pool real", list);
      expect(again.stdout).toContain("492 read: 0 added, 492 already there, 0 updated, 0 rejected");
    }
  });
});

describe("proxies export", () => {
  test("exports passwords in every format, and the list reads back as it was", async () => {
    await Promise.all([open("secrets"), open("again")]);
    const list =
      '[{"url": "http://us%3Aer:se%20cret%40@192.0.2.1:80", "labels": {"note": "=1+1, \\"x\\""}, "limits": {"concurrency": 3}},\n' +
      ' "user@192.0.2.2:80", "[2001:db8::1]:80,US,New York"]';
    expect((await remuda("proxies add --pool secrets", list)).stdout).toContain(
      ": 2 added, 0 already there, 0 updated, 1",
    );
    await remuda("proxies add --pool secrets", list.replace("%20", ""));
    const exports: Awaited<ReturnType<typeof remuda>>[] = [];
    for (const format of ["json", "jsonl", "csv", "lines"])
      exports.push(await remuda(`proxies export --pool secrets --format ${format}`));
    for (const each of exports) {
      expect(each.code).toBe(0);
      expect(each.stdout).toContain("http://us%3Aer:secret%40@192.0.2.1:80");
      const again = await remuda("proxies add --pool secrets", each.stdout);
      expect(again.stdout).toContain("3 read: 0 added, 3 already there, 0 updated, 0 rejected");
    }
    expect(exports[2]?.stdout.split("\n")).toContain(
      'http://us%3Aer:secret%40@192.0.2.1:80,"{""note"":""=1+1, \\""x\\""""}","{""concurrency"":3}"',
    );
    expect(exports.map(({ stderr }) => stderr)).toEqual([
      ...["", "", ""],
      "remuda: 1 proxy has labels or limits that a line cannot hold. Use --format json to keep them.\n",
    ]);
    await remuda("proxies add --pool again", exports[2]?.stdout);
    expect((await remuda("proxies export --pool again")).stdout).toBe(exports[0]?.stdout);
  });

  test("--output writes a file for its owner alone, complete or not at all", async () => {
    await open("file");
    await remuda("proxies add --pool file", "http://user:secret@192.0.2.1:80");
    const path = join(dataDir, "kept.json");
    await writeFile(path, "old", { mode: 0o644 });
    expect(await remuda(`proxies export --pool file --output ${path}`)).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(JSON.parse(await readFile(path, "utf8"))).toEqual([{ url: "http://user:secret@192.0.2.1:80", labels: {} }]);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const nowhere = await remuda(`proxies export --pool file --output ${join(dataDir, "no", "such", "folder")}`);
    expect(nowhere).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringContaining("cannot be written (ENOENT)"),
    });
    expect((await remuda(`proxies export --pool nowhere --output ${path}`)).code).toBe(1);
    expect(await readFile(path, "utf8")).toContain("secret");
    expect((await readdir(dataDir)).filter((name) => name.startsWith("kept"))).toEqual(["kept.json"]);
  });

  test("adding an export again changes nothing, and restores the labels, exits included", async () => {
    await open("back");
    const list = [
      { ip: "192.0.2.1", port: 80, exit_ip: "198.51.100.1", labels: { tier: "a" } },
      { ip: "192.0.2.2", port: 80, country: "DE" },
      { url: "192.0.2.3:80", limits: { concurrency: 1 } },
    ];
    await remuda("proxies add --pool back", JSON.stringify(list));
    const before = await remuda("proxies export --pool back");
    expect((await remuda("proxies add --pool back -", before.stdout)).stdout).toContain(
      "3 read: 0 added, 3 already there, 0 updated, 0 rejected",
    );
    const changes = [
      { url: "192.0.2.1:80", labels: { exit: "198.51.100.9" } },
      { url: "192.0.2.3:80", labels: { country: "FR" } },
    ];
    expect((await remuda("proxies add --pool back", JSON.stringify(changes))).stdout).toContain("2 updated");
    expect((await remuda("proxies export --pool back")).stdout).not.toContain("tier");
    expect((await remuda("proxies add --pool back -", before.stdout)).stdout).toContain("1 already there, 2 updated");
    expect(await remuda("proxies export --pool back")).toEqual(before);
  });

  test("--state and --label filter; no match is an empty list; retired proxies are left out", async () => {
    await open("chosen");
    await remuda("proxies add --pool chosen", "192.0.2.1:80,US\n192.0.2.2:80,DE");
    expect((await remuda("proxies export --pool chosen --label country=DE --format lines")).stdout).toBe(
      "http://192.0.2.2:80,DE\n",
    );
    expect(await remuda("proxies export --pool chosen --state cooling")).toEqual({
      code: 0,
      stdout: "[]\n",
      stderr: "",
    });
    const [id = ""] = await idsOf("chosen");
    await remuda(`proxies retire ${id} --pool chosen`);
    expect(JSON.parse((await remuda("proxies export --pool chosen --json")).stdout)).toHaveLength(1);
    expect(JSON.parse((await remuda("proxies export --pool chosen --state retired")).stdout)).toHaveLength(1);
  });
});
