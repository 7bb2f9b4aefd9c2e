// `npm run pictures`: makes the pictures of docs/dashboard.md and the README, from a service with some traffic.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright";
import { startRemuda } from "../kit/process.ts";

const folder = new URL("../../docs/pictures/", import.meta.url).pathname;
const executablePath = "/usr/bin/chromium-headless-shell";
const rounds = 60;
const countries = ["DE", "FR", "NL", "US"];
/** The statuses of a site in turn. Some are bans. */
const answers = [200, 200, 200, 200, 200, 200, 403, 200, 200, 429, 200, 503];

const dataDir = mkdtempSync(join(tmpdir(), "remuda-pictures-"));
const remuda = await startRemuda({ dataDir });
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const pools = `${remuda.httpUrl}/v1/pools`;
  // biome-ignore lint/suspicious/noExplicitAny: replies of the contract
  const send = async (method: string, path: string, body: object = {}): Promise<any> =>
    (await fetch(`${pools}/${path}`, { method, body: JSON.stringify(body) })).json();
  for (const [pool, count] of [
    ["shop", 48],
    ["maps", 12],
  ] as const) {
    await send("PUT", pool, { policy: { rate: { limit: 8, windowMs: 60_000 } } });
    const proxies = Array.from({ length: count }, (_, i) => ({
      url: `http://192.0.2.${i + 1}:3128`,
      labels: { country: countries[i % countries.length] },
    }));
    await send("POST", `${pool}/proxies`, { proxies });
  }
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(`${remuda.httpUrl}/?view=pool&pool=shop&sort=window`);
  for (let i = 0; i < rounds; i++) {
    for (const pool of ["shop", "shop", "maps"]) {
      const { leaseId } = await send("POST", `${pool}/leases`);
      const status = answers[(7 * i) % answers.length];
      if (leaseId !== undefined) await send("POST", `${pool}/outcomes`, { leaseId, n: 1, status, latencyMs: 120 });
    }
    await sleep(100);
  }
  for (let i = 0; i < 5; i++) await send("POST", "shop/leases", { uses: 3 });
  const resting = (await (await fetch(`${pools}/shop/proxies?state=cooling&limit=1`)).json()) as {
    proxies: { id: string }[];
  };
  await page
    .getByText(/in-use/)
    .first()
    .waitFor();
  await page.screenshot({ path: `${folder}dashboard-pool.png` });
  await page.goto(`${remuda.httpUrl}/`);
  await page.getByText("of 48 can be leased now").waitFor();
  await page.screenshot({ path: `${folder}dashboard-pools.png`, clip: { x: 0, y: 0, width: 1280, height: 560 } });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.goto(`${remuda.httpUrl}/?view=proxy&pool=shop&proxy=${resting.proxies[0]?.id}`);
  await page.getByText(/ is http:/).waitFor();
  await page.screenshot({ path: `${folder}dashboard-proxy.png` });
  await page.setViewportSize({ width: 375, height: 800 });
  await page.goto(`${remuda.httpUrl}/?view=policy&pool=shop`);
  await page.getByText("rate {").click();
  await page.getByLabel("rate.limit").fill("12");
  await page.screenshot({ path: `${folder}dashboard-policy.png` });
} finally {
  await browser.close();
  await remuda.stop();
  rmSync(dataDir, { recursive: true, force: true });
}
