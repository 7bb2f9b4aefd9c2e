// The dashboard's files: those of web/, and the modules that they import from node_modules. They are read at the first
// request and kept in memory, a quarter of a megabyte. Every path is one of a fixed list. They show nothing by
// themselves, so they need no key: the page asks the API for everything.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Api } from "./request.ts";

const folder = fileURLToPath(new URL("../../web/", import.meta.url));

/** The modules of the page's import map: which file of which package; `by`: the package that depends on that one. */
const modules: Readonly<Record<string, [beside: string, file: string, by?: string]>> = {
  "preact.js": ["preact", "preact.mjs"],
  "hooks.js": ["preact/hooks", "hooks.mjs"],
  "htm.js": ["htm", "htm.mjs"],
  "htm-preact.js": ["htm/preact", "index.mjs"],
  "signals-core.js": ["@preact/signals-core", "signals-core.mjs", "@preact/signals"],
  "signals.js": ["@preact/signals", "signals.mjs"],
  "uplot.js": ["uplot", "uPlot.esm.js"],
  "uplot.css": ["uplot", "uPlot.min.css"],
};

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

interface PageFile {
  bytes: Buffer;
  etag: string;
  type: string;
}

export function pageRoutes(api: Api): void {
  let page: Page | undefined;
  const hidden = { schema: { hide: true } };
  for (const url of ["/", "/web/*"]) {
    api.get(url, hidden, async (request, reply) => {
      page ??= readPage();
      const name = url === "/" ? "index.html" : (request.params as { "*": string })["*"]; // As the path is written.
      const file = page.files.get(name);
      if (file === undefined) return reply.callNotFound();
      reply.headers({ ...page.headers, "content-type": file.type, etag: file.etag });
      if (request.headers["if-none-match"] === file.etag) return reply.code(304).send();
      return reply.send(file.bytes);
    });
  }
}

interface Page {
  files: ReadonlyMap<string, PageFile>;
  headers: Readonly<Record<string, string>>;
}

function readPage(): Page {
  const here = createRequire(import.meta.url);
  const files = new Map<string, PageFile>();
  for (const name of readdirSync(folder)) {
    if (extname(name) in types) files.set(name, fileAt(join(folder, name), name));
  }
  for (const [name, [beside, file, by]] of Object.entries(modules)) {
    const { resolve } = by === undefined ? here : createRequire(here.resolve(by));
    files.set(`modules/${name}`, fileAt(join(dirname(resolve(beside)), file), name));
  }
  const html = files.get("index.html")?.bytes.toString() ?? "";
  return { files, headers: headersFor(html) };
}

function fileAt(path: string, name: string): PageFile {
  const bytes = readFileSync(path);
  const etag = `"${createHash("sha256").update(bytes).digest("base64url").slice(0, 22)}"`;
  return { bytes, etag, type: types[extname(name)] ?? "application/octet-stream" };
}

/** No script runs but the files above, and the import map, which must be in the page itself. */
function headersFor(html: string): Record<string, string> {
  const [, map = ""] = /<script type="importmap">([\s\S]*?)<\/script>/.exec(html) ?? [];
  const hash = createHash("sha256").update(map).digest("base64");
  const policy = [
    "default-src 'none'",
    `script-src 'self' 'sha256-${hash}'`,
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return {
    "content-security-policy": policy.join("; "),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
  };
}
