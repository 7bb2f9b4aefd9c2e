// Real clients through one gateway, each as a user of its own, so that its uses are told from those of the others. Each
// makes three requests of each kind. The target counts them, and docs/gateway.md has the table.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { createSecureServer } from "node:http2";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import axios from "axios";
import { ProxyAgent, fetch as undiciFetch } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { type Lab, startLab } from "./lab.ts";

const run = promisify(execFile);
const requests = 3;

/** What the target speaks. Each has an address of its own, by which outcomes are told apart. */
const sites = {
  plain: { host: "127.0.0.1", scheme: "http" },
  "TLS 1.2": { host: "127.0.0.12", scheme: "https" },
  "TLS 1.3": { host: "127.0.0.13", scheme: "https" },
  "HTTP/2": { host: "127.0.0.14", scheme: "https" },
} as const;
type Site = keyof typeof sites;
const http1: Site[] = ["plain", "TLS 1.2", "TLS 1.3"];

interface Client {
  name: string;
  speaks: Site[];
  /** Makes the requests. Resolves with the texts of all answers. */
  get(proxy: string, urls: Record<Site, string[]>): Promise<string>;
  /** It has neither login nor options, and makes one request of each kind. */
  isBare?: true;
}

const file = (name: string): string => fileURLToPath(new URL(`clients/${name}`, import.meta.url));
let folder: string;
const withPython =
  (library: string): Client["get"] =>
  async (proxy, { plain, ...urls }) =>
    (await run("/usr/bin/python3", [file("get.py"), library, proxy, ...plain, ...urls["TLS 1.2"], ...urls["TLS 1.3"]]))
      .stdout;
const flat = (urls: Record<Site, string[]>): string[] => Object.values(urls).flat();

const clients: Client[] = [
  {
    name: "curl",
    speaks: [...http1, "HTTP/2"],
    async get(proxy, { "HTTP/2": h2, ...urls }) {
      const all = ["-sS", "-k", "-x", proxy];
      const one = [...all, "--http1.1", ...Object.values(urls).flat(), "--next", ...all, "--http2", ...h2];
      return (await run("curl", one)).stdout;
    },
  },
  { name: "Python requests", speaks: http1, get: withPython("requests") },
  { name: "httpx", speaks: http1, get: withPython("httpx") },
  { name: "aiohttp", speaks: http1, get: withPython("aiohttp") },
  { name: "Scrapy", speaks: http1, get: withPython("scrapy") },
  {
    name: "Go",
    speaks: [...http1, "HTTP/2"],
    get: async (proxy, urls) => (await run(join(folder, "get"), [proxy, ...flat(urls)])).stdout,
  },
  {
    name: "undici",
    speaks: http1,
    async get(proxy, { plain, ...urls }) {
      const agent = new ProxyAgent({ uri: proxy, requestTls: { rejectUnauthorized: false } });
      let text = "";
      for (const url of [...plain, ...urls["TLS 1.2"], ...urls["TLS 1.3"]])
        text += await (await undiciFetch(url, { dispatcher: agent })).text();
      await agent.close();
      return text;
    },
  },
  {
    name: "axios",
    speaks: ["plain"],
    async get(proxy, { plain }) {
      const { hostname: host, port, username, password } = new URL(proxy);
      const through = { protocol: "http", host, port: Number(port), auth: { username, password } };
      let text = "";
      for (const url of plain) text += (await axios.get<string>(url, { proxy: through })).data;
      return text;
    },
  },
  {
    name: "Chromium",
    speaks: http1,
    isBare: true,
    async get(proxy, { plain, ...urls }) {
      const flags = ["--no-sandbox", "--ignore-certificate-errors", "--virtual-time-budget=5000", "--dump-dom"];
      const through = [`--proxy-server=${proxy}`, "--proxy-bypass-list=<-loopback>", `--user-data-dir=${folder}/c`];
      others = [urls["TLS 1.2"], urls["TLS 1.3"]].map(([url]) => `<script src="${url}"></script>`).join("");
      await run("/usr/bin/chromium-headless-shell", [...flags, ...through, plain[0] ?? ""]);
      return "";
    },
  },
];
const userOf = (client: Client): string => (client.isBare ? "client" : client.name);

/** For a browser: a page that loads from the other sites as well. */
let others = "";
const ports = {} as Record<Site, number>; // Filled before the tests.
const arrived: { site: Site; client: string }[] = [];
let servers: Server[] = [];
let proxy: ForwardProxy;
let lab: Lab;

