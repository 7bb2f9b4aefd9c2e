// Log in with a key, for browsers: they cannot send a key with every request. The cookie counts like the key, and the
// same senders are refused (`door.ts`).
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { refuse } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import { userRoles } from "../../protocol/verbs.ts";
import type { Door } from "./door.ts";
import { Refused } from "./refusal.ts";
import { type Api, takeObject } from "./request.ts";
import { answers } from "./routes.ts";
import { noCookie, sessionCookie, sessionMs } from "./session.ts";

const tags = ["login"];
const config = { roles: userRoles };
const loginSchema = z.object({ key: z.string().min(1).max(1000).describe("a user's key, as for `Authorization`") });
const senderSchema = z.object({
  user: z.string().optional().describe("absent: a sender without a key, where none is needed"),
  role: z.enum(userRoles),
  pools: z.array(z.string()).optional().describe("absent: all"),
});

/** @param onLoginRefused a key was not known; called with the address that it came from. */
export function loginRoutes(
  api: Api,
  { door, onLoginRefused }: { door: Door; onLoginRefused?: ((host: string) => void) | undefined },
): void {
  api.post(
    "/v1/login",
    {
      config,
      schema: {
        tags,
        summary: "Log in with a key",
        description:
          "Sets a cookie that counts like the key, for twelve hours. It is HttpOnly and SameSite=Strict. It ends at once " +
          "with the user, or when the user gets a new key.",
        body: loginSchema,
        response: answers({ 200: senderSchema.extend({ until: z.int().describe("the end of the session") }) }),
      },
    },
    async (request, reply) => {
      const read = readAs(loginSchema, takeObject(request));
      if ("refusal" in read) throw new Refused(read.refusal);
      const { name } = door.userOf(read.value.key) ?? {};
      const user = name === undefined ? undefined : door.userNamed?.(name);
      if (user === undefined) {
        onLoginRefused?.(request.ip);
        throw new Refused(unknownKey, 401);
      }
      const until = Date.now() + sessionMs;
      const { host } = request.headers;
      reply.header("set-cookie", sessionCookie(user, { until, host, isSecure: isSecure(request, door) }));
      return { user: user.name, role: user.role, pools: user.pools, until };
    },
  );

  api.get(
    "/v1/login",
    {
      config,
      schema: { tags, summary: "The user and the role of the sender", response: answers({ 200: senderSchema }) },
    },
    async ({ user: { name, role, pools } }) => ({ user: name, role, pools }),
  );

  api.delete(
    "/v1/login",
    {
      config,
      schema: { tags, summary: "Log out", response: answers({ 200: z.object({ loggedOut: z.literal(true) }) }) },
    },
    async ({ headers: { host } }, reply) => {
      reply.header("set-cookie", noCookie(host));
      return { loggedOut: true };
    },
  );
}

const unknownKey = refuse(
  "invalid-request",
  'key: this key is not known. Send the REMUDA_HTTP_KEY that "npx remuda env" or "npx remuda user add" prints.',
  { field: "key" },
);

/** A reverse proxy may speak TLS for this service. */
function isSecure({ headers: { origin = "" } }: FastifyRequest, { hasTls }: Door): boolean {
  return hasTls || origin.startsWith("https://");
}
