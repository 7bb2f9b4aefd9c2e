// The command line as a user sees it: each command against one service for the whole file.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import type { RemudaProcess } from "../kit/process.ts";
import { serviceForAll } from "../kit/service.ts";

let dataDir: string;
let service: RemudaProcess;

serviceForAll((started) => {
  ({ dataDir, service } = started);
});

const remuda = (args: string, stdin?: string) =>
  runCommand(args.split(" "), { dataDir, ...(stdin === undefined ? {} : { stdin }) });

/** For arguments that contain a space. */
const remudaWith = (...args: string[]) => runCommand(args, { dataDir });

async function json<T>(args: string, stdin?: string): Promise<T> {
  const { code, stdout, stderr } = await remuda(`${args} --json`, stdin);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as T;
}

/** Over HTTP, which starts no process. The commands for it have their own tests. */
async function open(pool: string, list = ""): Promise<void> {
  const url = `${service.httpUrl}/v1/pools/${pool}`;
  const headers = { "content-type": "text/plain" };
  expect((await fetch(url, { method: "PUT" })).ok).toBe(true);
  if (list !== "") expect((await fetch(`${url}/proxies`, { method: "POST", headers, body: list })).ok).toBe(true);
}

async function file(name: string, content: string): Promise<string> {
  const path = join(dataDir, name);
  await writeFile(path, content);
  return path;
}

interface Lease {
  leaseId: string;
  proxyId: string;
  url: string;
  uses: number;
  grantedAt: number;
  expiresAt: number;
}

