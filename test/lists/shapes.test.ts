// Protocols, in every shape that public lists and vendors' APIs use, and the documents around them.
import { describe, expect, test } from "vitest";
import { readList } from "../../lists/list.ts";
import type { ListScheme } from "../../protocol/proxy.ts";

const told = (list: string, scheme?: ListScheme): string[] =>
  [...readList(list, { scheme })].map((entry) => (entry.ok ? `${entry.proxy.scheme}:${entry.proxy.port}` : entry.why));
const json = (value: unknown, scheme?: ListScheme) => told(JSON.stringify(value), scheme);
const here = { ip: "192.0.2.1", port: 80 };
const unread = (field: string) =>
  `has an unknown protocol in its field ${field} (expected http, https, socks4, socks4a, socks5, socks5h)`;

test.each<[fields: object, expected: string]>([
  [{ ...here, proto: "socks4", type: "elite" }, "socks4:80"],
  [{ ...here, proto: "SOCKS v5" }, "socks5:80"],
  [{ ...here, protocol: "Socks-4" }, "socks4:80"],
  [{ ...here, protocol: null, scheme: "" }, "http:80"],
  [{ ...here, protocols: [] }, "http:80"],
  [{ ...here, protocols: { http: false, socks5: true } }, "socks5:80"],
  [{ ...here, protocols: [{ type: "socks5", port: 1080 }] }, "socks5:1080"],
  [{ ...here, protocol: { name: "socks4" } }, "socks4:80"],
  [{ ...here, http: "no", https: "no", socks4: "no", socks5: "yes" }, "socks5:80"],
  [{ ...here, http: 0, ssl: 1, socks4: 0, socks5: 0 }, "http:80"],
  [{ ...here, https: true }, "http:80"],
  [{ ip: "192.0.2.1", ports: { http: 8080, socks5: 1080 } }, "http:8080"],
  [{ ip: "192.0.2.1", ports: { socks5: 1080 } }, "socks5:1080"],
  [{ ip: "192.0.2.1", port_socks: "1080" }, "socks5:1080"],
  [{ ip: "192.0.2.1", http: 8080, socks5: 1080 }, "http:8080"],
  [{ proxy: { host: "192.0.2.1", port: 1080, type: "socks5" } }, "socks5:1080"],
  [{ proxy: "socks5 192.0.2.1 1080" }, "socks5:1080"],
  [{ ...here, user: "u", password: "socks5" }, "http:80"],
  [{ ...here, labels: null, limits: null, moreLabels: { tier: null } }, "http:80"],
  [{ ...here, protocol: 5 }, unread("protocol")],
  [{ ...here, protocols: [["vmess"]] }, unread("protocols")],
  [{ ...here, conn: "SOCKS5" }, unread("conn")],
  [{ ...here, is_socks: "maybe" }, unread("issocks")],
  [{ ...here, socks5: "perhaps" }, unread("socks5")],
  [{ ...here, http: "no", socks4: "no" }, "has a column per protocol, and none of them says yes"],
  [{ proxy: "http://192.0.2.1:80", protocol: "socks5" }, "names two protocols, http and socks5"],
])("reads %j as %s", (fields, expected) => {
  expect(json([fields])).toEqual([expected]);
});

test("survives nesting of any depth", () => {
  const deep = `${"[".repeat(100_000)}"socks5"${"]".repeat(100_000)}`;
  expect(told(`[{"ip":"192.0.2.1","port":80,"protocols":${deep}}]`)).toHaveLength(1);
});

test("reads protocols from columns of CSV as from fields of JSON; a column may hold the addresses of its protocol", () => {
  expect(told("ip;port;http;ssl;socks4;socks5\n192.0.2.1;80;0;0;1;0\n192.0.2.1;81;1;1;0;0")).toEqual([
    "socks4:80",
    "http:81",
  ]);
  expect(told("http,socks5\n192.0.2.1:80,192.0.2.2:1080\n,192.0.2.3:1081")).toEqual([
    "http:80",
    "socks5:1080",
    "socks5:1081",
  ]);
});

test("reads quotes that are doubled, or escaped by a backslash", () => {
  const rows = ['"a \\"b\\" c","192.0.2.1","80"', '"a ""b"" c","192.0.2.1","81"', '"C:\\","192.0.2.1","82"'];
  expect(told(`note,ip,port\n${rows.join("\n")}`)).toEqual(["http:80", "http:81", "http:82"]);
  expect(told('a,ip,port\n"x\\"",192.0.2.1,80\n"y\\",192.0.2.2,81')).toEqual(["http:80", "http:81"]);
});

