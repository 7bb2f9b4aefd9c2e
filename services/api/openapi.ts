// The description of the routes, from their schemas: OpenAPI 3.1 as JSON at /docs/json, as a page at /docs. Loaded at
// the first request for it, because few processes are asked.
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Api } from "./request.ts";

/** Call this before the routes are made: it listens for them. */
export async function describeApi(api: Api, version: string): Promise<void> {
  const toJson = createJsonSchemaTransformObject({ zodToJsonConfig });
  await api.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Remuda",
        version,
        description:
          "Leases forward proxies to workers, in the words and bodies that NATS clients use, too. Bodies are read as JSON whatever " +
          "their content type says, and an empty one is {}. Instants are epoch milliseconds.",
      },
      components: {
        securitySchemes: {
          key: {
            type: "http",
            scheme: "bearer",
            description: "Beyond loopback: REMUDA_HTTP_KEY, as `remuda env` prints it",
          },
        },
      },
      security: [{ key: [] }, {}],
    },
    transform: createJsonSchemaTransform({ zodToJsonConfig }),
    transformObject: (document) => withoutUnused(toJson(document)),
  });
  await api.register(swaggerUi, { routePrefix: "/docs", theme: { title: "Remuda: HTTP" } });
}

const zodToJsonConfig: NonNullable<Parameters<typeof createJsonSchemaTransform>[0]["zodToJsonConfig"]> = {
  override({ zodSchema, jsonSchema }) {
    // Fields may be added to objects that are not strict, so readers must ignore unknown fields.
    if (zodSchema instanceof z.ZodObject && zodSchema.def.catchall === undefined)
      delete jsonSchema.additionalProperties;
    // The largest possible integer is not a useful bound.
    if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
  },
};

/** Each named schema exists twice, as sent and as received. Unused ones are removed. */
function withoutUnused<Document extends object>(document: Document): Document {
  // The structure of OpenAPI.
  const schemas = (document as { components?: { schemas?: Record<string, unknown> } }).components?.schemas ?? {};
  const isUsed = (name: string): boolean => JSON.stringify(document).includes(`"#/components/schemas/${name}"`);
  for (let unused = [""]; unused.length > 0; ) {
    unused = Object.keys(schemas).filter((name) => !isUsed(name));
    for (const name of unused) delete schemas[name];
  }
  return document;
}
