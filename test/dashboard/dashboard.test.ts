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
/** A browser on a busy machine takes its time. */
const patient = { timeout: 150_000 };
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
    chromium.launch({ executablePath, args: ["--no-sandbox"], timeout: 120_000 }),
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
async function windowOf(user: string, path = "/"): Promise<Page> {
  const context = await browser.newContext({ viewport: wide, colorScheme: "light" });
  contexts.push(context);
  context.setDefaultTimeout(60_000);
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
  const found = await page.evaluate(`${axe}; axe.run({ resultTypes: ["violations"] }).then(({ violations }) =>
    violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html).join(", ")))`);
  expect(found).toEqual([]);
  expect(await page.evaluate("document.documentElement.scrollWidth - innerWidth")).toBeLessThanOrEqual(0);
}

test("logs in with a key, says that a wrong one is not known, and logs out", patient, async () => {
  const page = await windowOf("operator");
  await page.reload(); // The cookie is enough now.
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Key").fill("nonsense");
  await expectUsable(page);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").filter({ hasText: "key: this key is not known." }).waitFor();
  expect(await page.context().cookies()).toEqual([]);
});

test("shows all pools and follows them, in light at 1280 px and in dark at 375 px", patient, async () => {
  await open("overview", 3);
  const page = await windowOf("vera");
  const card = page.locator("article[data-pool=overview]");
  await card.getByText("3 of 3 can be leased now").waitFor();
  await call("POST /v1/pools/overview/leases", { uses: 30 });
  await card.getByText("2 of 3 can be leased now").waitFor();
  await expectUsable(page);
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize(narrow);
  await expectUsable(page);
});

test(
  "lets a proxy rest in one browser, shows it in a second one, and offers no change to a viewer",
  patient,
  async () => {
    await open("rests", 3);
    const [ours, theirs] = await Promise.all([
      windowOf("operator", "/?view=pool&pool=rests"),
      windowOf("vera", "/?view=pool&pool=rests&state=cooling"),
    ]);
    await theirs.getByText("No proxy matches.").waitFor();
    await ours.getByRole("button", { name: "Rest http://10.0.0.1:8080" }).click();
    const dialog = ours.getByRole("dialog");
    await dialog.getByLabel("Minutes").fill("5");
    await dialog.getByLabel("Reason").fill("it's slow");
    const commands = dialog.getByLabel("Commands");
    expect(await commands.textContent()).toMatch(
      /^npx remuda proxies rest p_\S{16} --for 300s --reason 'it'\\''s slow' --pool rests\ncurl -X POST .* -d '\{"forMs":300000,"reason":"it'\\''s slow"\}' "\$REMUDA_HTTP_URL\/v1\/pools\/rests\/proxies\/p_\S{16}\/rest"$/,
    );
    await expectUsable(ours);
    await dialog.getByRole("button", { name: "Rest" }).click();
    await ours.getByRole("row", { name: /10\.0\.0\.1:8080.*cooling manual, for [45] min/ }).waitFor();
    await theirs.getByRole("row", { name: /10\.0\.0\.1:8080.*cooling manual, for [45] min/ }).waitFor();
    expect(await theirs.getByRole("button", { name: /Rest|Revive|Retire/ }).count()).toBe(0);
    await theirs.setViewportSize(narrow);
    await expectUsable(theirs);
    // Several at once, and the end of the rest.
    await ours.getByLabel("Select all of this page").check();
    await ours.getByRole("button", { name: "Revive 3 proxies" }).click();
    await ours.getByRole("dialog").getByRole("button", { name: "Revive" }).click();
    await ours.getByText("3 proxies: revived.").waitFor();
    await theirs.getByText("No proxy matches.").waitFor();
  },
);

test("tells the story of a proxy and of a minute in sentences, without the ids of leases", patient, async () => {
  await open("told", 1);
  await call("POST /v1/pools/told/leases", { uses: 30 });
  const page = await windowOf("vera", "/?view=pool&pool=told");
  await page.getByRole("link", { name: "http://10.0.0.0:8080" }).click();
  await page.getByText(/^p_\S{16} is http:\/\/10\.0\.0\.0:8080, exit 10\.0\.0\.0, added /).waitFor();
  await expectUsable(page);
  await page.getByRole("link", { name: "Pool told" }).click();
  await page.getByRole("link", { name: "What happened then?" }).click();
  await page.getByText(/^From .+ to .+: /).waitFor();
  await page.setViewportSize(narrow);
  await expectUsable(page);
  expect(await page.textContent("main")).not.toMatch(/\bl_[\w-]{8}/);
});

