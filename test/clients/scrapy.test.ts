// The Scrapy middleware, with Debian's Scrapy: the example of its page, and redirects, retries, delays and sessions.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildPython, installPython, python, root, run } from "./run.ts";
import { startWorld, type World } from "./world.ts";

let folder: string;
let world: World;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "clients-scrapy-"));
  world = await startWorld(folder);
}, 150_000);
afterAll(async () => {
  await world?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function crawl(spider: string): Promise<string> {
  writeFileSync(join(folder, "spider.py"), spider);
  const path = ["clients/python/src", "clients/scrapy/src"].map((each) => join(root, each)).join(":");
  const env = { ...world.env, PYTHONPATH: path };
  const { code, output } = await run(python, ["-m", "scrapy", "runspider", "spider.py"], { cwd: folder, env });
  expect(code, output).toBe(0);
  return output;
}

const proxies = (): string[] => JSON.parse(world.env["PROXIES"] ?? "[]");
const stats = async (pool: string) => (await world.service.call(`GET /v1/pools/${pool}/stats`)).body;

test("the example of docs/scrapy.md runs as written, and the spider's word is the class", async () => {
  const [, example = ""] = /```python\n([\s\S]*?)```/.exec(readFileSync(join(root, "docs/scrapy.md"), "utf8")) ?? [];
  const pool = "scrapy-example";
  await world.service.pool(pool, proxies(), { rate: null, backoff: { kind: "none" } });
  const here = example
    .replace('"default"', `"${pool}"`)
    .replaceAll("https://example.org", world.env["SITE"] ?? "")
    .replace('b"g-recaptcha" in response.body', '"robots" in response.url');
  expect(await crawl(here)).toMatch(/'remuda\/leases': 2/);
  expect(await stats(pool)).toMatchObject({
    leases: { open: 0, expired: 0 },
    outcomes: { succeeded: 1, failed: 1, neutral: 0, ignored: 0 },
  });
}, 120_000);

test("redirects and retries are uses of their own, and a full pool delays requests", async () => {
  const pool = "scrapy-uses";
  await world.service.pool(pool, proxies(), { rate: { limit: 3, windowMs: 1000 }, backoff: { kind: "none" } });
  const output = await crawl(`
import scrapy
class Pages(scrapy.Spider):
    name = "pages"
    custom_settings = {
        "DOWNLOADER_MIDDLEWARES": {"scrapy_remuda.RemudaMiddleware": 740}, "REMUDA_POOL": "${pool}",
        "RETRY_TIMES": 1, "REMUDA_OUTCOME_DELAY": 0,
        # None of these holds a request back that has its lease.
        "DOWNLOAD_DELAY": 3600, "AUTOTHROTTLE_ENABLED": True, "CONCURRENT_REQUESTS_PER_DOMAIN": 1,
    }
    def start_requests(self):
        for path in ["/redirect/302?to=/seen", "/status/500", *[f"/page/{n}" for n in range(4)]]:
            yield scrapy.Request("${world.env["SITE"]}" + path)
        for n in range(2):
            yield scrapy.Request("${world.env["SITE"]}/session/%d" % n, meta={"remuda": {"session": "a"}})
    def parse(self, response):
        if "session" in response.url:
            print("session", response.meta["remuda"].lease.proxy_id)
    def closed(self, reason):
        downloader = self.crawler.engine.downloader
        print("slots", len(downloader.slots), "repeats", downloader.handlers._get_handler("http")._pool.retryAutomatically)
`);
  const sessions = [...output.matchAll(/^session (\S+)$/gm)].map(([, id]) => id);
  expect([sessions.length, new Set(sessions).size]).toEqual([2, 1]);
  expect(output).toMatch(/^slots 0 repeats False$/m);
  expect(output).toMatch(/'remuda\/leases': 10/);
  expect(output).toMatch(/'remuda\/delayed': \d/);
  expect(await stats(pool)).toMatchObject({
    leases: { open: 0, expired: 0 },
    outcomes: { succeeded: 8, failed: 0, neutral: 2, ignored: 0 },
  });
}, 120_000);

test("its wheel and sdist build, and the wheel, installed without a network, passes the middleware's own tests", async () => {
  const sources = ["clients/python", "clients/scrapy"].map((each) => join(root, each));
  const made = await buildPython(sources, folder);
  const wheels = made.filter((path) => path.endsWith(".whl"));
  const sdist = made.find((path) => /scrapy[_-]remuda-0\.1\.0\.tar\.gz$/.test(path)) ?? "";
  expect(basename(wheels[1] ?? "")).toBe("scrapy_remuda-0.1.0-py3-none-any.whl");
  const listed = await run("tar", ["tzf", sdist], { cwd: folder });
  expect(listed.output).toContain("/src/scrapy_remuda/py.typed");
  const own = await installPython(wheels, folder, { besides: ["--system-site-packages"] }); // Scrapy itself is Debian's.
  const program = [
    "import os.path, runpy, scrapy_remuda, sys",
    "print(os.path.exists(os.path.join(os.path.dirname(scrapy_remuda.__file__), 'py.typed')), sys.prefix in scrapy_remuda.__file__)",
    "sys.argv = ['tests']",
    "runpy.run_path(os.environ['TESTS'], run_name='__main__')",
  ].join("\n");
  const env = { TESTS: join(root, "clients/scrapy/tests/test_middleware.py") };
  const { code, output } = await run(own, ["-c", program], { cwd: folder, env });
  expect(output).toMatch(/^True True$/m);
  expect(output).toMatch(/^OK$/m);
  expect(code).toBe(0);
}, 120_000);