describe("a document", () => {
  test.each<[document: unknown, expected: string[]]>([
    [
      { http: ["192.0.2.1:80"], socks5: ["192.0.2.2:1080", { ip: "192.0.2.3", port: 1081 }] },
      ["http:80", "socks5:1080", "socks5:1081"],
    ],
    [{ socks4: "192.0.2.1:1\n192.0.2.2:2" }, ["socks4:1", "socks4:2"]],
    [
      { data: { items: [{ ...here, port: null, port_http: 50100, port_socks: 50101, login: "u", password: "p" }] } },
      ["http:50100"],
    ],
    [{ list: { "11": { host: "192.0.2.1", port: "80", type: "socks" } } }, ["socks5:80"]],
    [{ data: [{ code: "US", items: ["192.0.2.1:80"] }] }, ["http:80"]],
    [{ protocol: "socks5", proxies: ["192.0.2.1:80"] }, ["socks5:80"]],
    [
      { http: ["192.0.2.1:80"], vmess: ["192.0.2.1:81"] },
      ["http:80", "is a list whose name is not a protocol, beside lists named after protocols"],
    ],
    [{ results: [] }, []],
    [here, ["http:80"]],
  ])("%j", (document, expected) => {
    expect(json(document)).toEqual(expected);
  });

  test("without a list is one rejection that names the fields, but no key that may be a secret", () => {
    expect(json({ status: "error", data: { code: 1 } })).toEqual([
      "has no list of proxies (expected an array, or one under results, data or proxies); its fields are status, data, data.code",
    ]);
    expect(json({ "alice:hunter2@192.0.2.1": 1 })).toEqual([expect.stringMatching(/its fields are \*\*\*$/)]);
  });
});

test("applies a scheme for the whole list to the entries without one", () => {
  const lines =
    "192.0.2.1:1\nhttp://192.0.2.1:2\nu:p@192.0.2.1:3\n192.0.2.1:4:u:p\nsocks4 192.0.2.1 5\n192.0.2.1 6\n192.0.2.1:7 socks4\n";
  expect(told(lines, "socks")).toEqual([
    "socks5:1",
    "http:2",
    "socks5:3",
    "socks5:4",
    "socks4:5",
    "socks5:6",
    "socks4:7",
  ]);
  expect(told("ip,port,type\n192.0.2.1,1,elite\n192.0.2.1,2,socks4", "socks5h")).toEqual(["socks5h:1", "socks4:2"]);
  expect(json([here, "192.0.2.1:81", { ...here, protocol: "http" }], "socks4")).toEqual([
    "socks4:80",
    "socks4:81",
    "http:80",
  ]);
  expect(json({ http: ["192.0.2.1:80"] }, "socks5")).toEqual(["http:80"]);
});

test.each<[line: string, expected: string]>([
  ["192.0.2.60:8080@alice:pw123", "http://alice:pw123@192.0.2.60:8080"],
  ["http://192.0.2.63:8080@alice:40404", "http://alice:40404@192.0.2.63:8080"],
  ["gw.vendor.example:8080@alice:5150", "http://alice:5150@gw.vendor.example:8080"],
  ["socks5\t192.0.2.90\t1080\tlamer\tsecret", "socks5://lamer:secret@192.0.2.90:1080"],
  ["socks4 192.0.2.92 1080", "socks4://192.0.2.92:1080"],
  ["192.0.2.1:80 US-N-S! +", "http://192.0.2.1:80"],
  ["gw.vendor.example:1000:u:pw_country-US%2CCA", "http://u:pw_country-US%252CCA@gw.vendor.example:1000"],
  ["http://u:pw_country-US%2CCA@gw.vendor.example:1000", "http://u:pw_country-US%2CCA@gw.vendor.example:1000"],
])("%j", (line, expected) => {
  const [read, ...others] = readList(line);
  expect(others).toEqual([]);
  expect(
    read?.ok &&
      `${read.proxy.scheme}://${[read.proxy.username, read.proxy.password].flatMap((each) => (each === undefined ? [] : [encodeURIComponent(each)])).join(":")}${read.proxy.username === undefined ? "" : "@"}${read.proxy.host}:${read.proxy.port}`,
  ).toBe(expected);
});

test.each([
  "gw.vendor.example:1000:u:pw_country-US,CA",
  "gw.vendor.example:1000:u:pw_country-US,GB,AU_session-abc",
  "192.0.2.1:80:u:pw,",
  "192.0.2.1:80@u:pw,US",
  "192.0.2.72|8080|alice|hunter2",
  "192.0.2.1:1080,US socks5 x",
  "192.0.2.1:1080:socks5:US",
  "192.0.2.1 1080 alice",
  "192.0.2.1:80:u:p@192.0.2.9:99",
])("rejects %j, and shows nothing of it that may be a password", (line) => {
  const entries = [...readList(line)];
  expect(entries).toMatchObject([{ ok: false }]);
  expect(JSON.stringify(entries)).not.toMatch(/pw_|hunter2|session|alice|9:99/);
});

test("does not take the settings of proxychains.conf for entries", () => {
  const settings = [
    "# proxychains.conf",
    "strict_chain",
    "proxy_dns",
    "tcp_read_time_out 15000",
    "localnet 127.0.0.0/255.0.0.0",
    "[ProxyList]",
  ];
  expect(told([...settings, "socks5 192.0.2.90 1080"].join("\n"))).toEqual(["socks5:1080"]);
});
