// The name of a sender is recorded, kept and shown. Whatever was sent as one, it is no more than a name.
import { expect, test } from "vitest";
import { senderIn } from "../../protocol/over-nats.ts";

const sentBy = (inbox: string, user?: string): string => senderIn({ inbox, header: () => user });

test("takes the sender's name from its inbox, and from the header where the inbox is that of HTTP", () => {
  expect(sentBy("_INBOX.ann.x.1", "bob")).toBe("ann");
  expect(sentBy("_INBOX.http.x.1", "bob")).toBe("bob");
  expect(sentBy("_INBOX.http.x.1")).toBe("http");
});

test.each([
  ["that fills a message", '"'.repeat(2_000_000)],
  ["that is longer than any", "n".repeat(129)],
  ["with control characters", "bob\u001b[2J"],
])("does not accept a name %s", (_title, name) => {
  expect(sentBy("_INBOX.http.x.1", name)).toBe("");
  expect(sentBy(`_INBOX.${name}.x.1`)).toBe("");
});
