// Reads the package sources of a Debian machine, in both of apt's formats (sources.list(5)), and picks the Debian
// archive among them. Pure: texts in, values out.

export type AptSource = {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** A keyring's path or fingerprint, or a whole key block (several indented lines). */
  readonly signedBy?: string | undefined;
  readonly trusted?: string | undefined;
};

/** The one-line format: `deb [signed-by=/a.gpg arch=amd64] http://host/debian bookworm main contrib`. */
export function parseListFile(text: string): AptSource[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (match === null) return [];
    const [, options = "", uri = "", suite = "", components = ""] = match;
    const optionOf = (key: string) =>
      words(options)
        .find((option) => option.toLowerCase().startsWith(`${key}=`))
        ?.slice(key.length + 1);
    const [signedBy, trusted] = [optionOf("signed-by"), optionOf("trusted")];
    return [{ uri, suites: [suite], components: words(components), signedBy, trusted }];
  });
}

/** The deb822 format: stanzas of `Key: value`, separated by empty lines. One stanza may name many URIs. */
export function parseSourcesFile(text: string): AptSource[] {
  const withoutComments = text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n");
  return withoutComments.split(/\n[ \t]*\n/).flatMap((stanza) => {
    const fields = readFields(stanza);
    if (!words(fields.get("types") ?? "").includes("deb") || /^(no|false|0)$/i.test(fields.get("enabled") ?? ""))
      return [];
    return words(fields.get("uris") ?? "").map((uri) => ({
      uri,
      suites: words(fields.get("suites") ?? ""),
      components: words(fields.get("components") ?? ""),
      signedBy: fields.get("signed-by"),
      trusted: fields.get("trusted"),
    }));
  });
}

/**
 * The Debian archive itself: the source that has this release's main component. Third parties also name their suites
 * after the release. If several sources match, three signs decide: Debian's keyring, the -updates suite, the path.
 */
export function findArchive(sources: readonly AptSource[], codename: string): AptSource | undefined {
  const candidates = sources.filter(
    (one) =>
      one.suites.some((suite) => [codename, "stable", "testing", "unstable", "sid"].includes(suite)) &&
      one.components.includes("main") &&
      !/^cdrom:|^file:|debian-security|security\.debian\.org/.test(one.uri),
  );
  const signs = (one: AptSource) =>
    [
      one.signedBy?.includes("debian-archive") ?? false,
      sources.some((other) => other.uri === one.uri && other.suites.includes(`${codename}-updates`)),
      /\/debian\/?$/.test(one.uri),
    ].filter(Boolean).length;
  return candidates.toSorted((a, b) => signs(b) - signs(a))[0];
}

/** The same archive with one other suite, as a deb822 stanza. It requests only the package index. */
export function stanzaFor(archive: AptSource, suite: string): string {
  return [
    "Types: deb",
    `URIs: ${archive.uri}`,
    `Suites: ${suite}`,
    "Components: main",
    "Targets: Packages",
    "Languages: none",
    ...(archive.signedBy === undefined ? [] : [`Signed-By: ${archive.signedBy}`]),
    ...(archive.trusted === undefined ? [] : [`Trusted: ${archive.trusted}`]),
    "",
  ].join("\n");
}

function readFields(stanza: string): Map<string, string> {
  const fields = new Map<string, string>();
  let key = "";
  for (const line of stanza.split("\n")) {
    const match = /^([A-Za-z][A-Za-z0-9-]*):\s*(.*)$/.exec(line);
    if (match !== null) {
      key = (match[1] ?? "").toLowerCase();
      fields.set(key, match[2] ?? "");
    } else if (/^[ \t]/.test(line)) {
      fields.set(key, `${fields.get(key) ?? ""}\n${line}`);
    }
  }
  return fields;
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== "");
}
