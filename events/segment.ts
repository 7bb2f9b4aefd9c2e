// The recorded fact that a range of the ledger is in the archive. Only that permits to purge the range from the stream.
import { z } from "zod";

export const segmentArchivedSchema = z.strictObject({
  type: z.literal("SegmentArchived"),
  first: z.int().describe("The number of its first commit."),
  last: z.int().describe("The number of its last commit."),
  sequence: z.int().describe("Of the last commit, in the stream."),
  hash: z.string().describe("base64url SHA-256 of the segment's lines."),
  snapshot: z.string().describe("base64url SHA-256 of a snapshot that has these commits."),
  inert: z.literal(true).describe("Nothing is decided by it: a reader that does not know it goes on."),
});
export type SegmentArchived = z.infer<typeof segmentArchivedSchema>;
