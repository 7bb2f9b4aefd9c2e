// A NATS URL as users write it: several servers separated by commas, the login in the first. The library reads neither.

export interface NatsLogin {
  servers: string[];
  user?: string;
  pass?: string;
  token?: string;
  /** A user has rights only on its own inbox. */
  inboxPrefix?: string;
  /** One of the servers is `tls://`. */
  encrypted: boolean;
}

export function readNatsUrl(url: string): NatsLogin {
  const servers = url.split(",").map((each) => (each.includes("://") ? each.trim() : `nats://${each.trim()}`));
  return {
    servers: servers.map((each) => each.replace(/\/\/.*@/s, "//")),
    encrypted: servers.some((each) => each.startsWith("tls://")),
    ...loginIn(servers[0] ?? ""),
  };
}

/** For messages: without credentials. */
export function masked(url: string): string {
  return url
    .split(",")
    .map((each) => each.replace(/^(\s*[a-z]+:\/\/)?.*@/s, "$1***@"))
    .join(",");
}

function loginIn(server: string): Omit<NatsLogin, "servers" | "encrypted"> {
  const [, user = "", pass = ""] = /^[a-z]+:\/\/([^:@/]*)(?::(.*))?@/s.exec(server)?.map(decoded) ?? [];
  if (user === "") return {};
  if (pass === "") return { token: user };
  return { user, pass, ...(/^[\w-]+$/.test(user) ? { inboxPrefix: `_INBOX.${user}` } : {}) };
}

function decoded(text: string | undefined): string {
  try {
    return decodeURIComponent(text ?? "");
  } catch {
    return text ?? ""; // A lone % is taken literally.
  }
}
