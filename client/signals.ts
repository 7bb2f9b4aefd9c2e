// Abort signals of callers. A caller may give one signal to any number of requests at once. Node warns of a leak at the
// eleventh listener of a signal, so each signal gets one listener, which calls the others.

const watched = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls back once when the signal fires. Not if it has fired already. @returns cancels that. */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined) return () => {};
  const callbacks = watched.get(signal) ?? new Set();
  const call = (): void => callback();
  if (callbacks.size === 0) {
    watched.set(signal, callbacks);
    signal.addEventListener("abort", fire, { once: true });
  }
  callbacks.add(call);
  return () => {
    callbacks.delete(call);
    if (callbacks.size > 0) return;
    watched.delete(signal);
    signal.removeEventListener("abort", fire);
  };
}

function fire(this: AbortSignal): void {
  const callbacks = watched.get(this) ?? [];
  watched.delete(this);
  for (const callback of [...callbacks]) callback();
}
