import { afterEach, expect, test, vi } from "vitest";
import { watchStalls } from "../../runtime/stall.ts";

afterEach(() => void vi.useRealTimers());

test("a process has one watch, until its last caller stops", () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  const [api, picker] = [watchStalls(), watchStalls()];
  expect(vi.getTimerCount()).toBe(1);
  api.stop();
  api.stop();
  expect(vi.getTimerCount()).toBe(1);
  expect(picker.view().counts).toHaveLength(14);
  picker.stop();
  expect(vi.getTimerCount()).toBe(0);
  const next = watchStalls();
  expect(vi.getTimerCount()).toBe(1);
  next.stop();
});
