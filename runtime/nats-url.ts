// A NATS URL as users write it: several servers separated by commas, credentials in the URL. The library reads neither.

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

/** Whether the URL has a login. */
export function hasLogin(url: string): boolean {
  return url.includes("@");
}

/** The same servers, with a login. Names and passwords of the users file need no encoding, others do. */
export function withLogin(url: string, { name, password }: { name: string; password: string }): string {
  const login = `${encodeURIComponent(name)}:${encodeURIComponent(password)}@`;
  return readNatsUrl(url)
    .servers.map((server) => server.replace("//", `//${login}`))
    .join(",");
}

/** The hosts of its servers. */
export function hostsIn(url: string): string[] {
  return readNatsUrl(url).servers.map((server) => URL.parse(server)?.hostname.replace(/^\[|\]$/g, "") ?? "");
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
    return text; // A lone % is taken literally.
  }
}
