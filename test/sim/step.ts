// The steps of a plan: workers lease and report, an operator changes things, and the world fails.
import { isRefusal } from "../../protocol/refusal.ts";
import type { Plan, Step } from "./plan.ts";
import { ask, ride, someToken, type Worker } from "./ride.ts";
import { drawChange, drawLimits, drawToken, type Entry } from "./setting.ts";

/** @param worker with the step's own chance. */
export async function take(worker: Worker, plan: Plan, step: Step): Promise<void> {
  const { world, service, observer, chance } = worker;
  const note = (what: string): void => observer.told("operator", what);
  switch (step.kind) {
    case "ride":
      return ride(worker, step.id);
    case "kill":
      service.kill();
      await world.sleep(chance.int(0, 1500));
      return service.start();
    case "take over":
      return service.takeOver();
    case "hang":
      return service.hang(chance.int(100, 4000), { asleep: chance.chance(0.5) });
    case "crash": {
      const unsynced = chance.int(0, 6);
      observer.told("fault", `the broker crashes; the last ${unsynced} outcomes were not synced`);
      return service.broker.crash({ forMs: chance.int(2, 800), unsynced });
    }
    case "policy": {
      const policy = drawChange(chance, plan.physics);
      note(`changes the policy: ${JSON.stringify(policy)}`);
      const answer = await ask(worker, "pool.policy", { policy });
      if (isRefusal(answer)) observer.court.saw("policy: refused");
      return;
    }
    case "retire": {
      const ids = someIds(worker);
      if (ids.length === 0) return;
      note(`retires ${ids.join(", ")}`);
      await ask(worker, "proxies.retire", { ids });
      if (chance.chance(0.3)) return;
      await world.sleep(chance.int(0, 3000));
      return add(worker, plan.proxies);
    }
    case "add":
      note("adds the proxies again");
      return add(worker, plan.proxies);
    case "relabel": {
      const entry = chance.pick(plan.proxies);
      const labels = { kind: chance.pick(["a", "b"]), exit: `10.0.0.${chance.int(1, 6)}` };
      const limits = chance.chance(0.4) ? { limits: drawLimits(chance) } : {};
      note(`relabels ${entry.url.replace(/.*@/, "")}: ${JSON.stringify({ labels, ...limits })}`);
      return add(worker, [{ url: entry.url, labels, ...limits }]);
    }
    case "rest": {
      const ids = someIds(worker);
      if (ids.length > 0) await ask(worker, "proxies.rest", { ids, forMs: chance.int(1, 4000) });
      return;
    }
    case "revive": {
      const ids = someIds(worker, (proxy) => proxy.resting);
      if (ids.length > 0) await ask(worker, "proxies.revive", { ids });
      return;
    }
    case "close":
      note("closes the pool, to open it again");
      // Some requests come in the same turn.
      for (let n = worker.counts.int(0, 4); n > 0; n--) void ask(worker, "lease", {});
      await ask(worker, "pool.close", { drain: chance.chance(0.5) });
      await world.sleep(chance.int(0, 1500));
      return reopen(worker);
    case "garbage":
      return garbage(worker);
    case "look": {
      const [id = "p_unknown"] = someIds(worker);
      await ask(worker, "proxies.get", { id: chance.chance(0.1) ? "p_unknown" : id });
      await ask(worker, "pool.stats", {});
      await ask(worker, chance.pick(["proxies.list", "leases.list", "pool.get"] as const), {});
      return observer.compare();
    }
    case "token":
      return token(worker);
    case "move":
      return move(worker, plan);
    case "slip in":
      return slipIn(worker, plan);
  }
}

export async function add(worker: Worker, proxies: readonly Entry[]): Promise<void> {
  for (let tries = 0; tries < 5; tries++) {
    const answer = await ask(worker, "proxies.add", { proxies: proxies });
    if (answer !== undefined && !isRefusal(answer)) return;
    await worker.world.sleep(200);
  }
}