describe("proxies add", () => {
  test("names each unreadable line with its number and reason, and adds the others", async () => {
    await open("numbers");
    const path = await file(
      "numbers.txt",
      "\uFEFF# a comment\r\n192.0.2.1:80\r\n\r\n1.2.3.4\r\n192.0.2.2:80:user:secret\r\n192.0.2.3:99999\r\n192.0.2.1:80",
    );
    const { code, stdout, stderr } = await remuda(`proxies add --pool numbers ${path}`);
    expect(stdout.split("\n")).toEqual([
      `${path}:4: "1.2.3.4" has no port (expected host:port)`,
      `${path}:6: "192.0.2.3:99999" has a port that is not a number from 1 to 65535`,
      `${path}: 5 read: 2 added, 1 already there, 0 updated, 2 rejected`,
      "",
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  test("changes nothing when a list is added again, and --verbose gives the result of each entry", async () => {
    await open("again");
    const list = "192.0.2.1:80\nsocks5://user:secret@192.0.2.2:1080\n";
    const first = await remuda("proxies add --pool again --verbose", list);
    const second = await remuda("proxies add --pool again --verbose -", list);
    expect(first.stdout.split("\n")).toEqual([
      "standard input:1: 192.0.2.1:80 added",
      "standard input:2: socks5://u…:***@192.0.2.2:1080 added",
      "standard input: 2 read: 2 added, 0 already there, 0 updated, 0 rejected",
      "",
    ]);
    expect(second.stdout).toContain("standard input:2: socks5://u…:***@192.0.2.2:1080 already there\n");
    expect(second.stdout).toContain("2 read: 0 added, 2 already there, 0 updated, 0 rejected");
  });

  test("adds a list of 5000 with credentials whole, in several requests", async () => {
    await open("large");
    const lines = Array.from({ length: 5000 }, (_, i) => `10.9.${i >> 8}.${i & 255}:80:user${i}:secret${i}`);
    lines[4321] = "garbage";
    const { stdout, code } = await remuda("proxies add --pool large", lines.join("\r\n"));
    expect(stdout).toBe(
      'standard input:4322: "garbage" has no port (expected host:port)\n' +
        "standard input: 5000 read: 4999 added, 0 already there, 0 updated, 1 rejected\n",
    );
    expect(code).toBe(0);
    const { proxies } = await json<{ proxies: { id: string }[] }>("proxies list --pool large --all");
    expect(new Set(proxies.map(({ id }) => id)).size).toBe(4999);
    expect((await remuda("proxies list --pool large --all")).stdout.split("\n")).toHaveLength(4999 + 2);
  });

  test("counts several lists separately and together, with --json in one document", async () => {
    await open("several");
    const [a, b] = [await file("a.txt", "192.0.2.1:80\nnothing"), await file("b.txt", "192.0.2.1:80\n192.0.2.2:80")];
    const { stdout } = await remuda(`proxies add --pool several ${a} ${b}`);
    expect(stdout).toContain(`${b}: 2 read: 1 added, 1 already there, 0 updated, 0 rejected\n`);
    expect(stdout).toContain("all: 4 read: 2 added, 1 already there, 0 updated, 1 rejected\n");
    expect(await json(`proxies add --pool several ${a} ${b}`)).toEqual({
      read: 4,
      added: 0,
      already: 3,
      updated: 0,
      rejected: [{ file: a, line: 2, input: "nothing", why: "has no port (expected host:port)" }],
      rejectedCount: 1,
    });
  });

  test("sends the labels of a line and a password of special characters to the service", async () => {
    await open("labels", "http://us%40er:p%3A%2Fs%3Fw@192.0.2.1:80\n192.0.2.2:80,US,New York\n");
    const { proxies } = await json<{ proxies: { id: string }[] }>("proxies list --pool labels --label country=US");
    expect(proxies).toMatchObject([{ host: "192.0.2.2", labels: { country: "US", city: "New York" } }]);
    const { url } = await json<Lease>(`lease --pool labels --exclude ${proxies[0]?.id}`);
    expect(url).toBe("http://us%40er:p%3A%2Fs%3Fw@192.0.2.1:80");
    const listed = await remuda("proxies list --pool labels");
    expect(listed.stdout).toMatch(/^p_\S{16} +available +0 +0 +http:\/\/192\.0\.2\.2:80 +city=New York country=US$/m);
  });

  test("refuses a list without any readable entry", async () => {
    const { code, stdout, stderr } = await remuda("proxies add", "<html>\n");
    expect(stdout).toContain("standard input:1:");
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: "remuda: invalid-request: No entry could be read as a proxy (expected lines like host:port).\n",
    });
  });

  test("accepts an empty list", async () => {
    const { code, stdout } = await remuda("proxies add", "# nothing yet\n");
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: "standard input: 0 read: 0 added, 0 already there, 0 updated, 0 rejected\n",
    });
  });

  test("rejects a missing file as wrong usage, and does not begin the others", async () => {
    await open("missing");
    const path = await file("there.txt", "192.0.2.1:80\n");
    const { code, stdout, stderr } = await remuda(`proxies add --pool missing ${path} ${dataDir}/missing.txt`);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toBe(
      `remuda: ${dataDir}/missing.txt cannot be read (there is no such file). Check its name and permissions.\n`,
    );
    expect(await json("proxies list --pool missing")).toEqual({ proxies: [] });
    expect((await remuda(`proxies add ${dataDir}`)).stderr).toBe(`remuda: ${dataDir} is a folder. Name a file.\n`);
  });
});

