// The borders between folders (docs/design.md): which folder may import what, and what the pure core must not name.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";

interface Border {
  folders: string[];
  packages: RegExp;
}

const nothing = /^$/;
const anything = /./;

const core = ["events", "protocol", "lists", "state-machines"];
const services = [...core, "runtime", "transport", "client", "services"];

/** As docs/architecture.md draws them. A folder may import itself. */
const borders: Record<string, Border> = {
  events: { folders: [], packages: /^zod$/ },
  protocol: { folders: ["events"], packages: /^zod$/ },
  lists: { folders: ["events", "protocol"], packages: /^zod$/ },
  "state-machines": { folders: ["events", "protocol"], packages: /^(xstate|d3-random)$/ },
  runtime: { folders: [], packages: /^(node:|@nats-io\/|pino$)/ },
  transport: { folders: ["events", "protocol"], packages: anything },
  client: { folders: ["events", "protocol", "transport"], packages: anything },
  services: { folders: services, packages: anything },
  demo: { folders: ["client", "demo"], packages: anything },
  cli: { folders: [...services, "demo"], packages: anything },
  bench: { folders: services, packages: anything },
  test: { folders: [...services, "demo", "cli", "bench"], packages: anything },
};

/** The shell knows the envelope of a commit, and no event. */
const alsoAllowed: Record<string, string[]> = { runtime: ["events/commit.ts"] };

/** In the pure core: clocks, chance, and what differs between machines. */
const impure =
  /\b(Date|Math\.(random|sin|cos|tan|exp|log|log2|log10|pow|sqrt|cbrt)|process|Buffer|setTimeout|setInterval|crypto|performance)\b/;

/** Sentences about every breach; none: all is well. @param root of the project, with a trailing slash. */
export function borderBreaches(root: string): string[] {
  return Object.keys(borders).flatMap((folder) =>
    sourcesIn(join(root, folder)).flatMap((file) => breachesIn(readFileSync(file, "utf8"), relative(root, file))),
  );
}

/** @param file relative to the root. */
export function breachesIn(source: string, file: string): string[] {
  const [folder = ""] = file.split("/");
  const border = borders[folder] ?? { folders: [], packages: nothing };
  const breaches: string[] = [];
  for (const [, specifier = ""] of source.matchAll(/^(?:import|export)\b[^;]*?\bfrom\s+"([^"]+)"/gms)) {
    if (specifier.startsWith(".")) {
      const target = normalize(join(dirname(file), specifier));
      const [into = ""] = target.split("/");
      const sibling = folder === "services" && into === "services" && target.split("/")[1] !== file.split("/")[1];
      const allowed = into === folder || border.folders.includes(into) || (alsoAllowed[folder] ?? []).includes(target);
      if (!allowed || sibling) breaches.push(`${file}: must not import ${target}`);
    } else if (!border.packages.test(specifier)) breaches.push(`${file}: must not import the package ${specifier}`);
  }
  if (core.includes(folder)) {
    for (const [index, line] of source.split("\n").entries()) {
      const code = line.replace(/\/\/.*$|^\s*\*.*$|^\s*\/\*\*.*$/, "").replace(/"[^"]*"|`[^`]*`/g, '""');
      const found = impure.exec(code);
      if (found !== null) breaches.push(`${file}:${index + 1}: the pure core must not name ${found[0]}`);
    }
  }
  return breaches;
}

function sourcesIn(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join(folder, name));
  } catch {
    return []; // Not every folder is there yet.
  }
}
