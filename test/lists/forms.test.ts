// Every form of a line, with credentials of any characters: each is read back as written, or rejected. No piece of a
// password appears anywhere but in the password.
import fc from "fast-check";
import { expect, test } from "vitest";
import { formats } from "../../cli/export.ts";
import { exported, exportedLine, type Format, ListWriter } from "../../cli/list-writer.ts";
import { maskedName, maskedUrl, proxyFromParts, proxyUrl } from "../../lists/address.ts";
import { readList } from "../../lists/list.ts";
import { isCertainlyHost, type ProxyAddress } from "../../protocol/host.ts";

interface Parts {
  host: string;
  port: number;
  username: string;
  password: string;
}

const bracketed = (host: string): string => (host.includes(":") ? `[${host}]` : host);
const forms: Record<string, (parts: Parts) => string> = {
  "host:port:user:pass": ({ host, port, username, password }) => `${bracketed(host)}:${port}:${username}:${password}`,
  "user:pass@host:port": ({ host, port, username, password }) => `${username}:${password}@${bracketed(host)}:${port}`,
  "user:pass:host:port": ({ host, port, username, password }) => `${username}:${password}:${bracketed(host)}:${port}`,
  "host:port@user:pass": ({ host, port, username, password }) => `${bracketed(host)}:${port}@${username}:${password}`,
  "scheme://user:pass@host:port": (parts) => `http://${forms["user:pass@host:port"]?.(parts)}`,
  "scheme://host:port@user:pass": (parts) => `http://${forms["host:port@user:pass"]?.(parts)}`,
  "scheme://host:port:user:pass": (parts) => `http://${forms["host:port:user:pass"]?.(parts)}`,
  "http host port user pass": ({ host, port, username, password }) => `http\t${host} ${port} ${username}\t${password}`,
  "host port user pass": ({ host, port, username, password }) => `${host} ${port}\t${username} ${password}`,
};

const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain(), fc.constantFrom("squid", "localhost", "gw.vendor.example"));
const word = fc.constantFrom("alice", "US", "80", "8080", "192.0.2.9", "1.2.3.4:80", "a.example", "socks5", "ZQ", "~x");
const joint = fc.constantFrom("", ",", ";", ":", "@", " ", "\t", "|", "#", "%", "/", "-", "%2C", ",,", ", ", '"', "\\");
const text = (max: number): fc.Arbitrary<string> =>
  fc
    .array(fc.tuple(joint, fc.oneof(word, fc.string({ maxLength: 4 }))), { minLength: 1, maxLength: max })
    .map((each) => each.flat().join(""));

const parts = fc.record({
  host,
  port: fc.integer({ min: 1, max: 65_535 }),
  // A user name is never an address. If the user name comes first, it begins the line, so it must not begin with a
  // comment, a scheme or a separator.
  username: fc.oneof(word, fc.stringMatching(/^[a-z][a-z0-9_-]{2,9}$/)).filter((each) => !/[:]|^\d+\./.test(each)),
  // White space at the end belongs to the line. A separator next to address:port makes entries that look like a
  // password.
  password: text(4).filter(
    (each) => each === each.trim() && !/^\/\/|\s#/.test(each) && !(/[,;\s]/.test(each) && /:(\d|\/\/)/.test(each)),
  ),
});

/** The meaning of a `%` in the forms with @. */
function decoded(form: string, { username, password, ...address }: Parts): Parts {
  if (!form.includes("@")) return { ...address, username, password };
  return { ...address, username: plain(username), password: plain(password) };
}

/** With each character decoded whose one to four escapes are valid. Any other % stays. */
function plain(text: string): string {
  const at = text.search(/%[0-9a-f]{2}/i);
  if (at === -1) return text;
  for (const end of [at + 3, at + 6, at + 9, at + 12])
    try {
      return text.slice(0, at) + decodeURIComponent(text.slice(at, end)) + plain(text.slice(end));
    } catch {} // Not a character, or not a whole one.
  return text.slice(0, at + 1) + plain(text.slice(at + 1));
}

