// Hints for the names that other programs give their commands. The library itself recognises typing errors.
const meant: Readonly<Record<string, string>> = {
  start: "up",
  serve: "up",
  server: "up",
  stop: "up (Ctrl-C ends it)",
  status: "doctor, or remuda pool stats",
  check: "doctor",
  health: "doctor",
  stats: "pool stats",
  policy: "pool policy",
  open: "pool open",
  close: "pool close",
  add: "proxies add",
  import: "proxies add",
  export: "proxies export",
  list: "proxies list",
  ls: "proxies list",
  rest: "proxies rest",
  revive: "proxies revive",
  retire: "proxies retire",
  remove: "proxies retire",
  rm: "proxies retire",
  delete: "proxies retire",
  events: "watch",
  logs: "watch",
  tail: "watch",
  with: "exec",
};

/** @param error message of the library: `remuda: unknown command 'start'`. */
export function withHint(errorMessage: string): string {
  const [, tried = ""] = /unknown command '([^']*)'/.exec(errorMessage) ?? [];
  const command = Object.hasOwn(meant, tried) ? meant[tried] : undefined;
  if (command === undefined || errorMessage.includes("(Did you mean")) return errorMessage;
  return errorMessage.replace(/\n*$/, `\n(Did you mean remuda ${command}?)\n`);
}
