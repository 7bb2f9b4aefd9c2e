import { expect, test } from "vitest";
import { findArchive, parseListFile, parseSourcesFile, stanzaFor } from "../../runtime/broker/apt-sources.ts";
import { compareVersions, parseVersion } from "../../runtime/broker/executable.ts";

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

test("reads the one-line format, with and without options", () => {
  const text = `# a comment
deb http://mirror.example/debian bookworm main contrib # and why
deb-src http://mirror.example/debian bookworm main
#deb http://old.example/debian bookworm main
  deb [arch=amd64 signed-by=${keyring}] https://mirror.example/debian bookworm-updates main
deb [ trusted=yes ] http://flat.example/ ./
`;
  expect(parseListFile(text)).toEqual([
    { uri: "http://mirror.example/debian", suites: ["bookworm"], components: ["main", "contrib"] },
    { uri: "https://mirror.example/debian", suites: ["bookworm-updates"], components: ["main"], signedBy: keyring },
    { uri: "http://flat.example/", suites: ["./"], components: [], trusted: "yes" },
  ]);
});

test("reads the deb822 format: stanzas, comments, many values, disabled and source stanzas", () => {
  const text = `Types: deb deb-src
# http://snapshot.example/
URIs: http://one.example/debian http://two.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: ${keyring}

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm
Components: main
`;
  const both = { suites: ["bookworm", "bookworm-updates"], components: ["main"], signedBy: keyring };
  expect(parseSourcesFile(text)).toEqual([
    { uri: "http://one.example/debian", ...both },
    { uri: "http://two.example/debian", ...both },
  ]);
});

test("keeps a key block within a stanza, line by line", () => {
  const block = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc=\n -----END PGP PUBLIC KEY BLOCK-----";
  const text = `Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:${block}\n`;
  const [source] = parseSourcesFile(text);
  expect(source?.signedBy).toBe(block);
  expect(stanzaFor(source!, "forky")).toContain(`Signed-By: ${block}\n`);
});

test("finds no sources in an empty file", () => {
  expect(parseListFile("")).toEqual([]);
  expect(parseSourcesFile("\n\n")).toEqual([]);
});

test("finds the Debian archive among security, third parties and disks", () => {
  const sources = parseListFile(`deb cdrom:[Debian_12]/ bookworm main
deb https://tools.example/apt bookworm main
deb http://security.debian.org/debian-security bookworm-security main
deb [signed-by=${keyring}] http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
deb https://containers.example/linux/debian bookworm stable
`);
  expect(findArchive(sources, "bookworm")?.uri).toBe("http://mirror.example/debian");
});

test("finds nothing on a machine without Debian's archive", () => {
  expect(findArchive(parseListFile("deb https://tools.example/apt nodistro main\n"), "bookworm")).toBeUndefined();
});

test("requests one suite's packages in the stanza and keeps the keyring", () => {
  const archive = {
    uri: "http://mirror.example/debian",
    suites: ["bookworm"],
    components: ["main"],
    signedBy: keyring,
  };
  expect(stanzaFor(archive, "forky")).toBe(`Types: deb
URIs: http://mirror.example/debian
Suites: forky
Components: main
Targets: Packages
Languages: none
Signed-By: ${keyring}
`);
});

test.each([
  ["nats-server: v2.15.1", [2, 15, 1]],
  ["nats-server: v2.9.10\n", [2, 9, 10]],
  ["nats-server: v2.16.0-RC.1", [2, 16, 0]],
  ["nats-server-2.12.6", [2, 12, 6]],
  ["nats-server: v2.15", undefined],
  ["1.2.3.4", undefined],
  ["", undefined],
])("reads the version in %j as %j", (text, version) => {
  expect(parseVersion(text)).toEqual(version);
});

test("compares versions by number and not by letter", () => {
  expect(compareVersions([2, 9, 10], [2, 12, 6])).toBeLessThan(0);
  expect(compareVersions([2, 12, 10], [2, 12, 6])).toBeGreaterThan(0);
  expect(compareVersions([2, 12, 6], [2, 12, 6])).toBe(0);
});
