// Bounds how many of some acts run at once. The others wait, in the order of their coming.

export type AtMost = <T>(act: () => Promise<T>) => Promise<T>;

export function atMost(count: number): AtMost {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (act) => {
    if (running >= count) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await act();
    } finally {
      // The place goes to the next one, or becomes free.
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    }
  };
}
