// Closing a pool, and deleting a closed one: two verbs of one route.
import { z } from "zod";
import { rolesFor, routeOf } from "../../protocol/verbs.ts";
import { sendAnswer } from "./ask.ts";
import { type Api, flagInQuery, inPool } from "./request.ts";
import { described } from "./routes.ts";

const query = z.looseObject({ delete: flagInQuery, archive: flagInQuery, drain: flagInQuery });

export function poolRoute(api: Api): void {
  api.delete(
    routeOf("pool.close").path,
    {
      config: { roles: rolesFor("pool.delete") },
      schema: { ...described("pool.close"), params: inPool, querystring: query },
    },
    async (request, reply) => {
      const { pool } = request.params;
      const { delete: isDeleted, ...body } = request.query;
      return sendAnswer(
        reply,
        await request.ask({ verb: isDeleted === true ? "pool.delete" : "pool.close", pool, body }),
      );
    },
  );
}
