import type { Duplex } from "node:stream";
import { expect, test } from "vitest";
import { describeFault, type Fault, faultsOf } from "./faults.ts";
import { SteppedClock } from "./stepped-clock.ts";

function first(count: number, seed: number): Fault[] {
  const faults = faultsOf(seed);
  return Array.from({ length: count }, () => faults.next().value);
}

test("a seed always gives the same faults, and another seed gives others", () => {
  expect(first(50, 7)).toEqual(first(50, 7));
  expect(first(50, 8)).not.toEqual(first(50, 7));
});

test("each kind comes in the first eleven faults, and each variant before any comes twice", () => {
  expect(new Set(first(11, 1).map(({ kind }) => kind)).size).toBe(6);
  const connections = first(400, 1).filter(({ kind }) => kind === "connection");
  const variants = new Set(connections.map(describeFault));
  expect(new Set(connections.slice(0, variants.size).map(describeFault)).size).toBe(variants.size);
});

const hourMs = 3_600_000;
const iso = (at: number): string => new Date(at).toISOString();

async function through(lens: Duplex, text: string, size: number): Promise<string> {
  for (let at = 0; at < text.length; at += size) lens.write(text.slice(at, at + size));
  lens.end();
  return Buffer.concat(await lens.toArray()).toString();
}

test.each([1, 7, 1000])("a stepped clock changes the times since the step, in pieces of %d bytes", async (size) => {
  const clock = new SteppedClock();
  const [before, now] = [Date.now() - 1000, Date.now() + 1000];
  clock.step(hourMs);
  const text = (at: number): string => `{"a":"${iso(at).replace("Z", "456Z")}","b":"${iso(before)}","n":[17,2026]}\r\n`;
  expect(await through(clock.lenses().answers(), text(now), size)).toBe(text(now + hourMs));
  expect(await through(clock.lenses().requests(), text(now + hourMs), size)).toBe(text(now));
});

test("a request for a time that a stepped clock never showed is one for the time of the step", async () => {
  const clock = new SteppedClock();
  const from = Date.now();
  clock.step(hourMs);
  const to = Date.now();
  const at = Date.parse((await through(clock.lenses().requests(), `${iso(from + 60_000)}\r\n`, 1000)).trim());
  expect(at).toBeGreaterThanOrEqual(from);
  expect(at).toBeLessThanOrEqual(to);
});
