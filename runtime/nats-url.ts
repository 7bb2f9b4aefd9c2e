// A NATS URL as users write it: several servers parted by commas, credentials in the URL. The library reads neither.

export interface NatsAddress {
  servers: string[];
  user?: string;
  pass?: string;
  token?: string;
  /** Where this user's inboxes are. */
  inboxPrefix?: string;
}

export function readNatsUrl(url: string): NatsAddress {
  const servers = url.split(",").map((each) => (each.includes("://") ? each.trim() : `nats://${each.trim()}`));
  return { servers: servers.map((each) => each.replace(/\/\/.*@/s, "//")), ...loginIn(servers[0] ?? "") };
}

/** For messages: without credentials. */
export function maskedNatsUrl(url: string): string {
  return url
    .split(",")
    .map((each) => each.replace(/^(\s*[a-z]+:\/\/)?.*@/s, "$1***@"))
    .join(",");
}

function loginIn(server: string): Omit<NatsAddress, "servers"> {
  const { username = "", password = "" } = URL.parse(server) ?? {};
  const [user, pass] = [decoded(username), decoded(password)];
  if (user === "") return {};
  if (pass === "") return { token: user };
  return { user, pass, ...(/^[\w-]+$/.test(user) ? { inboxPrefix: `_INBOX.${user}` } : {}) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // A lone % is meant as one.
  }
}
