// The client's own interfaces match the schemas in protocol/. The type checker compares them (npm run check), and the
// few values are compared here.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { z } from "zod";
import { readNatsUrl } from "../../client/nats-url.ts";
import { Size } from "../../client/size.ts";
import type { Reason } from "../../events/outcome.ts";
import type { Scheme } from "../../events/proxy.ts";
import type { LeaseReply, LeasesGranted, leaseRequestSchema, ReleaseReply } from "../../protocol/lease.ts";
import type { Outcome, ReportReply } from "../../protocol/outcome.ts";
import type * as wire from "../../protocol/wire.ts";
import { readNatsUrl as readByRuntime } from "../../runtime/nats-url.ts";
import { readRetryAfter } from "../../transport/classify.ts";

type Alike<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
/** Compares their fields as well: two types with only optional fields are assignable to each other. */
type Same<A, B> = Alike<keyof A, keyof B> extends true ? Alike<A, B> : never;
const same: [
  Same<wire.LeaseRequest, z.input<typeof leaseRequestSchema>>,
  Same<wire.LeaseReply, LeaseReply>,
  Same<wire.LeasesGranted, LeasesGranted>,
  Same<wire.Outcome, Outcome>,
  Same<wire.Reason, Reason>,
  Same<wire.Scheme, Scheme>,
  Same<wire.ReleaseReply, ReleaseReply>,
  Same<wire.ReportReply, ReportReply>,
] = [true, true, true, true, true, true, true, true];

test("has the interfaces of the contract", () => {
  expect(same.every((each) => each)).toBe(true);
});

test("reads a NATS URL as the service does", () => {
  for (const url of [
    "nats://127.0.0.1:4222",
    "a:1,b:2",
    "nats://ann:p%40ss@h:1,nats://h:2",
    "nats://tok@h:1",
    "nats://o.d:x@h",
    "nats://100%:x@h",
  ]) {
    const { encrypted, ...login } = readNatsUrl(url);
    expect([url, login, encrypted]).toEqual([url, readByRuntime(url), false]);
  }
  expect(readNatsUrl("nats://my-app_1:x@h").inboxPrefix).toBe("_INBOX.my-app_1");
  expect(readNatsUrl("tls://h").encrypted).toBe(true);
});

test("doubles a block when used up, shrinks it to the uses made, and finds the policy's bound", () => {
  const size = new Size(64);
  expect(size.next(1)).toBe(1);
  size.usedUp(1);
  expect(size.next(1)).toBe(2);
  expect(size.next(10)).toBe(10);
  size.usedUp(60);
  expect(size.next(1)).toBe(64);
  size.givenBack({ used: 3 });
  expect(size.next(1)).toBe(3);
  const bound = new Size(64);
  let asked = bound.next(64);
  for (let tries = 0; asked > 37; tries++) {
    expect(tries).toBeLessThan(8);
    bound.refused(asked);
    asked = bound.next(64);
  }
  expect(asked).toBeGreaterThan(1);
});

test("reads Retry-After as seconds or a date", () => {
  expect(readRetryAfter("7")).toBe(7000);
  const until = Date.now() + 60_000; // The header cuts it to seconds.
  const leftMs = readRetryAfter(new Date(until).toUTCString());
  expect(leftMs).toBeGreaterThan(until - Date.now() - 1001);
  expect(leftMs).toBeLessThanOrEqual(60_000);
  expect(readRetryAfter(new Date(0).toUTCString())).toBe(0);
  expect([readRetryAfter("soon"), readRetryAfter(undefined)]).toEqual([undefined, undefined]);
});

test("depends on the versions that are tested here", () => {
  const read = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
  const root = read("../../package.json");
  const client = read("../../client/package.json");
  const all = { ...root.dependencies, ...root.devDependencies };
  for (const [name, version] of Object.entries(client.dependencies)) expect([name, all[name]]).toEqual([name, version]);
  expect([client.version, client.license]).toEqual([root.version, root.license]);
});
