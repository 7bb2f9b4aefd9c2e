// The public API, as every other client uses it. The cookie of the session goes along by itself.
import { signal } from "@preact/signals";

/**
 * The sender's user and role. `undefined`: not known yet. `null`: a key is needed.
 * @typedef {{user?: string, role: "admin" | "worker" | "viewer" | "metrics", pools?: string[]}} Session
 * @type {import("@preact/signals").Signal<Session | null | undefined>}
 */
export const session = signal(undefined);

/** An answer that is not the wanted one. `code` is the protocol's. */
export class Refusal extends Error {
  /** @param {{code?: string, message?: string, field?: string}} body @param {number} status 0: there was no answer. */
  constructor({ code = "unavailable", message = "The service does not answer.", field }, status) {
    super(message);
    this.code = code;
    this.field = field;
    this.status = status;
  }
}

/**
 * `call("POST /v1/pools/web/leases", {uses: 1})`.
 * @param {string} line @param {unknown} [body] @returns {Promise<any>} the reply's JSON @throws {Refusal}
 */
export async function call(line, body) {
  const [method = "GET", path = "/"] = line.split(" ");
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await fetch(path, { method, ...sent }).catch(() => undefined);
  if (response === undefined) throw new Refusal({}, 0);
  const text = await response.text();
  const reply = parsed(text);
  if (response.ok) return reply;
  // The session is over, or a key is needed from now on.
  if (response.status === 401 && !path.startsWith("/v1/login")) session.value = null;
  throw new Refusal(reply ?? { message: `The service answers ${response.status}.` }, response.status);
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Asks once more without the cookie: it may be of a session that is over, where no key is needed. */
export async function findSession() {
  try {
    session.value = await call("GET /v1/login").catch(async (/** @type {Refusal} */ refusal) => {
      if (refusal.status !== 401) throw refusal;
      await call("DELETE /v1/login");
      return await call("GET /v1/login");
    });
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) session.value = null;
    else setTimeout(findSession, 1000); // The service is away.
  }
}

/** @param {string} key */
export async function logIn(key) {
  session.value = await call("POST /v1/login", { key });
}

export async function logOut() {
  await call("DELETE /v1/login");
  session.value = undefined;
  await findSession();
}

/** May this user change things in the pool? The service checks it all the same. */
export function mayChange() {
  return session.value?.role === "admin";
}

/** @param {string} pool */
export const pathOf = (pool) => `/v1/pools/${encodeURIComponent(pool)}`;
