// The demo, run as its user runs it: against sites that ban for good, only Remuda ends without a ban.
import { spawn } from "node:child_process";
import { expect, test } from "vitest";

const root = new URL("../..", import.meta.url).pathname;

test("under a load at which all others are banned, Remuda is not, and is killed on the way", {
  timeout: 180_000,
}, async () => {
  const { code, output } = await demo(["--window", "5s", "--windows", "5"]);
  const rows = new Map(
    [...output.matchAll(/^\| (.+?) +\| (\d+) \(([\d.]+) %\) +\| (\d+) +\| (\d+) to (\d+) /gm)].map(
      ([, name = "", served, share, bans, , most]) => [
        name,
        { served: Number(served), share: Number(share), bans: Number(bans), most: Number(most) },
      ],
    ),
  );
  for (const other of ["plain round-robin", "a counter in each process"]) {
    expect(rows.get(other), output).toMatchObject({ bans: 10 });
    expect(rows.get(other)?.most).toBeGreaterThan(30);
  }
  const ours = rows.get("Remuda, killed with -9 in the middle");
  expect(ours, output).toMatchObject({ bans: 0, most: 30 });
  // How much it serves depends on how soon a busy machine has it running again; that the verdict follows does not.
  expect(ours?.share).toBeGreaterThan(60);
  expect(output).toMatch(/was back after [\d.]+ s/);
  expect(code).toBe((ours?.share ?? 0) > 90 ? 0 : 1);
});

test("a setting that cannot be read is said in a sentence", async () => {
  const cases: [string[], RegExp][] = [
    [["--window", "soon"], /^--window: seconds from 1 to 600/],
    [["--proxies", "0"], /^--proxies: a whole number from 1 to 200/],
    [["--speed", "2"], /--speed/],
  ];
  for (const [args, sentence] of cases) {
    const { code, output } = await demo(args);
    expect(output).toMatch(sentence);
    expect(output).not.toMatch(/ {4}at /);
    expect(code).toBe(2);
  }
});

function demo(args: string[]): Promise<{ code: number | null; output: string }> {
  const { NODE_OPTIONS: _vitest, ...env } = process.env;
  const child = spawn(process.execPath, ["demo/run.ts", ...args], {
    cwd: root,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
}
