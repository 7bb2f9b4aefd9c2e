// Dockerfile, .dockerignore and docker-compose.yml as their tests read them: their contents, and the project's files
// that remain in the build context. No engine is needed.
import { cpSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { runCli } from "../kit/process.ts";

export const root = new URL("../..", import.meta.url).pathname;
export const read = (name: string): string => readFileSync(join(root, name), "utf8");

type Mount = string | { type: string; source: string; target: string };

export interface Service {
  image: string;
  command: string[];
  build?: string;
  user?: string;
  restart?: string;
  profiles?: string[];
  read_only?: boolean;
  cap_drop?: string[];
  stop_grace_period?: string;
  mem_limit?: string;
  pids_limit?: number;
  logging?: { driver: string; options: Record<string, string> };
  network_mode?: string;
  networks?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  volumes?: Mount[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test?: string[]; disable?: boolean; start_period?: string };
}

export interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  networks: Record<string, { internal?: boolean; driver_opts?: Record<string, string> } | null>;
}

/** With anchors merged, as an engine reads it. */
export function readCompose(): Compose {
  return parse(read("docker-compose.yml"), { merge: true }) as Compose; // The schema's test checks the type.
}

/** By mount point: the named volume, or the project's file. */
export function mountsOf({ volumes = [] }: Service): Map<string, string> {
  return new Map(
    volumes.map((mount) => {
      if (typeof mount !== "string") return [mount.target, mount.source];
      const [source = "", target = ""] = mount.split(":");
      return [target, source];
    }),
  );
}

export interface Instruction {
  word: string;
  rest: string;
  /** The number of its build stage, from 0. */
  stage: number;
}

export function readDockerfile(): Instruction[] {
  let stage = -1;
  const lines = read("Dockerfile")
    .replace(/^#.*\n/gm, "")
    .replaceAll(/\\\n\s*/g, "")
    .split("\n");
  return lines
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, word = "", rest = ""] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
      if (word === "FROM") stage += 1;
      return { word, rest, stage };
    });
}

/** The paths copied from the context: `{ from: ["events"], to: "events" }`. */
export function copiesIn(stage: number): { from: string[]; to: string }[] {
  return readDockerfile()
    .filter((each) => each.word === "COPY" && each.stage === stage && !each.rest.startsWith("--from"))
    .map(({ rest }) => {
      const words = rest.split(/\s+/);
      return { from: words.slice(0, -1), to: words.at(-1) ?? "" };
    });
}

/** Does .dockerignore keep it in the context? The last pattern that matches it, or one of its folders, decides. */
export function isInContext(path: string, ignore = read(".dockerignore")): boolean {
  let included = true;
  const parts = path.split("/");
  const prefixes = parts.map((_part, i) => parts.slice(0, i + 1).join("/"));
  for (const line of ignore.split("\n").filter((each) => each !== "" && !each.startsWith("#"))) {
    const wanted = line.startsWith("!");
    const pattern = line
      .replace(/^!/, "")
      .replaceAll(/[.+^$()|{}[\]]/g, "\\$&")
      .replaceAll("**/", "\u0000")
      .replaceAll("*", "[^/]*")
      .replaceAll("\u0000", "(.*/)?");
    if (prefixes.some((each) => new RegExp(`^${pattern}$`).test(each))) included = wanted;
  }
  return included;
}

/** Copies a path of the project as it is in the context. */
export function copyContext(from: string, to: string): void {
  const source = join(root, from);
  cpSync(source, to, {
    recursive: true,
    filter: (path) => lstatSync(path).isDirectory() || isInContext(path.slice(root.length)),
  });
}

/** Every file of the context. */
export function contextFiles(): string[] {
  const walk = (folder: string): string[] =>
    readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if ([".git", "node_modules", ".remuda"].includes(entry.name)) return []; // Another test checks their absence.
      return entry.isDirectory() ? walk(path) : isInContext(path) ? [path] : [];
    });
  return walk("");
}

/** The services that `remuda run` accepts. */
export async function servicesOfTheCommandLine(): Promise<string[]> {
  const { stderr } = await runCli(["run", "none-of-them"], { dataDir: "/nonexistent" });
  const [, listed = ""] = /Allowed choices are ([a-z, -]+)/.exec(stderr) ?? [];
  return listed.split(", ");
}
