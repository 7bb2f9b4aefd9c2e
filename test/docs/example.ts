// Runs the examples on the pages of the rules. An example is a table of `at`, `step`, `answer` and a remark. Before it,
// under the same heading, a block `json policy` may set the policy; rules that it does not name are off. Time is
// virtual and begins with the pool. Each step is a command:
//
//   add p1 p2 exit=gate limits={…}    lease A uses=3 session=s    report A n=1 status=200    release A used=0
//   renew A    retire p1    rest p1 forMs=1000    revive p1    show p1    policy {…}    – (time passes)
//
// An answer has code in it: a word (the leased proxy, the code of a refusal, a state), `field=value` of the reply, an
// event (`RestBegan.cooling p1 until 5 s`, `no RestBegan`), or a waiting request that was served (`B gets p1`). The
// page must list every rest, retirement and served request at its very instant. It cannot omit one.
import type { Event } from "../../events/event.ts";
import type { Limits } from "../../events/policy.ts";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import { WaitingPool } from "../kit/waiting-pool.ts";
import { sectionsOf } from "./markdown.ts";

export interface Example {
  heading: string;
  policy: Record<string, unknown>;
  rows: Row[];
}

interface Row {
  line: number;
  at: string;
  step: string;
  answer: string;
}

const off = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
/** The fields that these steps accept. A request ignores unknown fields, but a page must not have any. */
const fieldsOf: Record<string, string[]> = {
  lease: Object.keys(leaseRequestSchema.shape),
  report: Object.keys(outcomeSchema.shape),
  release: ["used"],
  renew: ["ttlMs"],
  rest: ["forMs"],
};
const toldAlways = ["RestBegan", "RestEnded", "ProxyRetired"];

export function examplesOf(text: string): Example[] {
  return sectionsOf(text).flatMap(({ heading, lines }) => {
    const examples: Example[] = [];
    let policy = "{}";
    for (const [i, { text: line, number }] of lines.entries()) {
      if (line === "```json policy") {
        const end = lines.findIndex((each, j) => j > i && each.text === "```");
        policy = lines
          .slice(i + 1, end)
          .map((each) => each.text)
          .join("\n");
      }
      if (line.startsWith("| at | step | answer |")) {
        examples.push({ heading, policy: { ...off, ...(JSON.parse(policy) as object) }, rows: [] });
      } else if (line.startsWith("|") && !line.startsWith("|-")) {
        const [, at = "", step = "", answer = ""] = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
        // The first column of other tables is not a time.
        if (spanOf(at) !== undefined) examples.at(-1)?.rows.push({ line: number, at, step, answer });
      }
    }
    return examples;
  });
}

/** Sentences about answers that differ; empty if the page is true. */
export function run(example: Example): string[] {
  const stage = new Stage(example.policy);
  return example.rows.flatMap((row) => stage.play(row).map((wrong) => `line ${row.line}: ${wrong}`));
}

/** The result of a step: a word, and the reply with all its fields. */
interface Answer {
  word: string;
  reply: object;
}

class Observed extends WaitingPool {
  readonly seen?: { at: number; event: Event }[] = []; // Absent while the pool is being opened.

  override turn<T>(decide: (turn: Turn) => T): T {
    const result = super.turn(decide);
    for (const event of this.facts) this.seen?.push({ at: this.at, event });
    return result;
  }
}

class Stage {
  readonly #pool: Observed;
  readonly #start: number;
  readonly #ids = new Map<string, string>();
  readonly #lines = new Map<string, string>();
  readonly #leases = new Map<string, { leaseId: string }>();

  constructor(policy: Record<string, unknown>) {
    this.#pool = new Observed(policy);
    this.#start = this.#pool.at;
  }