describe("proxies", () => {
  test("retire, rest and revive change the known proxies and refuse the others", async () => {
    await open("states", "192.0.2.1:80\n192.0.2.2:80\n");
    const { proxies } = await json<{ proxies: { id: string }[] }>("proxies list --pool states");
    const [first, second] = proxies.map(({ id }) => id);
    expect((await remuda(`proxies rest ${first} --for 10m --pool states`)).stdout).toBe(
      "1 changed, 0 unchanged, 0 unknown\n",
    );
    const { stdout } = await remuda("proxies list --state cooling --pool states");
    expect(stdout).toMatch(new RegExp(`^${first} +cooling .* in \\d+ min +http://192\\S+ +manual$`, "m"));
    expect(await json(`proxies revive ${first} --pool states`)).toEqual({ changed: 1, unknown: [] });
    const retired = await remuda(`proxies retire ${second} p_unknown --pool states --reason old`);
    expect(retired).toEqual({
      code: 1,
      stdout: "1 changed, 0 unchanged, 1 unknown\n",
      stderr: "remuda: unknown-proxy: The pool states has no proxy p_unknown.\n",
    });
    expect(await json("proxies list --state available --pool states")).toMatchObject({ proxies: [{ id: first }] });
    expect(await json("proxies list --state retired --pool states")).toMatchObject({ proxies: [{ id: second }] });
    expect(await json(`proxies get ${first} --pool states`)).toMatchObject({ id: first, state: "available" });
  });

  test("cuts a list at its limit and says so; --all reads every page", async () => {
    await open("pages", Array.from({ length: 7 }, (_, i) => `192.0.2.${i + 1}:80`).join("\n"));
    const { stdout, stderr } = await remuda("proxies list --pool pages --limit 3");
    expect(stdout.trimEnd().split("\n")).toHaveLength(1 + 3);
    expect(stderr).toBe("the first 3; there are more (--all, or --limit)\n");
    const cut = JSON.parse((await remuda("proxies list --pool pages --limit 3 --json")).stdout);
    expect(cut.proxies).toHaveLength(3);
    expect(cut.next).toBe(cut.proxies[2].id);
  });

  test("lists those that fail, the worst first, and sorts by a column", async () => {
    await open("bad", Array.from({ length: 4 }, (_, i) => `192.0.2.${i + 1}:80`).join("\n"));
    const { proxies } = await json<{ proxies: { id: string; host: string }[] }>("proxies list --pool bad");
    const idOf = (host: string) => proxies.find((proxy) => proxy.host === host)?.id;
    const report = async (host: string, status: number) => {
      const { leaseId } = await json<Lease>(`lease --pool bad --proxy-id ${idOf(host)}`);
      await json(`report ${leaseId} --pool bad --status ${status}`);
    };
    await report("192.0.2.2", 200);
    await report("192.0.2.3", 407);
    const hosts = async (args: string) =>
      (await json<{ proxies: { host: string }[] }>(`proxies list --pool bad ${args}`)).proxies.map(({ host }) => host);
    expect(await hosts("--bad")).toEqual(["192.0.2.3"]);
    expect((await hosts("--sort -score"))[0]).toBe("192.0.2.2");
    expect(await hosts("--sort until --limit 1")).toEqual(["192.0.2.3"]);
    const cut = await remuda("proxies list --pool bad --sort proxy --limit 2");
    expect(cut.stdout.match(/192\.0\.2\.\d/g)).toEqual(["192.0.2.1", "192.0.2.2"]);
    expect(cut.stderr).toBe("the first 2; there are more (--all, or --limit)\n");
    const { code, stderr } = await remuda("proxies list --sort size");
    expect(code).toBe(2);
    expect(stderr).toContain("It must be id, state, score, leases, until, proxy, why, labels, or one of them");
  });

  test("uses colour on terminals or with FORCE_COLOR, and keeps the columns", async () => {
    await open("colours", "192.0.2.1:80\n");
    const plain = (await remuda("proxies list --pool colours")).stdout;
    const list = (env: Record<string, string>) =>
      runCommand("proxies list --pool colours".split(" "), { dataDir, env }).then(({ stdout }) => stdout);
    expect(plain).not.toContain("\u001b");
    expect(await list({ NO_COLOR: "1" })).toBe(plain);
    const coloured = await list({ FORCE_COLOR: "1" });
    expect(coloured).toContain("\u001b[32mavailable\u001b[39m ");
    expect(stripVTControlCharacters(coloured)).toBe(plain);
  });

  test("refuses an unknown proxy", async () => {
    expect(await remuda("proxies get p_aaaaaaaaaaaaaaaa")).toMatchObject({
      code: 1,
      stdout: "",
      stderr: "remuda: unknown-proxy: No proxy of this pool has this id.\n",
    });
  });
});

