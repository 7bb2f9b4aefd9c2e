// The ten proxies of a demo, each with its own exit: most are fast, some are slow, one fails.
import { type Behaviour, type DemoProxy, startDemoProxy } from "./proxy.ts";
import { randomOf } from "./random.ts";

const quick: Behaviour = { delayMs: 20, failing: 0 };
const slow: Behaviour = { delayMs: 150, failing: 0 };
const flaky: Behaviour = { delayMs: 40, failing: 0.03 };

/** The given number of proxies, in a cycle of seven fast ones, two slow ones and one that fails. */
const behaviours = [quick, slow, quick, quick, flaky, quick, quick, slow, quick, quick];

/** @param block the third number of the addresses, 127.0.<block>.11 and on. */
export async function startProxies({
  count,
  block,
  seed,
}: {
  count: number;
  block: number;
  seed: number;
}): Promise<{ proxies: DemoProxy[]; stop(): void }> {
  const proxies: DemoProxy[] = [];
  const stop = () => {
    for (const proxy of proxies) proxy.stop();
  };
  try {
    for (let i = 0; i < count; i++) {
      const behaviour = behaviours[i % behaviours.length] ?? quick;
      const chance = randomOf(seed * 1000 + i);
      proxies.push(await startDemoProxy(`127.0.${block}.${11 + i}`, { ...behaviour, chance }));
    }
    return { proxies, stop };
  } catch (error) {
    stop();
    throw error;
  }
}
