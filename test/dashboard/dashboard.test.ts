// The dashboard in a browser, against a service that asks for keys. Each test has a browser context of its own, as a
// second person at another machine has.
import { readFileSync } from "node:fs";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { callerOf, lines, type Service, startService } from "../api/http.ts";
import { runCommand } from "../kit/command.ts";
import { usersIn } from "../kit/login.ts";

/** Debian's package chromium-headless-shell. */
const executablePath = "/usr/bin/chromium-headless-shell";
const axe = readFileSync(new URL("../../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const wide = { width: 1280, height: 800 };
const narrow = { width: 375, height: 700 };

let service: Service;
let browser: Browser;
const contexts: BrowserContext[] = [];
/** What the pages had to say: errors of scripts, and breaches of the content security policy. */
const errors: string[] = [];

const keyOf = (name: string): string => usersIn(service.dataDir).find((each) => each.name === name)?.key ?? "";

beforeAll(async () => {
  [service, browser] = await Promise.all([
    startService({ REMUDA_HTTP_KEYS: "always" }),
    chromium.launch({ executablePath, args: ["--no-sandbox"] }),
  ]);
  await runCommand(["user", "add", "vera", "--role", "viewer"], { dataDir: service.dataDir });
}, 150_000);
afterEach(async () => {
  await Promise.all(contexts.splice(0).map((each) => each.close()));
  expect(errors.splice(0)).toEqual([]);
});
afterAll(async () => {
  await browser?.close();
  await service?.stop();
});

/** Sends as the operator. */
async function call(line: string, body?: object): Promise<void> {
  const { status, text } = await callerOf(service.url)(line, body, { authorization: `Bearer ${keyOf("operator")}` });
  if (status >= 300) throw new Error(`${line}: ${text}`);
}

/** A pool of the test's own, with this many proxies. */
async function open(pool: string, count: number, policy = {}): Promise<void> {
  await call(`PUT /v1/pools/${pool}`, { policy });
  await call(`POST /v1/pools/${pool}/proxies`, { proxies: lines(count) });
}

/** A window of a browser, logged in as this user. */
async function windowOf(user: string, path = "/", viewport = wide): Promise<Page> {
  const context = await browser.newContext({ viewport, colorScheme: viewport === wide ? "light" : "dark" });
  contexts.push(context);
  const page = await context.newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  // A refused request is an error in the console, too, and the page shows it.
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      errors.push(message.text());
  });
  await page.goto(service.url + path);
  await page.getByLabel("Key").fill(keyOf(user));
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText(`${user} (`).waitFor();
  return page;
}

/** No violation of WCAG 2 (A and AA) that axe-core can find, and nothing that is wider than the window. */
async function expectUsable(page: Page): Promise<void> {
  // Over the debugger, so it is no script of the page.
  const found = await page.evaluate(`${axe}; axe.run().then(({ violations }) =>
    violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html).join(", ")))`);
  expect(found).toEqual([]);
  expect(await page.evaluate("document.documentElement.scrollWidth - innerWidth")).toBeLessThanOrEqual(0);
}

test("logs in with a key, says that a wrong one is not known, and logs out", async () => {
  const page = await windowOf("operator");
  await page.reload(); // The cookie is enough now.
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Key").fill("nonsense");
  await expectUsable(page);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").filter({ hasText: "key: this key is not known." }).waitFor();
  expect(await page.context().cookies()).toEqual([]);
});

test.each([
  [1280, wide],
  [375, narrow],
])("shows all pools and follows them, at %i px", async (width, viewport) => {
  const pool = `overview-${width}`;
  await open(pool, 3);
  const page = await windowOf("vera", "/", viewport);
  const card = page.locator(`article[data-pool=${pool}]`);
  await card.getByText("3 of 3 can be leased now").waitFor();
  await call(`POST /v1/pools/${pool}/leases`, { uses: 30 });
  await card.getByText("2 of 3 can be leased now").waitFor();
  await expectUsable(page);
});
