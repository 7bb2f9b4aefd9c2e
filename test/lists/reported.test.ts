// Small lists that other people reported, each by its name. The result is the URL of each proxy, or the reason.
import { expect, test } from "vitest";
import { proxyUrl } from "../../lists/address.ts";
import { readList } from "../../lists/list.ts";
import type { ListScheme } from "../../protocol/proxy.ts";

const results = (list: string, scheme?: ListScheme): string[] =>
  [...readList(list, { scheme })].map((entry) => (entry.ok ? proxyUrl(entry.proxy) : entry.why));

const separator =
  "has a separator in a text that may be its password (write scheme://user:password@host:port, percent-encoded: " +
  "%2C for a comma, %3B for a semicolon; or put each entry on a line of its own)";
const gateway = "core-residential.vendor.example:1000:user1:secretpw_country-US";

test.each<[name: string, list: string, expected: string[]]>([
  [
    "reversed-at.txt",
    `192.0.2.60:8080@alice:pw123
192.0.2.61:8080@alice:12345
192.0.2.62:8080@proxyuser:8812
http://192.0.2.63:8080@alice:40404
socks5://192.0.2.64:1080@alice:pw
gw.vendor.example:8080@alice:5150`,
    [
      "http://alice:pw123@192.0.2.60:8080",
      "http://alice:12345@192.0.2.61:8080",
      "http://proxyuser:8812@192.0.2.62:8080",
      "http://alice:40404@192.0.2.63:8080",
      "socks5://alice:pw@192.0.2.64:1080",
      "http://alice:5150@gw.vendor.example:8080",
    ],
  ],
  [
    "comma-in-password.txt",
    `${gateway},CA\n${gateway},GB,AU_session-abc\n${gateway},GB,AU\n${gateway}`,
    [separator, separator, separator, "http://user1:secretpw_country-US@core-residential.vendor.example:1000"],
  ],
  [
    "comma-escaped.txt, in the form that the message advises",
    "http://user1:secretpw_country-US%2CCA@core-residential.vendor.example:1000",
    ["http://user1:secretpw_country-US%2CCA@core-residential.vendor.example:1000"],
  ],
  ["pipes.txt", "192.0.2.72|8080|alice|hunter2", ["is not a proxy (expected host:port)"]],
  [
    "proto-field.json",
    `[{"proto":"socks4","ip":"192.0.2.10","country":"Germany","anonymity":"high","type":"elite","port":4145},
 {"proto":"socks5","ip":"192.0.2.11","country":"Germany","anonymity":"high","type":"anonymous","port":1080},
 {"proto":"http","ip":"192.0.2.12","country":"Germany","anonymity":"low","type":"transparent","port":8080}]`,
    ["socks4://192.0.2.10:4145", "socks5://192.0.2.11:1080", "http://192.0.2.12:8080"],
  ],
  [
    "items.json",
    `{"status":"success","data":{"items":[{"id":1,"ip":"192.0.2.140","port_http":50100,"port_socks":50101,
"login":"u","password":"p"}]}}`,
    ["http://u:p@192.0.2.140:50100"],
  ],
  [
    "backslash-quotes.csv",
    String.raw`ip,anonymityLevel,asn,country,isp,latency,org,port,protocols
"192.0.2.220","elite","AS64500","RU","JSC \"Example Holding\"","93","JSC local network","5678","socks4"
"192.0.2.221","elite","AS64500","RU","Example","93","Example","1080","socks5"`,
    ["socks4://192.0.2.220:5678", "socks5://192.0.2.221:1080"],
  ],
  [
    "proxychains.conf",
    `# proxychains.conf
strict_chain
proxy_dns
tcp_read_time_out 15000
[ProxyList]
socks5\t192.0.2.90\t1080\tlamer\tsecret
http\t192.0.2.91\t8080\tjustu\thidden
socks4 192.0.2.92 1080`,
    ["socks5://lamer:secret@192.0.2.90:1080", "http://justu:hidden@192.0.2.91:8080", "socks4://192.0.2.92:1080"],
  ],
])("reads %s", (_, list, expected) => {
  expect(results(list)).toEqual(expected);
});

test("reads socks5.txt with the scheme that the user gives it", () => {
  const list = "192.0.2.210:1080\n192.0.2.211:9050";
  expect(results(list, "socks5")).toEqual(["socks5://192.0.2.210:1080", "socks5://192.0.2.211:9050"]);
});

test("reads one-line.json, a vendor's answer of 560 entries without a line break", () => {
  const index = Array.from({ length: 560 }, (_, i) => i);
  const list = index.map((i) => ({
    proxy_address: `198.51.100.${(i % 250) + 1}`,
    port: 10_000 + i,
    username: `u${i}`,
    password: `p${i}`,
    country_code: "US",
  }));
  const expected = index.map((i) => `http://u${i}:p${i}@198.51.100.${(i % 250) + 1}:${10_000 + i}`);
  expect(results(JSON.stringify(list))).toEqual(expected);
});