/** Moves a proxy between two exits and back within a window: by its label, or retired and added again. */
async function move(worker: Worker, plan: Plan): Promise<void> {
  const { world, chance, observer } = worker;
  const { url } = chance.pick(plan.proxies);
  const exits = [`10.0.0.${chance.int(1, 6)}`, `10.0.0.${chance.int(1, 6)}`];
  for (let n = chance.int(2, 5); n > 0; n--) {
    const labels = { kind: chance.pick(["a", "b"]), exit: exits[n % 2]! };
    observer.told("operator", `moves ${url.replace(/.*@/, "")} to ${labels.exit}`);
    const known = [...observer.court.book.proxies.values()].filter((proxy) => url.endsWith(proxy.address));
    if (chance.chance(0.3)) await ask(worker, "proxies.retire", { ids: known.map((proxy) => proxy.id) });
    await add(worker, [{ url, labels }]);
    await world.sleep(chance.int(0, 1200));
  }
}

/** A proxy that is alone at its exit, in use if possible, joins an exit with many proxies just as its rest begins. */
async function slipIn(worker: Worker, plan: Plan): Promise<void> {
  const { world, chance, observer } = worker;
  const { accounts, proxies } = observer.court.book;
  const until = world.now + 6000;
  while (world.now < until) {
    const exit = await Promise.race([observer.exitRests(), world.sleep(until - world.now)]);
    if (exit === undefined || (accounts.get(exit)?.members.size ?? 0) < 3) continue;
    const alone = [...proxies.values()].filter(({ account, retired }) => !retired && account.members.size === 1);
    const atWork = alone.filter((proxy) => proxy.open > 0);
    if (alone.length === 0) return;
    const { address } = chance.pick(atWork.length > 0 ? atWork : alone);
    const entry = plan.proxies.find(({ url }) => url.endsWith(address));
    if (entry === undefined) return;
    observer.told("operator", `moves ${address} to ${exit}, which has begun to rest`);
    return add(worker, [{ url: entry.url, labels: { kind: chance.pick(["a", "b"]), exit } }]);
  }
}

/** Repeats until the pool is open. A pool that drains closes when its last lease has ended. */
export async function reopen({ world, service, observer }: Worker): Promise<void> {
  for (let tries = 0; tries < 200 && service.broken === undefined; tries++) {
    const { opened, draining } = observer.court.book;
    if (opened && !draining && service.leader !== undefined) return;
    if (!opened && !service.lives.some((life) => life.alive)) return service.start();
    await world.sleep(100);
  }
}

/** Requests a token alone, rejects it, rejects another one, or changes the token policy. */
async function token(worker: Worker): Promise<void> {
  const { world, chance, observer } = worker;
  const draw = chance.next();
  if (draw < 0.04) {
    const policy = { token: chance.chance(0.3) ? null : drawToken(chance) };
    observer.told("operator", `changes the policy: ${JSON.stringify(policy)}`);
    return void (await ask(worker, "pool.policy", { policy }));
  }
  if (draw < 0.4) {
    const tokenId = someToken(chance, observer.court.book.tokens.minted);
    return void (await ask(worker, "token.reject", { tokenId }));
  }
  const [proxyId] = chance.chance(0.5) ? someIds(worker) : [];
  const waitMs = chance.chance(0.3) ? 0 : chance.int(1, 2000);
  const answer = await ask(worker, "token.get", { waitMs, ...(proxyId === undefined ? {} : { proxyId }) });
  const tokenId = answer?.["tokenId"];
  if (tokenId === undefined || chance.chance(0.4)) return;
  await world.sleep(chance.int(0, 1500));
  await ask(worker, "token.reject", { tokenId, ...(proxyId === undefined ? {} : { proxyId }) });
}

function someIds(
  { observer, chance }: Worker,
  wanted: (proxy: { resting: boolean }) => boolean = () => true,
): string[] {
  const proxies = [...observer.court.book.proxies.values()].filter(wanted);
  return proxies.filter(() => chance.chance(0.4)).map((proxy) => proxy.id);
}

/** Invalid outcomes and those of unknown leases must not stop the others. */
async function garbage(worker: Worker): Promise<void> {
  const { service, chance } = worker;
  const stranger = { leaseId: "l_00000000000000000000", status: 200 };
  const bodies = ["{", "[]", "null", '{"leaseId":7}', JSON.stringify(stranger), '[{"n":1},null,"x"]'];
  service.broker.publish(Buffer.from(chance.pick(bodies)));
  await ask(worker, "renew", { leaseId: stranger.leaseId });
  await ask(worker, "report", { outcomes: [stranger, null] });
}