test.each(Object.entries(forms))("reads %s back as written, or rejects it", (form, line) => {
  fc.assert(
    fc.property(parts, (given) => {
      // By the definition of this form: an address before the @, and none after it.
      const isBehind = isCertainlyHost(given.username) && /^\d+$/.test(given.password);
      fc.pre(form !== "user:pass:host:port" || !/^\d+(:|$)/.test(given.password));
      fc.pre(!form.includes("port@") || (isCertainlyHost(given.host) && !isBehind));
      const made = proxyFromParts(decoded(form, given));
      const read = [...readList(line(given))];
      const proxies = read.flatMap((entry) => (entry.ok ? [entry.proxy] : []));
      if (proxies.length > 0)
        expect(proxies.map((each) => [proxyUrl(each), each.labels])).toEqual([
          [proxyUrl(made.ok ? made.proxy : never()), {}],
        ]);
    }),
    { numRuns: 1000 },
  );
});

test("reads a proxy of any credentials back from every format of the export", () => {
  const any = fc.record({
    ...{ host, port: fc.integer({ min: 1, max: 65_535 }) },
    username: fc.oneof(word, text(3)),
    password: text(4),
  });
  const proxy = fc
    .tuple(any, fc.constantFrom("http", "https", "socks4", "socks5h"))
    .map(([each, scheme]) => proxyFromParts({ ...each, scheme }))
    .filter((made) => made.ok)
    .map((made) => made.proxy);
  fc.assert(
    fc.property(fc.array(proxy, { minLength: 1, maxLength: 4 }), fc.constantFrom(...formats), (proxies, format) => {
      expect(addressesIn(written(proxies, format))).toEqual(proxies.map(({ labels: _, ...address }) => address));
    }),
    { numRuns: 500 },
  );
});

test("shows no piece of a password in a label, a message, or the masked input", () => {
  // Neither our sentences nor the other parts of a line have these letters.
  const piece = fc.stringMatching(/^Z[QXJ%]{2,6}$/);
  const password = fc.tuple(piece, fc.array(fc.tuple(joint, piece), { maxLength: 3 }));
  fc.assert(
    fc.property(fc.constantFrom(...Object.entries(forms)), parts, password, ([, line], given, [first, rest]) => {
      const pieces = [first, ...rest.map(([, each]) => each)];
      for (const entry of readList(line({ ...given, password: first + rest.flat().join("") }))) {
        const seen = JSON.stringify(entry.ok ? { ...entry, proxy: { ...entry.proxy, password: "" } } : entry);
        expect(pieces.filter((each) => seen.includes(each))).toEqual([]);
      }
    }),
    { numRuns: 2000 },
  );
});

test.each([
  ["ZYTE0123456789", "ZYT…"],
  ["abcdefg", "abc…"],
  ["abcdef", "ab…"],
  ["user", "u…"],
  ["ann", "…"],
  ["é🐎ü🐎é🐎ü", "é🐎ü…"],
])("shows of the user name %s no more than %s", (username, shown) => {
  expect(maskedName(username)).toBe(shown);
  // Readable in a list, not percent-encoded.
  const masked = { scheme: "http", host: "192.0.2.1", port: 80, username: maskedName(username) } as const;
  expect(maskedUrl(masked)).toBe(`http://${shown}@192.0.2.1:80`);
});

test("shows no user name in a message or the masked input", () => {
  const apiKey = fc.stringMatching(/^ZQ[A-Z0-9]{6,12}[0-9]$/);
  fc.assert(
    fc.property(fc.constantFrom(...Object.entries(forms)), parts, apiKey, ([, line], given, username) => {
      for (const entry of readList(line({ ...given, username }))) {
        // "squid:1@ZQA000000:8080" has the user name squid and the host ZQA000000, as every URL.
        if (entry.ok && entry.proxy.host.toUpperCase() === username) continue;
        expect(`${entry.input} ${entry.ok ? "" : entry.why}`).not.toContain(username.slice(0, 4));
      }
    }),
    { numRuns: 2000 },
  );
});

function written(proxies: readonly ProxyAddress[], format: Format): string {
  const writer = new ListWriter(format);
  const entries = proxies.map(({ labels, ...address }) => exported({ url: proxyUrl(address), labels }));
  for (const each of entries) expect(exportedLine(each).isWhole).toBe(true);
  return entries.map((each) => writer.entry(each)).join("") + writer.end();
}

function addressesIn(list: string): object[] {
  return [...readList(list)].map((entry) => {
    if (!entry.ok) return entry;
    const { labels: _, ...address } = entry.proxy;
    return address;
  });
}

function never(): never {
  throw new Error("what cannot be a proxy was read as one");
}
