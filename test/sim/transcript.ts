// A run in readable form: time, actor, event. Recorded only on request.
import type { ReadCommit } from "./check-ledger.ts";
import { short } from "./court.ts";
import type { Ask } from "./service.ts";

const brief = new Set(["type", "proxyId", "leaseId", "state", "request", "ranked", "score", "storedAt", "strategy"]);

export class Transcript {
  readonly #lines: string[] = [];
  #started: number | undefined;

  note(at: number, who: string, what: string): void {
    this.#started ??= at;
    this.#lines.push(`${String(at - this.#started).padStart(6)}  ${who.padEnd(9)} ${what}`);
  }

  asked(at: number, ask: Ask): void {
    const { requestId, ...rest } = ask.body;
    const name = requestId === undefined ? "" : ` #${String(requestId).slice(0, 12)}`;
    this.note(at, ask.life.name, `◄ ${ask.verb}${name} ${plain(rest)}`);
  }

  answered(at: number, ask: Ask): void {
    const { code, retryAfterMs, leaseId, expiresAt, message, used, accepted } = ask.answer ?? {};
    const said =
      code !== undefined
        ? `${code}${retryAfterMs === undefined ? "" : ` retryAfterMs ${retryAfterMs}`}: ${String(message)}`
        : plain({
            leaseId,
            expiresAt: expiresAt === undefined ? undefined : this.#since(Number(expiresAt)),
            used,
            accepted,
          });
    this.note(at, ask.life.name, `► ${ask.verb} ${said}`);
  }

  committed(at: number, commit: ReadCommit): void {
    this.note(at, "ledger", `commit ${commit.n}, term ${commit.term}, decided at ${this.#since(commit.at)}`);
    for (const event of commit.events) {
      const { type, ...fields } = event as { type: string } & Record<string, unknown>;
      const who = [fields["leaseId"], fields["proxyId"]]
        .filter((id) => id !== undefined)
        .map((id) => short(String(id)));
      const rest = Object.entries(fields).filter(([key]) => !brief.has(key));
      const told = rest.map(
        ([key, value]) => `${key} ${/(At|until|Until)$/.test(key) ? this.#since(Number(value)) : plain(value)}`,
      );
      const state = fields["state"] === undefined ? "" : `.${String(fields["state"])}`;
      this.note(at, "", `  ${type}${state} ${who.join(" ")} ${told.join(", ")}`);
    }
  }

  toString(): string {
    return this.#lines.join("\n");
  }

  get length(): number {
    return this.#lines.length;
  }

  #since(at: number): string {
    return `@${at - (this.#started ?? 0)}`;
  }
}

function plain(value: unknown): string {
  return JSON.stringify(value)?.replaceAll('"', "") ?? "";
}
