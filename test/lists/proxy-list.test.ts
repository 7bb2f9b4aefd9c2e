import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { proxyFromParts, proxyUrl } from "../../lists/address.ts";
import { isJsonDocument, type ListEntry, ListReader, readList } from "../../lists/list.ts";
import type { ProxyAddress } from "../../protocol/host.ts";
import { vendorList } from "../kit/vendor-list.ts";

const entries = (list: string): ListEntry[] => [...readList(list)];

/** Each entry in short form: its URL and labels, or its place and why it was rejected. */
const told = (list: string) =>
  entries(list).map((entry) => {
    if (!entry.ok) return [Object.values(entry.at)[0], entry.input, entry.why];
    const { labels, ...address } = entry.proxy;
    return Object.keys(labels).length === 0 ? proxyUrl(address) : [proxyUrl(address), labels];
  });

const json = (value: unknown) => told(JSON.stringify(value));

describe("the first line decides the format", () => {
  test.each([
    ["[]", true],
    ["[ {", true],
    ['["192.0.2.1:80"]', true],
    ['\uFEFF\n {\n "results": [', true],
    ['{"proxies":[]}\n', true],
    ['{"ip":"192.0.2.1","port":80}\n{"ip"', false],
    ["[2001:db8::1]:80", false],
    ["[fe80::1]:80", false],
    ["192.0.2.1:80", false],
    ["{{VAR}}", false],
    ["", false],
  ])("%j: a JSON document? %s", (beginning, is) => expect(isJsonDocument(beginning)).toBe(is));

  test("lines, with comments, blank lines and CRLF", () => {
    expect(
      told("\uFEFF# mine\r\n\r\n192.0.2.1:80,US,New York\r\nnonsense\r\nu:p@192.0.2.2:80 [2001:db8::1]:1"),
    ).toEqual([
      ["http://192.0.2.1:80", { country: "US", city: "New York" }],
      [4, "nonsense", "has no port (expected host:port)"],
      "http://u:p@192.0.2.2:80",
      "http://[2001:db8::1]:1",
    ]);
  });

  test("reads empty input as an empty list", () => {
    for (const list of ["", "\uFEFF", "\n\n", "# nothing yet", "[]", '{"results":[]}', "ip,port\n"]) {
      expect(entries(list)).toEqual([]);
    }
  });
});

describe("CSV", () => {
  test.each([
    [",", '"', "\n"],
    [";", "", "\r\n"],
    ["\t", '"', "\r"],
  ])("separated by %j, quoted by %j, ended by %j", (delimiter, quote, end) => {
    const rows = [
      ["IP Address", "Port", "User-Name", "PASS", "protocol", "Country", "country_code", "city", "exit_ip", "notes"],
      ["192.0.2.1", "80", "user", "p@s:s#1", "SOCKS5", "Germany", "de", "Bad Homburg", "2001:DB8:0::1", "fast"],
      ["192.0.2.2", "8080", "", "", "", "", "", "", "", ""],
      ["", "", "", "", "", "", "", "", "", ""],
    ];
    const list = rows.map((row) => row.map((cell) => quote + cell + quote).join(delimiter)).join(end);
    expect(told(`\uFEFF${list}`)).toEqual([
      ["socks5://user:p%40s%3As%231@192.0.2.1:80", { city: "Bad Homburg", country: "DE", exit: "2001:db8::1" }],
      "http://192.0.2.2:8080",
    ]);
  });

  test("quotes hold delimiters, quotes and line breaks; rows keep their line numbers", () => {
    const list = 'note,host,port,pass,user\n"a\nb",192.0.2.1,80,"p,""q",u\nx,192.0.2.2,0,,\n"",192.0.2.3,80,p"q,u\n';
    expect(told(list)).toEqual([
      "http://u:p%2C%22q@192.0.2.1:80",
      [4, "192.0.2.2:0", "has a port that is not a number from 1 to 65535"],
      "http://u:p%22q@192.0.2.3:80",
    ]);
  });

  test("a quote that never closes affects only its own row", () => {
    const rest = Array.from({ length: 40 }, (_, i) => `192.0.2.${i},80,`);
    const read = entries(`ip,port,note\n192.0.2.99,80,"open\n${rest.join("\n")}`);
    expect(read.filter(({ ok }) => ok)).toHaveLength(40);
    expect(read.filter(({ ok }) => !ok)).toEqual([
      { ok: false, at: { line: 2 }, input: "***", why: "has a quote that is not closed, or not escaped" },
    ]);
    expect(read.map(({ at }) => Object.values(at)[0])).toEqual(Array.from({ length: 41 }, (_, i) => i + 2));
  });

  test("rejects a row with more fields than the header, without shifting; reads one with fewer", () => {
    expect(told("ip,port,user,pass,country\n192.0.2.1,80,u,se,cret,US\n192.0.2.2,80\n192.0.2.3,80,,,US,,\n")).toEqual([
      [2, "***", "has 6 fields where the header has 5 (quote a field that holds a delimiter)"],
      "http://192.0.2.2:80",
      ["http://192.0.2.3:80", { country: "US" }],
    ]);
  });

  test("shows no password of a row with its columns in another order", () => {
    expect(JSON.stringify(told("ip,port,user,pass\nuser,secret,192.0.2.1,80\nsecret,user,1,2"))).not.toContain(
      "secret",
    );
  });

  test("allows comments before the header and between rows, except where a user name begins with #", () => {
    expect(told("# list\nip,port\n# more\n192.0.2.1,80")).toEqual(["http://192.0.2.1:80"]);
    expect(told("user,pass,ip,port\n#u,p,192.0.2.1,80")).toEqual(["http://%23u:p@192.0.2.1:80"]);
  });

  test("a column may hold whole entries", () => {
    expect(told("proxy,country\nsocks5://u:p@192.0.2.1:80,US\n192.0.2.2:80:u:p,")).toEqual([
      ["socks5://u:p@192.0.2.1:80", { country: "US" }],
      "http://u:p@192.0.2.2:80",
    ]);
  });

  test("does not take lines with commas for CSV", () => {
    expect(told("192.0.2.1:80,US\n192.0.2.2:80,192.0.2.3:80")).toHaveLength(3);
  });
});