beforeAll(async () => {
  const answer =
    (site: Site) =>
    (asked: { url?: string | undefined; httpVersion: string }, response: { end(text: string): void }): void => {
      arrived.push({ site, client: decodeURIComponent(asked.url?.split("/")[1] ?? "") });
      response.end(`${others}${site} by HTTP/${asked.httpVersion}\n`);
    };
  const { key, cert } = loopbackTls;
  const made: Record<Site, Server> = {
    plain: createServer(answer("plain")),
    "TLS 1.2": createTlsServer({ key, cert, maxVersion: "TLSv1.2" }, answer("TLS 1.2")),
    "TLS 1.3": createTlsServer({ key, cert, minVersion: "TLSv1.3" }, answer("TLS 1.3")),
    "HTTP/2": createSecureServer({ key, cert, allowHTTP1: true }, answer("HTTP/2")),
  };
  servers = Object.values(made);
  for (const site of Object.keys(sites) as Site[]) {
    await new Promise<void>((resolve) => made[site].listen(0, sites[site].host, resolve));
    ports[site] = (made[site].address() as AddressInfo).port; // It listens on TCP.
  }
  folder = await mkdtemp(join(tmpdir(), "remuda-clients-"));
  proxy = await startForwardProxy({ exit: "127.0.0.2" });
  const users = Object.fromEntries(clients.map(({ name }) => [keyOf(name), { name, role: "worker" as const }]));
  lab = await startLab({ proxies: [proxy.url], users });
  const env = { ...process.env, GOCACHE: join(folder, "go"), GO111MODULE: "off" };
  await run("go", ["build", "-o", join(folder, "get"), file("get.go")], { env });
}, 120_000);
afterAll(async () => {
  await lab?.stop();
  for (const server of servers) server.close();
  await proxy?.stop();
  await rm(folder, { recursive: true, force: true });
});

const keyOf = (name: string): string => name.replaceAll(" ", "").toLowerCase();

test.each(clients)(
  "$name goes through, with its options",
  async (client) => {
    const { name, isBare, speaks } = client;
    const login = isBare ? "" : `any-session-${keyOf(name)}:${keyOf(name)}@`;
    const count = isBare ? 1 : requests;
    const urlsOf = (site: Site): string[] =>
      Array.from(
        { length: count },
        (_, nth) => `${sites[site].scheme}://${sites[site].host}:${ports[site]}/${encodeURIComponent(name)}/${nth}`,
      );
    const urls = Object.fromEntries(Object.keys(sites).map((site) => [site, urlsOf(site as Site)]));
    const text = await client.get(`http://${login}127.0.0.1:${lab.port}`, urls as Record<Site, string[]>);
    for (const site of speaks) {
      const line = `${site} by HTTP/${site === "HTTP/2" ? "2.0" : "1.1"}\n`;
      if (!isBare) expect(text.split(line)).toHaveLength(count + 1);
      expect(requestsOf(client, site)).toBe(count);
    }
    const session = isBare ? {} : { session: keyOf(name) };
    expect(lab.asked.find(({ user }) => user === userOf(client))).toMatchObject(session);
  },
  60_000,
);

const requestsOf = ({ name }: Client, site: Site): number =>
  arrived.filter((each) => each.site === site && each.client === name).length;

test("each request over HTTP/1.1 has a use, and the table in the docs has the counts", async () => {
  await lab.stop(); // All uses are reported then.
  const page = await readFile(new URL("../../docs/gateway.md", import.meta.url), "utf8");
  for (const client of clients) {
    const counts = client.speaks.map((site) => {
      const host = sites[site].host;
      const uses = lab.outcomes.filter(({ user, target }) => user === userOf(client) && target === host);
      const [made, counted] = [requestsOf(client, site), uses.length];
      if (site !== "HTTP/2") expect(counted, `${client.name}, ${site}`).toBeGreaterThanOrEqual(made);
      const isExact = site === "plain" || (site === "TLS 1.2" && uses.every((each) => each.counted === "flight"));
      if (isExact) expect(counted, `${client.name}, ${site}`).toBe(made);
      return `${site}: ${counted} for ${made}`;
    });
    if (process.env["REMUDA_SHOW_USES"] !== undefined) console.log(`${client.name}: ${counts.join(", ")}`);
    expect(page).toMatch(new RegExp(`^\\| ${client.name}[^|]* \\|( \\S.* \\|){4}$`, "m"));
  }
});