  play({ at, step, answer }: Row): string[] {
    const time = this.#start + (spanOf(at) ?? 0);
    if (time < this.#pool.at) return [`${at} is before the step above`];
    const { seen = [] } = this.#pool;
    const before = seen.length;
    const servedBefore = this.#pool.served.length;
    this.#pool.wait(time - this.#pool.at);
    const came = this.#do(step.replaceAll("`", ""));
    const events = seen.slice(before);
    const tokens = [...answer.matchAll(/`([^`]+)`/g)].map(([, token = ""]) => token);
    const served = this.#pool.served.slice(servedBefore).map(({ waiter, proxyId }) => {
      const name = [...this.#leases].find(([, { leaseId }]) => leaseId === waiter.leaseId)?.[0];
      return `${name} gets ${this.#nameOf(proxyId)}`;
    });
    return [
      ...this.#checkEvents(tokens.filter(isEvent), events, time),
      ...differs("served", tokens.filter(isServed), served),
      ...this.#checkAnswer(
        tokens.filter((token) => !isEvent(token) && !isServed(token)),
        came,
      ),
    ];
  }

  #checkAnswer(tokens: readonly string[], came: Answer | undefined): string[] {
    if (came === undefined) return tokens.length === 0 ? [] : [`the page says ${tokens[0]}, but nothing was asked`];
    const fields = tokens.filter((token) => token.includes("="));
    const [word, ...more] = tokens.filter((token) => !token.includes("="));
    if (word !== came.word || more.length > 0) return [`answered ${came.word}: ${JSON.stringify(came.reply)}`];
    return fields.flatMap((token) => {
      const [path = "", wanted = ""] = token.split("=");
      const value = path
        .split(".")
        .reduce<unknown>((each, key) => (each as Record<string, unknown>)?.[key], came.reply);
      const shown = this.#show(path, value, wanted);
      return shown === wanted ? [] : [`${path} is ${shown}, and the page says ${wanted}`];
    });
  }

  /** In the page's form: instants from the beginning, proxies by their names. */
  #show(path: string, value: unknown, wanted: string): string {
    if (value === undefined) return "none";
    if (Array.isArray(value)) return value.map((each) => this.#nameOf(String(each))).join(",");
    if (typeof value === "number" && spanOf(wanted) !== undefined) {
      const span = /(At|until)$/.test(path) ? value - this.#start : value;
      return span === spanOf(wanted) ? wanted : `${span} ms`;
    }
    return typeof value === "object" ? JSON.stringify(value) : this.#nameOf(String(value));
  }

  #checkEvents(tokens: readonly string[], events: readonly { at: number; event: Event }[], time: number): string[] {
    const wrong: string[] = [];
    const told = tokens.filter((token) => toldAlways.some((type) => token.startsWith(type)));
    const happened = events.filter(({ event }) => toldAlways.includes(event.type));
    for (let i = 0; i < Math.max(told.length, happened.length); i++) {
      const found = happened[i];
      if (found === undefined) wrong.push(`the page says ${told[i]}, which did not happen`);
      else if (found.at !== time) wrong.push(`${this.#tell(found.event)} came at ${found.at - this.#start} ms`);
      else if (told[i] === undefined) wrong.push(`the page does not mention ${this.#tell(found.event)}`);
      else if (!this.#fits(told[i]!, found.event))
        wrong.push(`${this.#tell(found.event)} happened, and the page says ${told[i]}`);
    }
    for (const token of tokens) {
      const absent = /^no (\w+)/.exec(token)?.[1];
      if (absent !== undefined) {
        if (events.some(({ event }) => event.type === absent)) wrong.push(`${absent} happened`);
      } else if (!told.includes(token) && !events.some(({ event }) => this.#fits(token, event))) {
        wrong.push(`the page says ${token}, which did not happen`);
      }
    }
    return wrong;
  }

  #fits(token: string, event: Event): boolean {
    const [, symbol = "", name, until] = /^([A-Za-z.-]+)(?: (p\d+))?(?: until (.+))?$/.exec(token) ?? [];
    const told = symbolOf(event);
    if (symbol !== told && symbol !== event.type) return false;
    if (name !== undefined && !("proxyId" in event && this.#nameOf(event.proxyId) === name)) return false;
    return until === undefined || ("until" in event && (event.until ?? 0) - this.#start === spanOf(until));
  }

  #tell(event: Event): string {
    const name = "proxyId" in event ? ` ${this.#nameOf(event.proxyId)}` : "";
    const until = "until" in event && event.until !== undefined ? ` until ${event.until - this.#start} ms` : "";
    return `${symbolOf(event)}${name}${until}`;
  }

  #do(step: string): Answer | undefined {
    const pool = this.#pool;
    const [command = "", ...words] = wordsOf(step);
    const names = words.filter((word) => !/^\w+=/.test(word));
    const given = Object.fromEntries(words.filter((word) => /^\w+=/.test(word)).map((word) => this.#option(word)));
    const [name = ""] = names;
    const strange = Object.keys(given).find((field) => fieldsOf[command]?.includes(field) === false);
    if (strange !== undefined) throw new Error(`${step}: has no ${strange}`);
    switch (command) {
      case "–":
        return undefined;
      case "add":
        return this.#add(names, given);
      case "lease":
        return this.#lease(name, given);
      case "report": {
        const taken = pool.report(this.#leaseOf(name), given);
        return {
          word: "ignored" in taken ? "ignored" : "accepted",
          reply: "ignored" in taken ? taken : (pool.facts[0] ?? {}),
        };
      }
      case "release":
        return answerOf("released", pool.release(this.#leaseOf(name), given["used"] as number | undefined));
      case "renew":
        return answerOf("renewed", pool.renew(this.#leaseOf(name), given["ttlMs"] as number | undefined));
      case "retire":
        return changed(pool.retire(this.#idOf(name)));
      case "rest":
        return changed(pool.rest(this.#idOf(name), Number(given["forMs"])));
      case "revive":
        return changed(pool.revive(this.#idOf(name)));
      case "show": {
        const proxy = pool.proxy(this.#idOf(name));
        return { word: proxy.state, reply: proxy };
      }
      case "policy": {
        const settled = pool.policy(JSON.parse(name) as Record<string, unknown>);
        if ("refusal" in settled) return { word: settled.refusal.code, reply: settled.refusal };
        return { word: pool.facts.length > 0 ? "changed" : "unchanged", reply: { warnings: settled.warnings.length } };
      }
      default:
        throw new Error(`${step}: no such step`);
    }
  }

  #add(names: readonly string[], given: Record<string, unknown>): Answer {
    const { at, scheme = "http", limits, ...labels } = given;
    const counts: Record<string, number> = { ProxyAdded: 0, ProxyChanged: 0 };
    for (const name of names) {
      const place = this.#lines.size + 1;
      const line =
        this.#lines.get(name) ??
        `${String(scheme)}://${at === undefined ? `192.0.2.${place}` : String(at)}:${8000 + place}`;
      this.#lines.set(name, line);
      const own = Object.keys(labels).length === 0 ? {} : { labels: labels as Record<string, string> };
      const [id = ""] = this.#pool.add([line], limits === undefined ? own : { ...own, limits: limits as Limits });
      this.#ids.set(name, id);
      for (const { type } of this.#pool.facts) counts[type] = (counts[type] ?? 0) + 1;
    }
    const word =
      counts["ProxyAdded"] === names.length ? "added" : counts["ProxyChanged"] === names.length ? "updated" : "already";
    return { word, reply: {} };
  }

  #lease(name: string, given: Record<string, unknown>): Answer {
    const pool = this.#pool;
    const answered = "waitMs" in given ? pool.ask(given) : pool.lease(given);
    if (isRefusal(answered)) return { word: answered.code, reply: answered };
    if ("request" in answered) {
      this.#leases.set(name, answered);
      return { word: "waits", reply: {} };
    }
    const granted = pool.facts.find((event) => event.type === "LeaseGranted");
    if (granted !== undefined) this.#leases.set(name, granted);
    return { word: this.#nameOf(answered.proxyId), reply: { ...granted, ...answered } };
  }

  #option(word: string): [string, unknown] {
    const at = word.indexOf("=");
    const value = jsonOr(word.slice(at + 1));
    const list = Array.isArray(value) ? value.map((each) => this.#ids.get(String(each)) ?? each) : value;
    return [word.slice(0, at), list];
  }

  #idOf(name: string): string {
    const id = this.#ids.get(name);
    if (id === undefined) throw new Error(`${name} has not been added`);
    return id;
  }

  #nameOf(id: string | undefined): string {
    return [...this.#ids].find(([, each]) => each === id)?.[0] ?? String(id);
  }

  #leaseOf(name: string): { leaseId: string } {
    const lease = this.#leases.get(name);
    if (lease === undefined) throw new Error(`${name} has not been leased`);
    return lease;
  }
}

/** "1 min 5.101 s" in milliseconds; undefined if it is not a duration. */
export function spanOf(text: string): number | undefined {
  if (!/^(\d+(\.\d+)? (ms|s|min|h) ?)+$/.test(text)) return undefined;
  const unitMs: Record<string, number> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000 };
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?) (ms|s|min|h)/g)];
  return Math.round(parts.reduce((sum, [, count, unit = ""]) => sum + Number(count) * (unitMs[unit] ?? 0), 0));
}

/** Words separated by spaces. A space within braces or brackets does not separate. */
function wordsOf(step: string): string[] {
  const words: string[] = [];
  let depth = 0;
  let word = "";
  for (const letter of step) {
    if ("{[".includes(letter)) depth++;
    if ("}]".includes(letter)) depth--;
    if (letter === " " && depth === 0) {
      if (word !== "") words.push(word);
      word = "";
    } else word += letter;
  }
  return word === "" ? words : [...words, word];
}

function jsonOr(text: string): unknown {
  if (/^\[[a-z]/.test(text)) return text.slice(1, -1).split(",");
  return /^(-?\d|[{["]|true$|false$|null$)/.test(text) && !/^\d+\./.test(text) ? (JSON.parse(text) as unknown) : text;
}

function symbolOf(event: Event): string {
  return "state" in event ? `${event.type}.${event.state}` : event.type;
}

function isEvent(token: string): boolean {
  return /^(no )?[A-Z][a-z]+[A-Z]/.test(token);
}

function isServed(token: string): boolean {
  return / gets /.test(token);
}

function differs(what: string, wanted: readonly string[], found: readonly string[]): string[] {
  return wanted.join() === found.join() ? [] : [`${what}: ${found.join(", ") || "none"}`];
}

function answerOf(word: string, reply: object): Answer {
  return isRefusal(reply) ? { word: reply.code, reply } : { word, reply };
}

function changed(did: boolean): Answer {
  return { word: did ? "changed" : "unchanged", reply: {} };
}