describe("JSON", () => {
  test.each<[what: string, value: unknown, url: string, labels?: Record<string, string>]>([
    [
      "Webshare",
      {
        proxy_address: "192.0.2.1",
        port: 80,
        username: "u",
        password: "p",
        valid: true,
        country_code: "US",
        city_name: "Miami",
      },
      "http://u:p@192.0.2.1:80",
      { country: "US", city: "Miami" },
    ],
    [
      "Geonode",
      {
        _id: "6",
        ip: "192.0.2.1",
        anonymityLevel: "elite",
        asn: "AS1",
        city: "Rome",
        country: "IT",
        port: "80",
        protocols: ["socks4", "socks5"],
      },
      "socks5://192.0.2.1:80",
      { country: "IT", city: "Rome" },
    ],
    [
      "ProxyScrape",
      {
        alive: true,
        ip: "192.0.2.1",
        port: 80,
        protocol: "http",
        proxy: "http://192.0.2.1:80",
        ip_data: { country: "Brazil", countryCode: "BR", city: "São Paulo" },
      },
      "http://192.0.2.1:80",
      { country: "BR", city: "São Paulo" },
    ],
    [
      "proxifly",
      { proxy: "socks4://192.0.2.1:80", protocol: "socks4", geolocation: { country: "FR", city: "Unknown" } },
      "socks4://192.0.2.1:80",
      { country: "FR" },
    ],
    [
      "monosans",
      {
        protocol: "socks4",
        username: null,
        password: null,
        host: "192.0.2.1",
        port: 80,
        exit_ip: "192.0.2.9",
        geolocation: { city: { names: { en: "Moscow" } }, country: { iso_code: "RU", names: { en: "Russia" } } },
      },
      "socks4://192.0.2.1:80",
      { country: "RU", city: "Moscow", exit: "192.0.2.9" },
    ],
    ["proxy_pool", { proxy: "192.0.2.1:80", https: false, region: "" }, "http://192.0.2.1:80"],
    [
      "AdsPower",
      { type: "socks5", host: "192.0.2.1", port: "80", user: "u", password: "p", remark: "" },
      "socks5://u:p@192.0.2.1:80",
    ],
    ["Playwright", { server: "http://192.0.2.1:80", username: "u", password: "p" }, "http://u:p@192.0.2.1:80"],
    ["an address and the whole", { ip: "192.0.2.1", proxy: "https://192.0.2.1:443" }, "https://192.0.2.1:443"],
    ["a scheme in the host", { addr: "socks5://proxy.example.com/", port: 80 }, "socks5://proxy.example.com:80"],
    ["numbers as credentials", { host: "192.0.2.1", port: 80, user: 7, pass: 42 }, "http://7:42@192.0.2.1:80"],
    ["IPv6", { ip: "2001:DB8::0:1", port: 80 }, "http://[2001:db8::1]:80"],
    [
      "a list of protocols in a text",
      { ip: "192.0.2.1", port: 80, protocol: "SOCKS4, SOCKS5/HTTP" },
      "http://192.0.2.1:80",
    ],
    ["HTTPS beside SOCKS", { ip: "192.0.2.1", port: 80, protocols: ["https", "socks4"] }, "socks4://192.0.2.1:80"],
    ["a type that is not a protocol", { ip: "192.0.2.1", port: 80, type: "residential" }, "http://192.0.2.1:80"],
    ["an exit that says nothing", { ip: "192.0.2.1", port: 80, exit_ip: "n/a", country: "-" }, "http://192.0.2.1:80"],
    ["an exit by name", { ip: "192.0.2.1", port: 80, exit: "berlin-1" }, "http://192.0.2.1:80", { exit: "berlin-1" }],
    [
      "a country without code",
      { ip: "192.0.2.1", port: 80, country: "Norway" },
      "http://192.0.2.1:80",
      { country: "Norway" },
    ],
    [
      "an export",
      { url: "http://192.0.2.1:80", labels: { country: "us", tier: " a " } },
      "http://192.0.2.1:80",
      { country: "us", tier: " a " },
    ],
  ])("%s", (_, value, url, labels) => {
    expect(json([value])).toEqual([labels === undefined ? url : [url, labels]]);
    expect(told(`${JSON.stringify(value)}\n${JSON.stringify(value)}`)).toEqual([...json([value]), ...json([value])]);
  });

  test.each<[why: string, value: unknown, input?: string]>([
    [
      "has null as its address (for a residential plan, add its gateway with its credentials instead)",
      { proxy_address: null, port: 80, username: "u", password: "secret" },
    ],
    ["has no host (expected host, ip or proxy_address, and port)", {}],
    ["has no port (expected host:port)", { ip: "192.0.2.1" }, "192.0.2.1:"],
    ["has no port (expected host:port)", { ip: "192.0.2.1", url: "http://192.0.2.2:80" }, "192.0.2.1:"],
    ["has a port that is not a number from 1 to 65535", { ip: "192.0.2.1", port: 99999 }, "192.0.2.1:99999"],
    ["has a port that is neither a string nor a whole number", { ip: "192.0.2.1", port: 80.5 }],
    ["has a port that is neither a string nor a whole number", { ip: "192.0.2.1", port: [80] }],
    [
      "has a password that is neither a string nor a whole number",
      { ip: "192.0.2.1", port: 80, user: "u", pass: 2 ** 60 },
      "192.0.2.1:80",
    ],
    ["has a host that is not a string", { ip: { v4: "192.0.2.1" }, port: 80 }],
    [
      "has an unknown protocol in its field protocol (expected http, https, socks4, socks4a, socks5, socks5h)",
      { ip: "192.0.2.1", port: 80, protocol: "ss" },
      "192.0.2.1:80",
    ],
    ["has a password but no user name", { ip: "192.0.2.1", port: 80, password: "secret" }, "192.0.2.1:80"],
    ["has two different ports", { proxy: "http://192.0.2.1:80", port: 81 }, "http://192.0.2.1:80"],
    ["has more than one proxy in one field", { proxy: "192.0.2.1:80 192.0.2.2:80" }, "192.0.2.1:80"],
    [
      "is refused: labels.a b: a label's name has 1 to 64 letters, digits, _ . : -.",
      { ip: "192.0.2.1", port: 80, labels: { "a b": "" } },
      "192.0.2.1:80",
    ],
    [
      "is refused: limits.rates: is an unknown field.",
      { ip: "192.0.2.1", port: 80, limits: { rates: 1 } },
      "192.0.2.1:80",
    ],
    [
      "has characters that are not UTF-8 (save the list as UTF-8)",
      { ip: "192.0.2.1", port: 80, city: "K\uFFFDln" },
      "http://192.0.2.1:80",
    ],
    ["is empty (expected host:port)", " ", ""],
    ['is neither a string nor an object (expected "host:port" or {"host": …})', ["192.0.2.1", 80]],
    ['is neither a string nor an object (expected "host:port" or {"host": …})', null],
  ])("%s: %j", (why, value, input = "***") => {
    expect(json(["192.0.2.9:80", value])).toEqual(["http://192.0.2.9:80", [1, input, why]]);
  });

  test("accepts texts in any line form beside objects", () => {
    expect(json(["192.0.2.1:80:US", "socks://u:p@192.0.2.2:80", { ip: "192.0.2.3", port: 80 }])).toEqual([
      ["http://192.0.2.1:80", { country: "US" }],
      "socks5://u:p@192.0.2.2:80",
      "http://192.0.2.3:80",
    ]);
  });

  test.each(["results", "data", "proxies"])("a list under %s, even deeper", (name) => {
    expect(json({ count: 1, next: null, [name]: ["192.0.2.1:80"] })).toEqual(["http://192.0.2.1:80"]);
    expect(json({ data: { [name]: ["192.0.2.1:80"] } })).toEqual(["http://192.0.2.1:80"]);
  });

  test("limits come with the entry", () => {
    const limits = { rate: { limit: 5, windowMs: 1000 }, concurrency: null };
    expect(entries(JSON.stringify([{ url: "192.0.2.1:80", limits }]))).toMatchObject([{ ok: true, limits }]);
  });

  test("a broken document is one rejection that quotes nothing; broken JSON lines affect only themselves", () => {
    expect(told('[\n{"ip": "192.0.2.1",\n"password": "secret" "x"}]')).toEqual([
      [3, "***", "is not JSON from here on"],
    ]);
    expect(told('{"ip": "192.0.2.1"')).toEqual([[1, "***", "is not JSON from here on"]]);
    const lines = [
      '{"ip":"192.0.2.1","pass":"secret',
      '{"ip":"192.0.2.2","port":80}',
      "",
      '"192.0.2.3:80"',
      "192.0.2.4:80",
    ];
    expect(told(lines.join("\n"))).toEqual([
      [1, "***", "is not JSON"],
      "http://192.0.2.2:80",
      "http://192.0.2.3:80",
      [5, "***", "is not JSON"],
    ]);
    expect(told('{"a\\"b":1,"ip":"192.0.2.1","port":80}\n{"ip":"192.0.2.2","port":80}')).toEqual([
      "http://192.0.2.1:80",
      "http://192.0.2.2:80",
    ]);
  });

  test("survives deep nesting", () => {
    const deep = 200_000;
    expect(entries("[".repeat(deep) + "]".repeat(deep))).toHaveLength(1);
    expect(entries(`${'{"data":'.repeat(deep)}1${"}".repeat(deep)}`)).toMatchObject([{ ok: false }]);
  });

  test("reads a vendor's list, each entry with its country and exit", () => {
    const read = entries(vendorList(492));
    expect(read).toHaveLength(492);
    for (const entry of read) {
      expect(entry).toMatchObject({ ok: true, proxy: { labels: { country: expect.stringMatching(/^[A-Z]{2}$/) } } });
      expect(entry.ok && entry.proxy.labels["exit"]).toMatch(/^[\d.]+$/);
    }
  });
});

