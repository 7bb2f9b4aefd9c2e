// A forked process whose parent ends: it says nothing about that, whatever it sends.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";

const module = new URL("../../demo/parent.ts", import.meta.url).href;

/** It does not let its event loop turn, so that it cannot know that the channel is closed. */
const child = `
  const { leaveParent, tellParent } = await import(${JSON.stringify(module)});
  tellParent("begun");
  const parent = process.ppid;
  while (process.ppid === parent);
  for (let i = 0; i < 3; i++) tellParent({ i });
  await new Promise((resolve) => setTimeout(resolve));
  tellParent("disconnected");
  leaveParent();
  console.error("done");
`;

const parent = `
  import { fork } from "node:child_process";
  const options = { execArgv: ["--input-type=module", "--eval", ${JSON.stringify(child)}] };
  fork("-", { ...options, stdio: ["ignore", "ignore", "inherit", "ipc"] }).once("message", () => process.kill(process.pid, "SIGKILL"));
`;

test("survives the end of its parent silently", async () => {
  const args = ["--input-type=module", "--eval", parent];
  const started = spawn(process.execPath, args, {
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: process.env["PATH"] },
  });
  let said = "";
  started.stderr.on("data", (chunk) => (said += chunk));
  await once(started, "close"); // When the child has closed its end as well.
  expect(said).toBe("done\n");
});
