import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { proxyFromParts, proxyUrl } from "../../lists/address.ts";
import { type LineEntry, maskInput, parseProxyLine } from "../../lists/line.ts";
import { canonicalHost, isLiteralAddress, type ProxyAddress } from "../../protocol/host.ts";

const plain = { scheme: "http", host: "192.0.2.1", port: 8080, labels: {} } as const;
const secret = { ...plain, username: "user", password: "pass" } as const;
const byName = { ...secret, host: "proxy.example.com" } as const;

function proxiesOf(line: string): ProxyAddress[] {
  return parseProxyLine(line).flatMap((entry) => (entry.ok ? [entry.proxy] : []));
}

function refusalsOf(line: string): Array<{ input: string; why: string }> {
  return parseProxyLine(line).flatMap((entry) => (entry.ok ? [] : [{ input: entry.input, why: entry.why }]));
}

describe("one entry on a line", () => {
  test.each<[line: string, proxy: ProxyAddress, input?: string]>([
    ["192.0.2.1:8080", plain],
    ["squid:3128", { ...plain, host: "squid", port: 3128 }],
    ["Proxy.Example.COM:8080", { ...plain, host: "proxy.example.com" }],
    ["  192.0.2.1:8080 \r\n", plain, "192.0.2.1:8080"],
    ["\uFEFF192.0.2.1:8080", plain, "192.0.2.1:8080"],
    ["192.0.2.1:8080 # the fast one, user:pass@192.0.2.9:1", plain, "192.0.2.1:8080"],

    ["192.0.2.1:8080:user:pass", secret, "192.0.2.1:8080:u…:***"],
    ["192.0.2.1:8080:user:pa:ss:", { ...secret, password: "pa:ss:" }, "192.0.2.1:8080:u…:***"],
    ["192.0.2.1:8080:user:p@ss#1", { ...secret, password: "p@ss#1" }, "192.0.2.1:8080:u…:***"],
    ["192.0.2.1:8080:user:me@example.com", { ...secret, password: "me@example.com" }, "192.0.2.1:8080:u…:***"],
    ["192.0.2.1:8080:user:p@ss:99", { ...secret, password: "p@ss:99" }, "192.0.2.1:8080:u…:***"],
    ["192.0.2.1:8080:user:pa%41ss", { ...secret, password: "pa%41ss" }, "192.0.2.1:8080:u…:***"],
    ["squid:3128:user:p@ss", { ...secret, host: "squid", port: 3128, password: "p@ss" }, "squid:3128:u…:***"],
    ["proxy.example.com:8080:user:1234", { ...byName, password: "1234" }, "proxy.example.com:8080:u…:***"],
    ["192.0.2.1:8080:user:pass:US", { ...secret, password: "pass:US" }, "192.0.2.1:8080:u…:***"],
    ["192.0.2.1:8080:user:", { ...plain, username: "user" }, "192.0.2.1:8080:u…:***"],
    ["192.0.2.1:8080::", plain, "192.0.2.1:8080::***"],
    ["socks5://192.0.2.1:8080:user:pass", { ...secret, scheme: "socks5" }, "socks5://192.0.2.1:8080:u…:***"],

    ["user:pass@192.0.2.1:8080", secret, "u…:***@192.0.2.1:8080"],
    ["user:p@s:s@192.0.2.1:8080", { ...secret, password: "p@s:s" }, "u…:***@192.0.2.1:8080"],
    ["user:pa#ss@192.0.2.1:8080", { ...secret, password: "pa#ss" }, "u…:***@192.0.2.1:8080"],
    ["user:p%40%3a%C3%A9@192.0.2.1:8080", { ...secret, password: "p@:é" }, "u…:***@192.0.2.1:8080"],
    ["us%3Aer:100%@192.0.2.1:8080", { ...secret, username: "us:er", password: "100%" }, "us…:***@192.0.2.1:8080"],
    ["user:%zz%ff%41@192.0.2.1:8080", { ...secret, password: "%zz%ffA" }, "u…:***@192.0.2.1:8080"],
    ["user@192.0.2.1:8080", { ...plain, username: "user" }, "u…@192.0.2.1:8080"],
    ["user:@192.0.2.1:8080", { ...plain, username: "user" }, "u…:***@192.0.2.1:8080"],

    ["user:pass:192.0.2.1:8080", secret, "u…:***:192.0.2.1:8080"],
    ["my_user:1234:192.0.2.1:8080", { ...secret, username: "my_user", password: "1234" }, "my_…:***:192.0.2.1:8080"],
    ["user:p:a:ss:192.0.2.1:8080", { ...secret, password: "p:a:ss" }, "u…:***:192.0.2.1:8080"],
    ["john.doe:pass:squid:3128", { ...secret, username: "john.doe", host: "squid", port: 3128 }, "joh…:***:squid:3128"],
    ["user:p@ss:192.0.2.1:8080", { ...secret, password: "p@ss" }, "u…:***:192.0.2.1:8080"],
    ["user:pass:[2001:db8::1]:8080", { ...secret, host: "2001:db8::1" }, "u…:***:[2001:db8::1]:8080"],

    ["http://192.0.2.1:8080", plain],
    ["HTTPS://192.0.2.1:8080/", { ...plain, scheme: "https" }],
    ["socks://192.0.2.1:8080", { ...plain, scheme: "socks5" }],
    ["socks4://192.0.2.1:8080", { ...plain, scheme: "socks4" }],
    ["socks4a://192.0.2.1:8080", { ...plain, scheme: "socks4a" }],
    ["Socks5://192.0.2.1:8080", { ...plain, scheme: "socks5" }],
    ["socks5h://192.0.2.1:8080", { ...plain, scheme: "socks5h" }],
    ["http://user:p@ss:1@192.0.2.1:8080/", { ...secret, password: "p@ss:1" }, "http://u…:***@192.0.2.1:8080/"],
    ["http://user:pa,ss;x@192.0.2.1:8080", { ...secret, password: "pa,ss;x" }, "http://u…:***@192.0.2.1:8080"],
    ["http://user:pa/ss?x@192.0.2.1:8080", { ...secret, password: "pa/ss?x" }, "http://u…:***@192.0.2.1:8080"],
    ["http://192.0.2.1:8080#priority=100", plain],
    ["http://u:p@192.0.2.1:8080/#a=1", { ...plain, username: "u", password: "p" }, "http://…:***@192.0.2.1:8080/#a=1"],

    ["[2001:DB8:0:0:0:0:0:1]:8080", { ...plain, host: "2001:db8::1" }],
    ["http://user:pass@[2001:db8::1]:8080", { ...secret, host: "2001:db8::1" }, "http://u…:***@[2001:db8::1]:8080"],
    ["[2001:db8::1]:8080:user:pass", { ...secret, host: "2001:db8::1" }, "[2001:db8::1]:8080:u…:***"],
    ["[::ffff:192.0.2.1]:8080", plain],

    ["192.0.2.1:8080:us", { ...plain, labels: { country: "US" } }],
    ["user:pass@192.0.2.1:8080:DE", { ...secret, labels: { country: "DE" } }, "u…:***@192.0.2.1:8080:DE"],
    ["[2001:db8::1]:8080:DE", { ...plain, host: "2001:db8::1", labels: { country: "DE" } }],
    ["192.0.2.1:8080,fr", { ...plain, labels: { country: "FR" } }],
    ["192.0.2.1:8080,US,New York", { ...plain, labels: { country: "US", city: "New York" } }],
    ["192.0.2.1:8080, BR; São Paulo", { ...plain, labels: { country: "BR", city: "São Paulo" } }],
    [
      "user:pass@192.0.2.1:8080,US,Berlin",
      { ...secret, labels: { country: "US", city: "Berlin" } },
      "u…:***@192.0.2.1:8080,US,Berlin",
    ],
  ])("%j", (line, proxy, input = line) => {
    expect(parseProxyLine(line)).toEqual([{ ok: true, input, proxy }]);
    expect(maskInput(line)).toBe(input);
  });

  test.each(["", " \t\r\n", "\uFEFF", "# 192.0.2.1:8080", "  # a comment", ",;,", "\uFEFF#x"])(
    "no entry on %j",
    (line) => {
      expect(parseProxyLine(line)).toEqual([]);
    },
  );
});