describe("for any list", () => {
  const password = "S3cr3t";
  const piece = fc.oneof(
    fc.constantFrom(
      ..."{}[]\",;:\t\n\r #'@\\",
      "\uFEFF",
      "\uFFFD",
      "\uD800",
      "null",
      "ip,port\n",
      "proxy;user\n",
      '{"ip":"192.0.2.1","port":80}',
    ),
    fc.constantFrom("192.0.2.1", ":80", "http://", "u:p@", "__proto__", '"results":', '"labels":{', '"port":1e999'),
    fc.string({ maxLength: 5, unit: "binary" }),
  );
  const anyText = fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join(""));
  const name = fc.constantFrom(
    "ip",
    "host",
    "proxy",
    "url",
    "port",
    "user",
    "pass",
    "type",
    "protocols",
    "country",
    "city",
    "geolocation",
    "labels",
    "limits",
    "exit_ip",
    "data",
    "__proto__",
  );
  const anyJson = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom(null, true, 80, 1e300, -0, "192.0.2.1", "192.0.2.1:80", "u:p@192.0.2.1:80", "US", "http"),
      fc.string({ unit: "binary" }),
      fc.array(tie("value"), { maxLength: 3 }),
      fc.dictionary(name, tie("value"), { maxKeys: 5 }),
    ),
  })).value;
  const anyList = fc.oneof(
    anyText,
    anyJson.map((value) => JSON.stringify(value)),
    fc.array(anyJson).map((values) => values.map((value) => JSON.stringify(value)).join("\n")),
  );

  test("never throws, and an accepted proxy reads the same from its URL", () => {
    fc.assert(
      fc.property(anyList, (list) => {
        for (const entry of entries(list)) {
          expect(entry.input).not.toMatch(/\p{Cc}/u);
          if (!entry.ok) expect(entry.why).not.toMatch(/\p{Cc}/u);
          if (!entry.ok) continue;
          const { labels, ...address } = entry.proxy;
          expect(entries(JSON.stringify([{ url: proxyUrl(address), labels }]))).toMatchObject([
            { ok: true, proxy: entry.proxy },
          ]);
        }
      }),
      { numRuns: 1000 },
    );
  });

  const address = fc.record({
    host: fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain()),
    port: fc.integer({ min: 1, max: 65_535 }),
    // Blanks alone are not a value: spreadsheets are full of them.
    username: fc.string({ minLength: 1, maxLength: 10 }).filter((text) => text.trim() !== ""),
    password: fc.string({ maxLength: 10 }).map((text) => (text.trim() === "" ? "" : text)),
    scheme: fc.constantFrom("http", "https", "socks4", "socks5", "socks5h"),
  });

  test("reads any proxy the same from CSV, quoted as RFC 4180 says, and from JSON", () => {
    fc.assert(
      fc.property(
        fc.array(address, { minLength: 1, maxLength: 5 }),
        fc.constantFrom(",", ";", "\t"),
        (proxies, delimiter) => {
          const expected = proxies
            .map((parts) => proxyFromParts(parts))
            .map((made) => (made.ok ? made.proxy : made.why));
          const names = Object.keys(proxies[0] ?? {}) as (keyof (typeof proxies)[0])[];
          const rows = proxies.map((proxy) => names.map((each) => `"${String(proxy[each]).replaceAll('"', '""')}"`));
          const read = (list: string): (ProxyAddress | string)[] =>
            entries(list).map((entry) => (entry.ok ? entry.proxy : entry.why));
          expect(read([names, ...rows].map((row) => row.join(delimiter)).join("\n"))).toEqual(expected);
          expect(read(JSON.stringify(proxies))).toEqual(expected);
        },
      ),
    );
  });

  test("never shows a password, whatever its column", () => {
    const cell = fc.constantFrom(
      password,
      "192.0.2.1",
      "80",
      "user",
      "",
      '"',
      `${password}"x`,
      `"${password}`,
      "proxy.example.com",
    );
    fc.assert(
      fc.property(fc.array(fc.array(cell, { minLength: 1, maxLength: 6 })), fc.boolean(), (rows, asJson) => {
        const header = ["ip", "port", "pass", "proxy"];
        const list = asJson
          ? rows.map((row) => JSON.stringify(Object.fromEntries(row.map((each, i) => [header[i] ?? "x", each]))))
          : [header, ...rows].map((row) => row.join(","));
        for (const entry of entries(list.join("\n"))) {
          if (!entry.ok) expect(entry.input + entry.why).not.toContain(password);
          else if (entry.proxy.password !== undefined) expect(entry.input).not.toContain(password);
        }
      }),
    );
  });

  test("gives the same result line by line as at once", () => {
    fc.assert(
      fc.property(anyText, (list) => {
        const isDocument = isJsonDocument(list);
        fc.pre(!isDocument);
        const reader = new ListReader();
        const lines = list.split(/\r\n|\n|\r/);
        expect([...lines.flatMap((line) => reader.read(line)), ...reader.end()]).toEqual(entries(list));
      }),
    );
  });
});

test("reads a long gap in the name of a protocol quickly", () => {
  const before = performance.now();
  json([{ ip: "192.0.2.1", port: 80, protocol: `socks${"-".repeat(120_000)}` }]);
  expect(performance.now() - before).toBeLessThan(5000);
});

test("takes a line with more columns than any table for no header", () => {
  const columns = Array.from({ length: 254 }, (_, i) => `c${i}`);
  expect(told(`ip,port,${columns.join(",")}\n192.0.2.1,80`)).toEqual(["http://192.0.2.1:80"]);
  expect(told(`ip,port,${columns.join(",")},more\n192.0.2.1:80`)).toEqual([expect.any(Array), "http://192.0.2.1:80"]);
});
