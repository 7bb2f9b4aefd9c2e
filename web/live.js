// What the page shows is loaded from the API, and loaded again when a pool's ledger grows. A browser has at most six
// connections to a service, over all of its windows. So at most two pools are followed over server-sent events, only
// while the page can be seen; other pools are asked every two seconds.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { pathOf, Refusal, session } from "./api.js";

const streamsMax = 2;
const pollMs = 2000;
/** Some numbers change by time alone, without a commit. */
const quietPollMs = 5000;
/** Between two loads of the same thing. */
const pauseMs = 400;

/** @type {Map<string, {listeners: Set<() => void>, end: () => void}>} */
const followed = new Map();

/**
 * Calls `onNews` when the ledger of the pool has grown, or may have.
 * @param {string} pool @param {() => void} onNews @returns {() => void} ends it
 */
export function followPool(pool, onNews) {
  const known = followed.get(pool) ?? { listeners: new Set(), end: () => {} };
  known.listeners.add(onNews);
  if (!followed.has(pool)) {
    followed.set(pool, known);
    known.end = begin(pool);
  }
  return () => {
    known.listeners.delete(onNews);
    if (known.listeners.size > 0) return;
    known.end();
    followed.delete(pool);
  };
}

/** @param {string} pool */
function tell(pool) {
  for (const listener of followed.get(pool)?.listeners ?? []) listener();
}

let streams = 0;

/** @param {string} pool @returns {() => void} */
function begin(pool) {
  const role = session.peek()?.role;
  if (document.hidden) return () => {};
  if (streams >= streamsMax || (role !== "admin" && role !== "viewer")) return beginAsking(pool, pollMs);
  streams++;
  const source = new EventSource(`${pathOf(pool)}/events`);
  let endAsking = beginAsking(pool, quietPollMs);
  source.onmessage = () => tell(pool);
  source.onopen = () => tell(pool); // Something may have happened while it was away.
  source.onerror = () => {
    // It comes back by itself, unless it was refused.
    if (source.readyState !== EventSource.CLOSED) return;
    endAsking();
    endAsking = beginAsking(pool, pollMs);
  };
  return () => {
    streams--;
    endAsking();
    source.close();
  };
}

/** @param {string} pool @param {number} everyMs */
function beginAsking(pool, everyMs) {
  const timer = setInterval(() => tell(pool), everyMs);
  return () => clearInterval(timer);
}

document.addEventListener("visibilitychange", () => {
  for (const [pool, known] of followed) {
    known.end();
    known.end = begin(pool);
    if (!document.hidden) tell(pool);
  }
});

/**
 * A value of a pool that stays current. The value before is kept while the next one is on its way.
 * @template T
 * @param {string} pool @param {() => Promise<T>} load @param {string} key says when another value is wanted
 * @param {{isStill?: boolean}} [how] `isStill`: of the past, which does not change
 * @returns {{value?: T, error?: Error, again: () => void}}
 */
export function useLive(pool, load, key, { isStill = false } = {}) {
  const [shown, setShown] = useState(/** @type {{key: string, value?: T, error?: Error}} */ ({ key }));
  const [again, setAgain] = useState(() => () => {});
  useEffect(() => {
    let isOver = false;
    let isLoading = false;
    let isWanted = false;
    const look = async () => {
      isWanted = true;
      if (isLoading) return;
      isLoading = true;
      while (isWanted && !isOver) {
        isWanted = false;
        try {
          const value = await load();
          if (!isOver) setShown({ key, value });
        } catch (error) {
          if (!isOver)
            setShown((before) => ({ ...(before.key === key ? before : {}), key, error: /** @type {Error} */ (error) }));
          // The ledger is being folded up to that moment.
          isWanted ||= isStill && error instanceof Refusal && error.status === 503;
        }
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
      isLoading = false;
    };
    setAgain(() => look);
    look();
    const end = isStill ? () => {} : followPool(pool, look);
    return () => {
      isOver = true;
      end();
    };
  }, [pool, key]);
  return shown.key === key ? { ...shown, again } : { again };
}

/** The time by this browser's clock, new each second. Only what shows it is drawn again. */
export const now = signal(Date.now());
setInterval(() => {
  now.value = Date.now();
}, 1000);