describe("several entries on a line", () => {
  const two = [plain, { ...plain, host: "192.0.2.2" }];

  test.each([", ", ",", " ", "\t", ";", " ; ", ",,", "\n"])("separated by %j", (separator) => {
    expect(proxiesOf(["192.0.2.1:8080", "192.0.2.2:8080"].join(separator))).toEqual(two);
  });

  test("decides by the text after the comma whether it is a label or an entry", () => {
    expect(proxiesOf("192.0.2.1:8080,US,192.0.2.2:8080")).toEqual([{ ...plain, labels: { country: "US" } }, two[1]]);
    expect(proxiesOf("192.0.2.1:8080,US,New York,192.0.2.2:8080,DE")).toEqual([
      { ...plain, labels: { country: "US", city: "New York" } },
      { ...two[1], labels: { country: "DE" } },
    ]);
    expect(proxiesOf("192.0.2.1:8080,US,Rome 192.0.2.2:8080")).toEqual([
      { ...plain, labels: { country: "US", city: "Rome" } },
      two[1],
    ]);
  });

  test("takes no word after white space for a country", () => {
    expect(proxiesOf("192.0.2.1:8080 to 192.0.2.2:8080")).toEqual(two);
    expect(refusalsOf("192.0.2.1:8080 to 192.0.2.2:8080")).toHaveLength(1);
  });

  test("of different forms", () => {
    expect(
      proxiesOf("user:pass@192.0.2.1:8080,192.0.2.1:8080 socks5://192.0.2.1:8080;192.0.2.1:8080:user:pass"),
    ).toEqual([secret, plain, { ...plain, scheme: "socks5" }, secret]);
  });

  test("a broken entry does not affect the others", () => {
    const line = "192.0.2.1:99999,user:pass@192.0.2.1:8080,user:pass@192.0.2.7,192.0.2.9,192.0.2.1:8080:user:pass";
    expect(proxiesOf(line)).toEqual([secret, secret]);
    expect(refusalsOf(line)).toEqual([
      { input: "192.0.2.1:99999", why: "has a port that is not a number from 1 to 65535" },
      { input: "***@192.0.2.7", why: "has no port (expected host:port)" },
      { input: "192.0.2.9", why: "has no port (expected host:port)" },
    ]);
  });
});

