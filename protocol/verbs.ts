// The contract's verbs in one table. Subjects, rights, HTTP routes, OpenAPI, the clients' paths and docs/http.md are
// derived from it. The parts that need the schema library (requests, replies) are in contract.ts, because the published
// client reads this table without that library.

/** The roles of users. docs/protocol.md §4.3 has a row for each. */
export const userRoles = ["admin", "worker", "viewer", "metrics"] as const;
export type UserRole = (typeof userRoles)[number];

const admins = ["admin"] as const;
const workers = ["admin", "worker"] as const;
const readers = ["admin", "viewer"] as const;
const everybody = ["admin", "worker", "viewer"] as const;
/** The roles that may read metrics. */
export const watchers = ["admin", "viewer", "metrics"] as const;

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

interface Row {
  /**
   * Which service answers. `leader`: only the pool's leader, so a pool without a leader gives NATS's "no responders".
   * `picker`: any picker.
   */
  by: "leader" | "picker" | "sources" | "audit";
  /**
   * Which roles may send it, over NATS and HTTP alike. `secrets`: it shows passwords of proxies that are not leased, so
   * only the command line and the sources service. `executors`: only executors of token refreshes; not part of the
   * contract.
   */
  for: readonly UserRole[] | "secrets" | "executors";
  /**
   * Method and path. `…` stands for `/v1/pools/:pool`. Request fields that are not in the path are the query of a GET
   * or DELETE, and the body of other methods.
   */
  http?: `${Method} ${string}`;
  /** The request field that the path's second parameter fills. For `ids`: its only entry. */
  named?: string;
  /** A second route of the verb, in which these request fields are fixed. */
  also?: { http: `${Method} ${string}`; fixed: Record<string, unknown> };
  /** Default 200. */
  status?: number;
  /**
   * The file of services/api with this route, if the route needs code of its own. Other routes are made from the table.
   */
  own?: "lease.ts" | "outcome.ts" | "pool.ts" | "proxy.ts";
  /** The longest time for an answer, if that is more than usual. */
  takesMsMax?: number;
}

export const verbs = {
  lease: { by: "leader", for: workers, http: "POST …/leases", status: 201, own: "lease.ts" },
  "leases.list": { by: "leader", for: everybody, http: "GET …/leases" },
  renew: { by: "leader", for: workers, http: "POST …/leases/:id/renew", named: "leaseId" },
  release: { by: "leader", for: workers, http: "DELETE …/leases/:id", named: "leaseId" },
  cancel: { by: "leader", for: workers, http: "DELETE …/requests/:id", named: "requestId" },
  report: { by: "leader", for: workers, http: "POST …/outcomes", own: "outcome.ts" },
  "proxies.add": { by: "leader", for: admins, http: "POST …/proxies", own: "proxy.ts" },
  "proxies.list": { by: "leader", for: readers, http: "GET …/proxies", own: "proxy.ts" },
  "proxies.get": { by: "leader", for: readers, http: "GET …/proxies/:id", named: "id" },
  "proxies.export": { by: "leader", for: "secrets" },
  "proxies.retire": { by: "leader", for: admins, http: "DELETE …/proxies/:id", named: "ids" },
  "proxies.rest": { by: "leader", for: admins, http: "POST …/proxies/:id/rest", named: "ids" },
  "proxies.revive": { by: "leader", for: admins, http: "POST …/proxies/:id/revive", named: "ids" },
  "token.get": { by: "leader", for: workers, http: "POST …/token" },
  "token.reject": { by: "leader", for: workers, http: "POST …/token/reject" },
  "token.take": { by: "leader", for: "executors" },
  "token.result": { by: "leader", for: "executors" },
  "pool.list": { by: "picker", for: everybody, http: "GET /v1/pools" },
  "pool.open": { by: "picker", for: admins, http: "PUT …" },
  "pool.get": { by: "picker", for: everybody, http: "GET …" },
  "pool.policy": {
    by: "picker",
    for: admins,
    http: "PATCH …",
    also: { http: "POST …/policy/reset", fixed: { reset: true } },
  },
  "pool.close": { by: "picker", for: admins, http: "DELETE …", own: "pool.ts" },
  "pool.delete": { by: "picker", for: admins, http: "DELETE …?delete=true", own: "pool.ts" },
  "pool.stats": { by: "picker", for: everybody, http: "GET …/stats" },
  "pool.metrics": { by: "picker", for: watchers },
  "sources.list": { by: "sources", for: admins, http: "GET …/sources" },
  "sources.put": { by: "sources", for: admins, http: "PUT …/sources/:name", named: "name" },
  "sources.remove": { by: "sources", for: admins, http: "DELETE …/sources/:name", named: "name" },
  // The maximum of a source's own timeout.
  "sources.read": {
    by: "sources",
    for: admins,
    http: "POST …/sources/:name/read",
    named: "name",
    takesMsMax: 600_000,
  },
  // Over HTTP it is `proxies.list` with `at`.
  "audit.proxies": { by: "audit", for: readers },
  "audit.explain": { by: "audit", for: readers, http: "GET …/explain" },
} as const satisfies Record<string, Row>;

