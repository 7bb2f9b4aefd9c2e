// The stores and exports of other proxy managers: Scrapoxy's scrapoxy.json, and the three exports of Rota.
import fc from "fast-check";
import { expect, test } from "vitest";
import { isJsonDocument, readList } from "../../lists/list.ts";

const told = (list: string): string[] =>
  [...readList(list)].map((entry) => {
    if (!entry.ok) return `${entry.input} ${entry.why}`;
    const { scheme, host, port, username = "", password = "", labels } = entry.proxy;
    return `${scheme} ${host}:${port} ${username}:${password} ${JSON.stringify(labels)}`;
  });

const secret = "s3cret-Of-A-Cloud";
const ids = { id: "c7c8c5a1", projectId: "p1", connectorId: "c1" };
const free = (key: string, more: object) => ({ ...ids, key, auth: null, ...more });
const connector = (type: unknown, more: object = {}) => ({
  id: "c1",
  projectId: "p1",
  name: `my ${secret}`,
  type,
  active: true,
  proxiesMax: 10,
  error: null,
  certificateEndAt: null,
  credentialId: "k1",
  proxiesTimeoutDisconnected: 5000,
  proxiesTimeoutUnreachable: { enabled: true, value: 5000 },
  config: { region: secret },
  certificate: { cert: secret, key: secret },
  freeproxies: [],
  ...more,
});
const store = (...connectors: unknown[]) => ({
  migrations: ["0001-init"],
  params: { frontendJwt: secret },
  projects: [
    {
      id: "p1",
      name: "main",
      token: secret,
      credentials: [{ id: "k1", projectId: "p1", name: "AWS", type: "aws", config: { secretAccessKey: secret } }],
      connectors,
      usersIds: ["u1"],
    },
  ],
  users: [{ id: "u1", name: "admin" }],
});
const own = connector("freeproxies", {
  sources: [{ id: "s1", url: `https://lists.example/?key=${secret}`, delay: 60_000 }],
  freeproxies: [
    free("192.0.2.1:8080", { type: "http", address: { hostname: "192.0.2.1", port: 8080 } }),
    free("192.0.2.2:1080", {
      type: "socks5",
      address: { hostname: "192.0.2.2", port: 1080 },
      auth: { username: "ann", password: "a:b@c" },
    }),
  ],
});
const read = ["http 192.0.2.1:8080 : {}", "socks5 192.0.2.2:1080 ann:a:b@c {}"];

test("reads the proxies of a scrapoxy.json, and refuses the other connectors by their type", () => {
  const aws =
    '*** is a connector of Scrapoxy of the type "aws", which holds no proxies (add the list of your vendor instead)';
  expect(told(JSON.stringify(store(own, connector("aws")), null, 4))).toEqual([...read, aws]);
  expect(told(JSON.stringify(store(own)))).toEqual(read);
  const [first, second] = [store(own), store(connector("proxy-cheap-server"))];
  const both = { ...first, projects: [...first.projects, ...second.projects] };
  expect(told(JSON.stringify(both))).toEqual([...read, aws.replace("aws", "proxy-cheap-server")]);
  expect(isJsonDocument(JSON.stringify(store(own)))).toBe(true);
});

test("names the command for the sources of a connector without proxies, and hides a type that is no type", () => {
  const following = { ...own, freeproxies: [] };
  expect(told(JSON.stringify(store(following, connector("freeproxies"), connector(secret), 7)))).toEqual([
    expect.stringContaining("add its sources with remuda sources put"),
    expect.stringContaining("of the type ***, which holds no proxies"),
    "*** is a connector of Scrapoxy that is not an object",
  ]);
});

test("shows no secret of a scrapoxy.json, whatever its connectors are", () => {
  const value = fc.oneof(fc.jsonValue(), fc.constant(secret), fc.constant({ hostname: secret, port: secret }));
  const anyConnector = fc.dictionary(
    fc.constantFrom("type", "freeproxies", "sources", "config", "name", "address"),
    fc.oneof(value, fc.array(value)),
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(anyConnector, value)), (connectors) => {
      for (const entry of readList(JSON.stringify(store(...connectors))))
        expect(entry.ok ? entry.input : `${entry.input} ${entry.why}`).not.toContain(secret);
    }),
  );
});

const rota = (more: object) => ({
  id: 7,
  address: "192.0.2.7:1080",
  protocol: "socks5",
  status: "active",
  requests: 12,
  success_rate: 91.6,
  avg_response_time: 230,
  last_check: "2026-04-29T10:00:00Z",
  country_code: "DE",
  country_name: "Germany",
  city_name: "Berlin",
  isp: "Example",
  tags: ["fast"],
  created_at: "2026-04-01T10:00:00Z",
  updated_at: "2026-04-29T10:00:00Z",
  ...more,
});

test("reads Rota's exports, and refuses an entry whose password Rota has left out", () => {
  expect(told(JSON.stringify([rota({}), rota({ username: "ann" })]))).toEqual([
    'socks5 192.0.2.7:1080 : {"city":"Berlin","country":"DE"}',
    "socks5://…@192.0.2.7:1080 has a user name and no password, because Rota exports none (add the proxy with its password)",
  ]);
  const page = { proxies: [rota({})], pagination: { page: 1, limit: 50, total: 1, total_pages: 1 } };
  expect(told(JSON.stringify(page))).toHaveLength(1);
  const csv =
    "Address,Protocol,Status,Requests,SuccessRate,AvgResponseTime\n192.0.2.7:1080,socks5,active,12,91.60,230\n";
  expect(told(csv)).toEqual(["socks5 192.0.2.7:1080 : {}"]);
  const ofPool =
    'address,protocol,status,country_code,city,isp,success_rate,avg_response_ms\n192.0.2.7:1080,socks5,active,DE,Berlin,"Example, Inc.",91.6,230\n';
  expect(told(ofPool)).toEqual(['socks5 192.0.2.7:1080 : {"city":"Berlin","country":"DE"}']);
  expect(told("socks4://192.0.2.7:1080\n")).toEqual(["socks4 192.0.2.7:1080 : {}"]);
  const [plain, named = ""] = told("192.0.2.7:8080\n192.0.2.8:8080:ann\n");
  expect(plain).toBe("http 192.0.2.7:8080 : {}");
  expect(named).toMatch(/^192\.0\.2\.8:8080\S* /);
});