test("finds proxies page by page, with the filters in the URL", patient, async () => {
  await open("many", 120, { rate: { limit: 2, windowMs: 60_000 } });
  await call("POST /v1/pools/many/proxies", { proxies: [{ url: "192.0.2.7:3128", labels: { country: "DE" } }] });
  const page = await windowOf("vera", "/?view=pool&pool=many");
  await page.getByText("100 proxies on this page").waitFor();
  await page.getByRole("link", { name: "Next page" }).click();
  await page.getByText("21 proxies on this page").waitFor();
  await page.getByLabel("Text").fill("192.0.2");
  await page.getByText("1 proxy on this page").waitFor();
  await page.getByLabel("Labels").fill("country=DE");
  await page.waitForURL((url) => url.search === "?view=pool&pool=many&text=192.0.2&label=country%3DDE");
  await call("POST /v1/pools/many/leases", { labels: { country: "DE" }, uses: 2 });
  await page.getByRole("row", { name: /192\.0\.2\.7:3128.* in-use .*country=DE .*2\/2/ }).waitFor();
  await page.getByLabel("Text").fill("192.0.3");
  await page.getByText("No proxy matches.").waitFor();
});

test("shows the proxies as they were at an earlier time, and offers no change of the past", patient, async () => {
  await open("past", 1);
  const before = Date.now();
  while (Date.now() <= before) await new Promise(setImmediate);
  await call("POST /v1/pools/past/proxies", { proxies: ["192.0.2.9:80"] });
  const page = await windowOf("operator", `/?view=pool&pool=past&at=${before}`);
  await page.getByText("1 proxy on this page").waitFor();
  expect(await page.getByRole("button", { name: "Retire" }).count()).toBe(0);
  expect(await page.getByLabel("Time", { exact: true }).inputValue()).toContain(
    new Date(before - new Date(before).getTimezoneOffset() * 60_000).toISOString().slice(0, 16),
  );
  await expectUsable(page);
  await page.getByRole("button", { name: "Now" }).click();
  await page.getByText("2 proxies on this page").waitFor();
  await page.waitForURL((url) => url.search === "?view=pool&pool=past");
});

test(
  "changes the fields of a policy that differ, with the commands for it, and lets a viewer read it",
  patient,
  async () => {
    await open("ruled", 1, { concurrency: 3 });
    const page = await windowOf("operator", "/?view=pool&pool=ruled");
    await page.getByRole("link", { name: "Sources" }).click();
    await page.getByText("None. ").waitFor();
    await page.getByRole("link", { name: "Pool ruled" }).click();
    await page.getByRole("link", { name: "Policy" }).click();
    await page.getByText("concurrency 3").click();
    await page.getByLabel("concurrency").fill("0");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByRole("alert").filter({ hasText: "policy.concurrency: " }).waitFor();
    await page.getByLabel("concurrency").fill("4");
    await page.getByText("lease {").click();
    await page.getByLabel("lease.ttlMs", { exact: true }).fill("45000");
    const patch = '{"concurrency":4,"lease":{"ttlMs":45000}}';
    expect(await page.getByLabel("Commands").textContent()).toContain(
      `npx remuda pool policy '${patch}' --if-version 1 --pool ruled\n`,
    );
    expect(await page.getByLabel("What if").textContent()).toBe(
      `npx remuda audit what-if --policy '${patch}' --from 1h --pool ruled`,
    );
    await expectUsable(page);
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Saved as version 2.").waitFor();
    const theirs = await windowOf("vera", "/?view=policy&pool=ruled");
    await theirs.getByText("concurrency 4").click();
    expect(await theirs.getByLabel("concurrency").getAttribute("readonly")).not.toBeNull();
    await theirs.setViewportSize(narrow);
    await expectUsable(theirs);
  },
);