export type Verb = keyof typeof verbs;
type By<Service extends Row["by"]> = { [V in Verb]: (typeof verbs)[V]["by"] extends Service ? V : never }[Verb];
export type LeaderVerb = By<"leader">;
/** Verbs of one pool that any picker answers with the help of its leader. */
export type PoolVerb = Exclude<By<"picker">, "pool.list" | "pool.delete">;
export type SourceVerb = By<"sources">;

const allVerbs = Object.keys(verbs) as Verb[]; // Its own keys.
export const poolVerbs = verbsBy("picker").filter((verb) => verb !== "pool.list" && verb !== "pool.delete");

export function verbsBy<Service extends Row["by"]>(service: Service): By<Service>[] {
  return allVerbs.filter((verb): verb is By<Service> => verbs[verb].by === service);
}

export function verbsFor(role: UserRole | "secrets" | "executors"): Verb[] {
  return allVerbs.filter((verb) => isFor(verb, role));
}

function isFor(verb: Verb, role: UserRole | "secrets" | "executors"): boolean {
  const roles: Row["for"] = verbs[verb].for;
  return typeof roles === "string" ? roles === role : roles.some((each) => each === role);
}

/** Whether it is an administrative act: only administrators may do it, and it changes something or shows passwords. */
export function isAct(verb: Verb): boolean {
  const roles: Row["for"] = verbs[verb].for;
  return roles === "secrets" || (roles === admins && verb !== "sources.list");
}

/** Which roles may use its route. */
export function rolesFor(verb: Verb): readonly UserRole[] {
  const roles: Row["for"] = verbs[verb].for;
  return typeof roles === "string" ? [] : roles;
}

export interface Route extends Pick<Row, "named" | "own" | "takesMsMax"> {
  verb: Verb;
  method: Method;
  /** With `:pool`, and `:id` or `:name`. */
  path: string;
  status: number;
  /** The name of the path's second parameter. */
  parameter: string | undefined;
  /** Request fields with a fixed value. */
  fixed: Record<string, unknown>;
}

/** @throws for a verb without a route, which is a bug. */
export function routeOf(verb: Verb): Route {
  const [route] = routesOf(verb);
  if (route === undefined) throw new Error(`${verb} has no route`);
  return route;
}

function routesOf(verb: Verb): Route[] {
  const { http, also, ...row }: Row = verbs[verb];
  if (http === undefined) return [];
  const first = { ...routeAt(http, row), verb, fixed: {} };
  return also === undefined ? [first] : [first, { ...routeAt(also.http, row), verb, fixed: also.fixed }];
}

function routeAt(http: string, { status = 200, ...row }: Omit<Row, "http" | "also">): Omit<Route, "verb" | "fixed"> {
  const [method, path] = http.split(" ") as [Method, string]; // As the column is typed.
  const parameter = /:(\w+)/.exec(path)?.[1];
  return { ...row, method, path: path.replace("…", "/v1/pools/:pool"), status, parameter };
}

export const routes = allVerbs.flatMap(routesOf);