describe("leases", () => {
  test("takes, renews, reports, lists and releases a lease", async () => {
    await open("life", "http://user:p%40ss@192.0.2.1:80\n");
    const plain = await remuda("lease --pool life --uses 3 --ttl 30s --holder me --scheme http");
    expect(plain).toMatchObject({ code: 0, stderr: "" });
    expect(/^url +(\S+)$/m.exec(plain.stdout)?.[1]).toBe("http://user:p%40ss@192.0.2.1:80");
    const leaseId = /^leaseId +(\S+)$/m.exec(plain.stdout)?.[1] ?? "";

    const renewed = await json<Lease>(`renew ${leaseId} --pool life --ttl 10m`);
    expect(renewed).toMatchObject({ leaseId, uses: 3 });
    expect(renewed.expiresAt - renewed.grantedAt).toBeGreaterThanOrEqual(600_000);

    expect(await remuda(`report ${leaseId} --pool life --n 1 --status 200`)).toEqual({
      code: 0,
      stdout: "accepted\n",
      stderr: "",
    });
    expect((await remuda(`report ${leaseId} --pool life --n 1 --status 200`)).stdout).toContain("accepted before");
    expect(await json(`report ${leaseId} --pool life --n 1 --result failure`)).toMatchObject({
      accepted: 0,
      ignored: [{ n: 1, why: "duplicate" }],
    });
    const failed = await remuda(`report ${leaseId} --pool life --n 2 --error ECONNREFUSED`);
    expect(failed.stdout).toMatch(/^accepted\nstop: the proxy rests until \d{4}-\S+Z \(/);

    expect((await remuda("leases --pool life --holder me")).stdout).toMatch(
      new RegExp(`^LEASE.*\n${leaseId} +p_\\S{16} +3 +in \\d+ min +me\n$`),
    );
    expect(await json("leases --pool life --holder you")).toEqual({ leases: [] });
    expect(await json(`release ${leaseId} --pool life --used 2`)).toEqual({ leaseId, used: 2, returned: 1 });
    expect((await remuda(`release ${leaseId} --pool life`)).stdout).toMatch(/^returned +1$/m);
  });

  test("refuses an incomplete report with the error code", async () => {
    await open("reports", "192.0.2.1:80\n");
    const { leaseId } = await json<Lease>("lease --pool reports --uses 2");
    const unnumbered = await remuda(`report ${leaseId} --pool reports --status 200`);
    expect(unnumbered).toMatchObject({ code: 1, stdout: "" });
    expect(unnumbered.stderr).toMatch(/^remuda: n-missing: .*--n/);
    const unknown = await remuda("report l_aaaaaaaaaaaaaaaaaaaaaaaa --pool reports --result success");
    expect(unknown).toMatchObject({ code: 1, stdout: "" });
    expect(unknown.stderr).toMatch(/^remuda: unknown-lease: /);
    const final = await remuda(`report ${leaseId} --pool reports --n 1 --reason throttled --retry-after 30s --final`);
    expect(final.stdout).toBe("accepted\n");
    expect(await json("leases --pool reports")).toEqual({ leases: [] });
  });

  test("gives leases of one session the same proxy", async () => {
    await open("session", "192.0.2.1:80\n192.0.2.2:80\n192.0.2.3:80");
    const first = await json<Lease & { session: string }>("lease --pool session --session cart-1");
    expect(first.session).toBe("cart-1");
    await json(`release ${first.leaseId} --pool session`);
    expect(await json("lease --pool session --session cart-1")).toMatchObject({ proxyId: first.proxyId });
    const { proxyId } = await json<Lease>("lease --pool session --session cart-2");
    expect(proxyId).not.toBe(first.proxyId);
  });

  test("gives the same request id the same lease", async () => {
    await open("once", "192.0.2.1:80\n");
    const asking = "lease --pool once --request-id 0e6b6b0e-aaaa-bbbb-cccc-0123456789ab";
    expect((await json<Lease>(asking)).leaseId).toBe((await json<Lease>(asking)).leaseId);
  });

  test("refuses if no proxy is free, with the limiting rules and when to retry", async () => {
    await open("spent", "192.0.2.1:80\n");
    const { proxyId } = await json<Lease>("lease --pool spent --ttl 50s");
    await json<Lease>("lease --pool spent --ttl 50s");
    const { code, stdout, stderr } = await remuda("lease --pool spent");
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^remuda: pool-exhausted: .* \(held back by concurrency 1\); retry in \d+(\.\d)? s\n$/);
    const asJson = await remuda("lease --pool spent --json");
    expect(JSON.parse(asJson.stdout)).toMatchObject({ code: "pool-exhausted", limitedBy: { concurrency: 1 } });
    expect(asJson).toMatchObject({ code: 1, stderr: expect.stringMatching(/^remuda: pool-exhausted: /) });
    const excluded = await remuda(`lease --pool spent --exclude ${proxyId}`);
    expect(excluded.stderr).toContain("exclude 1");
  });

  test("--wait waits for a free proxy", async () => {
    await open("waiting", "192.0.2.1:80\n");
    const first = await json<Lease>("lease --pool waiting --ttl 1500ms");
    await json<Lease>("lease --pool waiting");
    const waited = await json<Lease>("lease --pool waiting --wait 20s");
    expect(waited.grantedAt).toBeGreaterThanOrEqual(first.expiresAt);
  });

  test("refuses unmatched and out-of-range requests with the reason", async () => {
    expect(await remuda("lease --label country=XX")).toMatchObject({
      code: 1,
      stderr: "remuda: no-match: No proxy of this pool has these labels and schemes.\n",
    });
    const { code, stderr } = await remuda("lease --uses 5000");
    expect(code).toBe(1);
    expect(stderr).toMatch(/^remuda: invalid-request: uses: /);
    expect((await remuda("release l_aaaaaaaaaaaaaaaaaaaaaaaa")).stderr).toMatch(/^remuda: unknown-lease: /);
    expect((await remuda("renew l_aaaaaaaaaaaaaaaaaaaaaaaa")).stderr).toMatch(/^remuda: unknown-lease: /);
  });
});