describe("a line that is refused", () => {
  const port = /^has a port that is not a number from 1 to 65535$/;
  const host = /^has a host that is neither an IP address nor a host name$/;
  const brackets = /^has an IPv6 address without brackets \(expected \[address\]:port\)$/;
  const nothing = /^is not a proxy \(expected host:port\)$/;
  const cut = /^has a separator in a text that may be its password/;

  test.each<[line: string, input: string, why: RegExp]>([
    ["192.0.2.1", "192.0.2.1", /^has no port \(expected host:port\)$/],
    ["http://proxy.example.com", "http://proxy.example.com", /^has no port \(expected host:port\)$/],
    ["192.0.2.1:", "192.0.2.1:", /^has no port \(expected host:port\)$/],
    ["user:pass@192.0.2.1", "***@192.0.2.1", /^has no port \(expected host:port\)$/],
    ["[2001:db8::1]", "[2001:db8::1]", /^has no port \(expected host:port\)$/],
    ["192.0.2.1:0", "192.0.2.1:0", port],
    ["192.0.2.1:65536", "192.0.2.1:65536", port],
    ["192.0.2.1:80a", "192.0.2.1:***", port],
    ["192.0.2.1:8080#note", "192.0.2.1:***", port],
    ["user:80:x:y@192.0.2.1:99999", "***", port],
    ["http://192.0.2.1:8080/path", "http://192.0.2.1:***", /^has a path after its port/],
    ["http://user:pass@192.0.2.1:8080?x", "http://***", /^has a path after its port/],
    ["ftp://192.0.2.1:21", "ftp://192.0.2.1:21", /^has an unknown scheme \(expected http, https, /],
    ["user://pass@192.0.2.1:21", "***@192.0.2.1:21", /^has an unknown scheme/],
    ["2001:db8::1:8080", "2001:db8::1:8080", brackets],
    ["2001:db8:0:0:0:0:0:1:8080", "2001:db8:0:0:0:0:0:1:8080", brackets],
    ["::1", "::1", brackets],
    ["user:pass@2001:db8::1:8080", "***", brackets],
    ["[2001:db8::1::]:8080", "***", nothing],
    ["[fe80::1%eth0]:8080", "***", nothing],
    ["1.2.3.4.5:80", "***", nothing],
    ["999.1.1.1:80", "***", nothing],
    ["192.0.02.1:80", "***", nothing],
    ["0x7f.1:80", "***", nothing],
    ["12:30", "***", nothing],
    ["-proxy.example.com:80", "***", nothing],
    ["under_score:80", "***", nothing],
    ["under_score:80:user:pass", "***", host],
    ["192.0.2.1:8080:user", "192.0.2.1:8080:***", /^has a third field that is not a country code/],
    ["user:pass@192.0.2.1:8080:secret", "***", /^has a third field that is not a country code/],
    ["192.0.2.1:8080::pass", "192.0.2.1:8080:***", /^has a password but no user name$/],
    [":pass@192.0.2.1:8080", "***@192.0.2.1:8080", /^has a password but no user name$/],
    ["user:pa%0Ass@192.0.2.1:8080", "***@192.0.2.1:8080", /^has white space or a control character in its password$/],
    ["us%20er:pass@192.0.2.1:8080", "***@192.0.2.1:8080", /^has white space or a control character in its user name$/],
    ["user:pa\u0001ss@192.0.2.1:8080", "***@192.0.2.1:8080", /in its password$/],
    ["user:\ud800x@192.0.2.1:8080", "***@192.0.2.1:8080", /in its password$/],
    ["user:1234:192.0.2.1:8080", "***", /^could be host:port:user:password or user:password:host:port/],
    ["user:1:pa:192.0.2.1:99999", "***", /^could be host:port:user:password or/],
    ["user:12:[2001:db8::1]:8080", "***", /^could be host:port:user:password or/],
    ["192.0.2.1:99999:user:ab:12", "***", port],
    ["proxy.example.com:99999:user:ab:12", "***", port],
    ["192.0.2.1:99999:user:p@ss:99", "***", port],
    ["hello:world:foo:bar", "***", /^has no valid port in place/],

    ["user:pa,ss@192.0.2.1:8080", "***@192.0.2.1:8080", cut],
    ["user:pa;s@s,s@192.0.2.1:8080", "***@192.0.2.1:8080", cut],
    ["user:pa ss@192.0.2.1:8080", "***@192.0.2.1:8080", cut],
    ["http://user:pa ss@192.0.2.1:8080", "http://***@192.0.2.1:8080", cut],
    ["user:1234,foo@192.0.2.1:8080", "***@192.0.2.1:8080", cut],
    ["192.0.2.1:2@host.example:80,host.example", "***", cut],
    ["http://user:1234,foo@192.0.2.1:8080", "http://***@192.0.2.1:8080", cut],
    ["john.doe:pa,ss@192.0.2.1:8080", "***@192.0.2.1:8080", cut],
    ["user:pa,s:s:192.0.2.1:8080", "***", cut],
    ["192.0.2.1:8080:user:pa,ssword", "192.0.2.1:8080:***", cut],
    ["192.0.2.1:8080:user:pa ss;word", "192.0.2.1:8080:***", cut],
    ["user:pass", "***", port],
    ["user:pa #ss@192.0.2.1:8080", "***", port],

    ["hello", "hello", /^has no port/],
    ["<html>", "***", nothing],
    ["🐎", "***", nothing],
    ["\u0000\u001b[31m\u202e", "***", nothing],
    ["<td>192.0.2.1</td> <td>8080</td>", "***", nothing],
    ["502 Bad Gateway", "***", nothing],
    ['"password":"secret"', "***", nothing],
  ])("%j", (line, input, why) => {
    const entries = parseProxyLine(line);
    expect(entries).toEqual([{ ok: false, input, why: expect.stringMatching(why) }]);
    expect(maskInput(line)).toBe(input);
  });

  test.each<[what: string, line: string, input: string, why: RegExp]>([
    ["a label of a host", `${"a".repeat(64)}:80`, "***", nothing],
    ["a host", `${"a.".repeat(127)}a:80`, "***", nothing],
    [
      "a password",
      `user:${"x".repeat(256)}@192.0.2.1:8080`,
      "***@192.0.2.1:8080",
      /^has a password longer than 255 bytes$/,
    ],
    [
      "a password, in bytes",
      `user:${"é".repeat(128)}@192.0.2.1:8080`,
      "***@192.0.2.1:8080",
      /^has a password longer than 255 bytes$/,
    ],
    [
      "a user name",
      `${"x".repeat(256)}@192.0.2.1:8080`,
      "***@192.0.2.1:8080",
      /^has a user name longer than 255 bytes$/,
    ],
    [
      "a city",
      `192.0.2.1:8080,US,${"x".repeat(257)}`,
      `192.0.2.1:8080,US,${"x".repeat(257)}`.slice(0, 199).concat("…"),
      /^has a label longer/,
    ],
    ["the line", `192.0.2.1:8080 ${" ".repeat(4096)}`, "***", /^is longer than 4096 characters$/],
    ["a word", "x".repeat(300), `${"x".repeat(199)}…`, nothing],
  ])("for its length: %s", (_, line, input, why) => {
    expect(parseProxyLine(line)).toEqual([{ ok: false, input, why: expect.stringMatching(why) }]);
  });

  test.each([
    '{"host":"192.0.2.1","port":8080,"password":"secret"}',
    '{ "host": "192.0.2.1", "port": 8080, "password": "secret" }',
    '<a href="http://192.0.2.1:8080/" class=x>secret</a>',
    "<style>body{margin:0} p{z-index:10; line-height:2; secret}</style>",
    "192.0.2.1,8080,user,secret",
    "192.0.2.1;8080;user;secret",
    "192.0.2.1|8080|user|secret",
    "192.0.2.1-8080-user-secret1",
    "192.0.2.1/8080/user/secret",
    "192.0.2.1:8080|user|secret",
    "192.0.2.1:8080 user secret",
    "192.0.2.1:8080,user,secret",
    "user,secret,192.0.2.1,8080",
    "user secret@192.0.2.1:8080",
  ])("neither stores garbage nor shows its words: %s", (line) => {
    const entries = parseProxyLine(line);
    expect(entries).not.toEqual([]);
    expect(entries.filter((entry) => entry.ok)).toEqual([]);
    expect(JSON.stringify(entries)).not.toContain("secret");
  });
});

describe("parts", () => {
  test("are checked and made canonical", () => {
    expect(
      proxyFromParts({
        scheme: "SOCKS",
        host: "[2001:DB8::0:1]",
        port: "01080",
        username: "user",
        password: null,
        labels: { country: "us", city: " Rome ", asn: "" },
      }),
    ).toEqual({
      ok: true,
      proxy: {
        scheme: "socks5",
        host: "2001:db8::1",
        port: 1080,
        username: "user",
        labels: { city: "Rome", country: "US" },
      },
    });
    expect(proxyFromParts({ host: "192.0.2.1", port: 8080 })).toEqual({ ok: true, proxy: plain });
  });

  test.each([
    [{ host: "", port: 80 }, "has no host (expected host:port)"],
    [{ host: "192.0.2.1", port: null }, "has no port (expected host:port)"],
    [{ host: "192.0.2.1", port: 80.5 }, "has a port that is not a number from 1 to 65535"],
    [{ host: "192.0.2.1", port: "8e1" }, "has a port that is not a number from 1 to 65535"],
    [{ host: "a b", port: 80 }, "has a host that is neither an IP address nor a host name"],
    [{ host: "192.0.2.1", port: 80, password: "p" }, "has a password but no user name"],
    [{ host: "192.0.2.1", port: 80, labels: { city: "x".repeat(257) } }, "has a label longer than 256 characters"],
    [{ host: "192.0.2.1", port: 80, labels: { city: "a\nb" } }, "has a control character in a label"],
  ])("rejects %j", (parts, why) => {
    expect(proxyFromParts(parts)).toEqual({ ok: false, why });
  });

  test("labels may have any name", () => {
    const labels = JSON.parse('{"__proto__": "x", "b": "1", "a": "2"}') as Record<string, string>;
    const made = proxyFromParts({ host: "192.0.2.1", port: 80, labels });
    expect(JSON.stringify(made.ok && made.proxy.labels)).toBe('{"__proto__":"x","a":"2","b":"1"}');
  });
});

describe("hosts", () => {
  // RFC 5952, sections 4 and 5, with addresses of the documentation block.
  test.each([
    ["2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:db8::0:1:1:1:1:1", undefined],
    ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["::1", "::1"],
    ["2001:DB8::", "2001:db8::"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["::ffff:c000:201", "192.0.2.1"],
    ["::192.0.2.1.", undefined],
    ["1:2:3:4:5:6:7", undefined],
    ["1:2:3:4:5:6:7:8:9", undefined],
    ["12345::", undefined],
    [":::", undefined],
    ["1::2::3", undefined],
    [":1:2:3:4:5:6:7", undefined],
  ])("%s", (text, canonical) => {
    expect(canonicalHost(`[${text}]`)).toBe(canonical);
    expect(canonicalHost(text)).toBe(canonical);
  });

  test("only an address is its own exit", () => {
    expect(["192.0.2.1", "2001:db8::1", "::"].filter(isLiteralAddress)).toHaveLength(3);
    expect(["localhost", "proxy.example.com", "1.2.3", "256.1.1.1", ""].filter(isLiteralAddress)).toEqual([]);
  });
});

describe("a whole list", () => {
  const list = `\uFEFF# bought in May\r
http://192.0.2.10:7080\r
socks4://192.0.2.11:1080\r
socks5://user:p%40ss@192.0.2.12:1080\r
\r
192.0.2.13:3128:user:pass\r
user:pass@gate.example.com:22225 # sticky\r
user-country-us-session-1:pass:gate.example.com:7777\r
192.0.2.14:80:SE\r
192.0.2.15:80,NL,The Hague\r
[2001:db8::15]:8080\r
192.0.2.16:80, 192.0.2.17:80 192.0.2.18:80\r
192.0.2.19\r
`;

  test("gives its proxies and its rejections, in order", () => {
    const entries = list.split("\n").flatMap((line, index) => parseProxyLine(line).map((entry) => ({ index, entry })));
    expect(entries.map(({ index, entry }) => `${index + 1} ${entry.ok ? proxyUrl(entry.proxy) : entry.why}`)).toEqual([
      "2 http://192.0.2.10:7080",
      "3 socks4://192.0.2.11:1080",
      "4 socks5://user:p%40ss@192.0.2.12:1080",
      "6 http://user:pass@192.0.2.13:3128",
      "7 http://user:pass@gate.example.com:22225",
      "8 http://user-country-us-session-1:pass@gate.example.com:7777",
      "9 http://192.0.2.14:80",
      "10 http://192.0.2.15:80",
      "11 http://[2001:db8::15]:8080",
      "12 http://192.0.2.16:80",
      "12 http://192.0.2.17:80",
      "12 http://192.0.2.18:80",
      "13 has no port (expected host:port)",
    ]);
  });
});

describe("for any text", () => {
  const fragment = fc.constantFrom(
    ..."http:// socks5:// @ : :: , ; # / [ ] . % %40 user pass US 80 8080 99999 192.0.2.1 [2001:db8::1] host.example.com a".split(
      " ",
    ),
    " ",
    "\t",
  );
  const lineish = fc.oneof(
    fc.string({ unit: "binary", maxLength: 80 }),
    fc.string({ unit: "grapheme", maxLength: 80 }),
    fc.array(fc.oneof(fragment, fc.string({ maxLength: 3 })), { maxLength: 16 }).map((parts) => parts.join("")),
  );
  const host = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc.domain(),
    fc.constantFrom("squid", "localhost", "proxy.example.com", "192.0.2.1", "2001:db8::1"),
  );
  const credential = fc.string({
    unit: fc.oneof(fc.constantFrom(...":@,;#%/[]*."), fc.string({ minLength: 1, maxLength: 1 })),
    minLength: 1,
    maxLength: 40,
  });
  const address = fc
    .record({
      scheme: fc.constantFrom("http", "https", "socks", "socks4", "socks4a", "socks5", "SOCKS5H"),
      host,
      port: fc.integer({ min: 1, max: 65_535 }),
      username: fc.option(credential),
      password: fc.option(credential),
    })
    .map((parts) => proxyFromParts(parts))
    .filter((made) => made.ok)
    .map((made) => made.proxy);

  test("never throws, and a parsed entry is the same again from its URL", () => {
    fc.assert(
      fc.property(lineish, (line) => {
        for (const entry of parseProxyLine(line)) if (entry.ok) expectRoundTrip(entry);
        maskInput(line);
      }),
      { numRuns: 2000 },
    );
  });

  test("reads an address back from its URL, and masks it as its own text", () => {
    fc.assert(
      fc.property(address, (proxy) => {
        const [entry, ...more] = parseProxyLine(proxyUrl(proxy));
        expect(more).toEqual([]);
        expect(entry).toMatchObject({ ok: true, proxy });
      }),
      { numRuns: 2000 },
    );
  });

  test("reads a joined list of URLs as the list of its entries", () => {
    fc.assert(
      fc.property(
        fc.array(address, { maxLength: 8 }),
        fc.constantFrom(",", ", ", " ", "\t", ";", "\n"),
        (proxies, separator) => {
          expect(parseProxyLine(proxies.map(proxyUrl).join(separator))).toEqual(
            proxies.flatMap((proxy) => parseProxyLine(proxyUrl(proxy))),
          );
        },
      ),
      { numRuns: 1000 },
    );
  });

  // The letters occur neither in the other parts of the lines nor in our sentences.
  const forms: Array<(password: string) => string> = [
    (password) => `user:${password}@192.0.2.1:8080`,
    (password) => `user:${password}@squid:8080`,
    (password) => `user:${password}@192.0.2.1`,
    (password) => `user:${password}@192.0.2.1:99999`,
    (password) => `john.doe:${password}@proxy.example.com:8080`,
    (password) => `socks5://user:${password}@192.0.2.1:8080`,
    (password) => `socks9://user:${password}@192.0.2.1:8080/`,
    (password) => `http://user:${password}@192.0.2.1:8080/path`,
    (password) => `192.0.2.1:8080:user:${password}`,
    (password) => `192.0.2.1:99999:user:${password}`,
    (password) => `proxy.example.com:8080:user:${password}`,
    (password) => `user:${password}:192.0.2.1:8080`,
    (password) => `user:${password}:192.0.2.1:99999`,
    (password) => `:${password}@192.0.2.1:8080`,
  ];
  // Without an address "user:1,AA" is a valid entry, so this test uses passwords that are not ports.
  const unfinished = (password: string) => `user:${password}`;
  const before = fc.constantFrom("", "192.0.2.7:80,", "u:p@192.0.2.7:80 ");

  test("never shows a password of any characters", () => {
    // Without the characters that the line has elsewhere, and without those of the mask or of an address.
    const password = fc.string({ minLength: 4, maxLength: 24 }).filter((text) => !/[\s*]|^[:.@/\d]*$/.test(text));
    fc.assert(
      fc.property(before, fc.constantFrom(...forms), password, (before, form, text) => {
        fc.pre(!(before + form("")).includes(text));
        const shown = parseProxyLine(before + form(text)).map((entry) => entry.input);
        expect(shown.filter((each) => each.includes(text))).toEqual([]);
        // A sentence may share a word with a password ("name"), but no sentence has a tilde, and none quotes a
        // password.
        const whys = refusalsOf(before + form(`~${text}`)).map(({ why }) => why);
        expect(whys.filter((why) => why.includes("~"))).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });

  test("shows no piece of a password that a separator cuts, and makes no user name of it", () => {
    const piece = fc
      .string({ unit: fc.constantFrom(..."ZQXJ%#!$"), minLength: 3, maxLength: 8 })
      .map((text) => `Z${text}`);
    const password = fc.tuple(
      piece,
      fc.array(fc.tuple(fc.constantFrom(",", ";", ":", "@", " ", ", "), piece), { maxLength: 4 }),
    );
    fc.assert(
      fc.property(before, fc.constantFrom(...forms, unfinished), password, (before, form, [first, rest]) => {
        const text = first + rest.flat().join("");
        const pieces = [first, ...rest.map(([, each]) => each)];
        for (const entry of parseProxyLine(before + form(text))) {
          const shown = JSON.stringify(entry.ok ? [entry.input, { ...entry.proxy, password: "" }] : entry);
          expect(pieces.filter((each) => shown.includes(each))).toEqual([]);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

function expectRoundTrip(entry: LineEntry & { ok: true }): void {
  const { labels: _, ...address } = entry.proxy;
  expect(parseProxyLine(proxyUrl(address)).map((again) => again.ok && again.proxy)).toEqual([
    { ...address, labels: {} },
  ]);
}
