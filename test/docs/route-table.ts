// The routes of docs/http.md, from the contract's table.
import { z } from "zod";
import { contractOf } from "../../protocol/contract.ts";
import { type Route, routes } from "../../protocol/verbs.ts";
import { code, showTable } from "./markdown.ts";

export function routeTable(): string {
  return showTable(["route", "verb", "fields", ""], routes.map(rowOf));
}

function rowOf({ verb, method, path, named, status, fixed }: Route): string[] {
  const { request, summary = "", description } = contractOf(verb);
  const shown = path.replace("/v1/pools/:pool", "…").replace(/:(\w+)/, `{${named === "ids" ? "id" : (named ?? "")}}`);
  const fields = Object.entries(request.shape).filter(([name]) => name !== named && !(name in fixed));
  const text = [
    `${summary}${status === 200 ? "" : ` (${status})`}`,
    ...(description === undefined ? [] : [description]),
  ];
  return [code(`${method} ${shown}`), code(verb), fields.map(fieldOf).join(", "), text.join(". ").replace(/\.?$/, ".")];
}

function fieldOf([name, field]: [string, unknown]): string {
  if (field instanceof z.ZodDefault) return code(`${name}?=${JSON.stringify(field.def.defaultValue)}`);
  return code(field instanceof z.ZodOptional ? `${name}?` : name);
}
