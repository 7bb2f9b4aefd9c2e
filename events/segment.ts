// The recorded fact that a range of the ledger is in the archive. Only then may the range be purged from the stream.
import { z } from "zod";
import { flag } from "./field.ts";

export const segmentArchivedSchema = z.strictObject({
  type: z.literal("SegmentArchived"),
  first: z.int().describe("The number of the segment's first commit."),
  last: z.int().describe("The number of the segment's last commit."),
  sequence: z.int().describe("The sequence of the last commit in the stream."),
  hash: z.string().describe("base64url SHA-256 of the segment's lines."),
  closed: flag.describe("The pool was closed."),
  snapshot: z.string().describe("base64url SHA-256 of a snapshot that has these commits."),
  inert: z.literal(true).describe("It decides nothing: a reader that does not know it may skip it."),
});
export type SegmentArchived = z.infer<typeof segmentArchivedSchema>;
