// Ids in order, compared with sorting all of them.
import fc from "fast-check";
import { expect, test } from "vitest";
import { Ids } from "../../state-machines/structures/ids.ts";

const character = fc.constantFrom(..."-_09AZaz");
const id = fc.string({ unit: character, minLength: 0, maxLength: 3 }).map((text) => `p_${text}`);
const command = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant("add" as const), id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("delete" as const), id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("look" as const), id: fc.oneof(id, fc.string()) }) },
);

test("lists the ids after any text like a sorted list, after any additions and removals", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const ids = new Ids();
      const known = new Set<string>();
      for (const { do: what, id } of commands) {
        if (what === "look") {
          const sorted = [...known].sort();
          expect([...ids.after(undefined)]).toEqual(sorted);
          expect([...ids.after(id)]).toEqual(sorted.filter((each) => each > id));
        } else if (what === "delete") {
          ids.delete(id);
          known.delete(id);
        } else if (!known.has(id)) {
          ids.add(id);
          known.add(id);
        }
      }
    }),
  );
});