describe("pool", () => {
  test("opens a pool with a policy, shows, changes, lists and closes it", async () => {
    const opened = await remudaWith("pool", "open", "--pool", "one", "--policy", '{"concurrency": 5}');
    expect(opened).toEqual({ code: 0, stdout: "one is open, version 1\n", stderr: "" });
    const path = await file("policy.json", '\uFEFF{"usage": null}');
    expect((await remuda(`pool policy ${path} --pool one --if-version 1`)).stdout).toBe(
      "one has its policy, version 2\n",
    );
    expect((await remuda("pool policy - --pool one", '{"marginMs": 200}')).code).toBe(0);
    const { stdout } = await remuda("pool policy --pool one");
    expect(JSON.parse(stdout)).toMatchObject({ concurrency: 5, usage: null, marginMs: 200 });
    expect((await remuda("pool policy - --pool one", stdout)).stdout).toBe("one has its policy, version 3\n");
    expect((await remuda("pool get --pool one")).stdout).toMatch(/^policy\.concurrency +5$/m);
    expect((await remuda("pool list")).stdout).toMatch(/^one +3 +best +\d+ (s|min) ago$/m);
    expect((await remuda("pool stats --pool one")).stdout).toMatch(/^proxies\.available +0$/m);
    expect(await json("pool stats --pool one")).toMatchObject({ pool: "one", leases: { open: 0 } });
    expect((await remuda("pool close --pool one --drain")).code).toBe(0);
    expect((await json<{ pools: { pool: string }[] }>("pool list")).pools.map(({ pool }) => pool)).not.toContain("one");
    expect((await remuda("pool open --pool one")).stdout).toBe(
      "one is open, version 4\nIt was closed before. Its policy, uses and rests are back, and its proxies: 0.\n",
    );
    expect((await remuda("pool open --pool one")).stdout).toBe("one is open, version 4\n");
    expect((await remuda("pool close --pool one")).code).toBe(0);
  });

  test("resets a policy, and deletes a closed pool with its sources, if that is confirmed", async () => {
    await remuda("pool open --pool brief");
    await remuda("pool policy - --pool brief", '{"concurrency": 5}');
    expect((await remuda("pool policy --reset --pool brief")).stdout).toBe("brief has its policy, version 3\n");
    expect(await json("pool get --pool brief")).toMatchObject({ policy: { concurrency: 2 } });
    const source = '{"name": "copy", "from": {"kind": "pool", "pool": "default"}}';
    expect((await remuda("sources put - --pool brief", source)).code).toBe(0);
    expect(await remuda("pool delete --pool brief --yes")).toMatchObject({
      code: 1,
      stderr: "remuda: invalid-request: pool: is open. Close it first.\n",
    });
    expect(await json<{ sources: object[] }>("sources list --pool brief")).toMatchObject({
      sources: [{ name: "copy" }],
    });
    await remuda("pool close --pool brief");
    expect(await remuda("pool delete --pool brief")).toMatchObject({ code: 2, stdout: "" });
    expect((await remuda("pool delete --pool brief --yes")).stdout).toBe("brief is deleted\n");
    expect(await json("sources list --pool brief")).toEqual({ sources: [] });
    expect((await remuda("pool delete --pool brief --yes")).stderr).toMatch(/^remuda: unknown-pool: /);
  });

  test("refuses an invalid policy with its field, and a policy at another version", async () => {
    const wrong = await remudaWith("pool", "policy", '{"concurrency": 0}');
    expect(wrong).toMatchObject({ code: 1, stdout: "" });
    expect(wrong.stderr).toMatch(/^remuda: invalid-request: policy\.concurrency: /);
    const late = await remudaWith("pool", "policy", "{}", "--if-version", "99");
    expect(late.stderr).toMatch(/^remuda: invalid-request: ifVersion: /);
  });

  test.each([
    ["{", /^remuda: the document is not JSON: /],
    ["-", /^remuda: standard input is not JSON: /],
    ["no-such-file.json", /^remuda: no-such-file\.json cannot be read \(there is no such file\)\. /],
  ])("rejects an unreadable document as wrong usage: %s", async (document, sentence) => {
    const { code, stderr } = await remuda(`pool policy ${document}`);
    expect(code).toBe(2);
    expect(stderr).toMatch(sentence);
  });

  test("names a pool that is not open, and what to do", async () => {
    for (const [command, stdin] of [
      ["lease --pool nowhere"],
      ["leases --pool nowhere"],
      ["proxies list --pool nowhere"],
      ["proxies add --pool nowhere -", "192.0.2.1:80"],
      ["exec --pool nowhere -- true"],
      ["token get --pool nowhere"],
    ] as const) {
      const { code, stdout, stderr } = await remuda(command, stdin);
      expect({ command, code, stdout }).toEqual({ command, code: 1, stdout: "" });
      expect(stderr).toMatch(
        /^remuda: unknown-pool: The pool nowhere is not open\. Open it with "npx remuda pool open --pool nowhere"\. Open: .*default/,
      );
    }
    const { stdout } = await remuda("lease --pool nowhere --json");
    expect(JSON.parse(stdout)).toMatchObject({ code: "unknown-pool" });
    expect(await remuda("pool stats --pool nowhere")).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^remuda: unknown-pool: /),
    });
  });
});

describe("env", () => {
  test("prints the settings of a client and of an auditor, for a shell", async () => {
    expect(await remuda("env --as auditor")).toEqual({
      code: 0,
      stdout: `REMUDA_NATS_URL=${service.natsUrlAs("auditor")}\n`,
      stderr: "",
    });
    expect(await json("env")).toEqual({
      REMUDA_NATS_URL: service.natsUrlAs("client"),
      REMUDA_HTTP_URL: service.httpUrl,
      REMUDA_GATEWAY_URL: service.gatewayUrl,
      REMUDA_HTTP_KEY: expect.stringMatching(/^[\w-]{43}$/),
    });
  });

  test("prints no other user's login", async () => {
    for (const user of ["ledger", "unknown"]) {
      expect(await remuda(`env --as ${user}`)).toMatchObject({ code: 2, stdout: "" });
    }
  });

  test("quotes special characters of the shell", async () => {
    const env = { REMUDA_NATS_URL: "nats://u:it's$HOME@127.0.0.1:4222" };
    const { stdout } = await runCommand(["env"], { dataDir, env });
    expect(stdout).toBe("REMUDA_NATS_URL='nats://u:it'\\''s$HOME@127.0.0.1:4222'\n");
  });
});
