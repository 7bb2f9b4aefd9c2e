// clients/classification.json: how outcomes are classified, for the tests of every client and of the service. It is
// generated from the default policy and from the table of docs/outcomes.md, so it says the same as they do.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defaultPolicy } from "../../events/policy.ts";
import { reasons } from "../../events/words.ts";
import { classify } from "../../state-machines/policy/classify.ts";

export const classificationFile = "clients/classification.json";

export const transports = ["forwarded", "CONNECT", "SOCKS", "TLS"] as const;
export type Transport = (typeof transports)[number];

/** A row of the table. `next`, its column "then": whether the request is tried again. */
export interface CaseRow {
  phase: string;
  what: string;
  transports: Transport[];
  class: string;
  next: "another" | "again" | "never";
}

export interface Classification {
  reasons: string[];
  status: Record<string, string>;
  statusOtherwise: string;
  error: Record<string, string>;
  errorOtherwise: string;
  cases: CaseRow[];
}

export function readClassification(root: string): Classification {
  return JSON.parse(readFileSync(join(root, classificationFile), "utf8")); // The check compares it with the code.
}

/** @param root of the project. */
export function classificationText(root: string): string {
  const { status, error } = defaultPolicy.classify;
  const parts: Record<string, unknown> = {
    about: "How outcomes are classified. Generated from events/policy.ts and docs/outcomes.md by `npm run docs`.",
    reasons,
    status,
    statusOtherwise: classify(defaultPolicy, { status: 999 }),
    error,
    errorOtherwise: classify(defaultPolicy, { error: "unknown" }),
  };
  const lines = Object.entries(parts).map(([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)},`);
  const cases = casesOf(readFileSync(join(root, "docs/outcomes.md"), "utf8")).map((each) => JSON.stringify(each));
  return `{\n${lines.join("\n")}\n  "cases": [\n    ${cases.join(",\n    ")}\n  ]\n}\n`;
}

function casesOf(page: string): CaseRow[] {
  const table = page.slice(page.indexOf("## The table"));
  return [...table.matchAll(/^\| ([a-z]+) \| (.+) \| (.+) \| `(.+)` \| ([a-z]+) \|$/gm)].map(
    ([, phase = "", what = "", over = "", ending = "", next = ""]) => ({
      phase,
      what,
      transports: over === "all" ? [...transports] : (over.split(", ") as Transport[]), // outcomes.test.ts tries each.
      class: ending,
      next: next as CaseRow["next"],
    }),
  );
}
