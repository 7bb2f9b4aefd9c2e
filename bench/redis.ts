// Redis as a picker, for comparison: one Lua script leases, another takes an outcome, as a fleet would do it without
// Remuda. Rules: rotation, rate per proxy in a sliding window, usage quota, open leases per proxy, a rest after each
// failure that doubles with the streak, and expiry. It has no exits, labels, sessions, holders, waiting requests or
// queue, no ledger and no proof. All requests of a turn are sent in one write.
import { once } from "node:events";
import { connect } from "node:net";

/** Of a load: one to NATS, or to Redis. */
export interface Channel {
  /** Resolves with how many of its units the answer had. */
  ask(pool: string): Promise<number>;
  /** Resolves when all that was sent has been answered. */
  close(): Promise<void>;
}

const leaseScript = `
local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)
for _ = 1, 20 do
  local p = redis.call('RPOPLPUSH', 'proxies', 'proxies')
  local open, rate, state = 'open:' .. p, 'rate:' .. p, 'state:' .. p
  local rests = tonumber(redis.call('HGET', state, 'until') or '0')
  if rests <= now then
    redis.call('ZREMRANGEBYSCORE', open, 0, now)
    redis.call('ZREMRANGEBYSCORE', rate, 0, now - 1000)
    if redis.call('ZCARD', open) < 1000 and redis.call('ZCARD', rate) < 20000 then
      local id = 'l_' .. redis.call('INCR', 'leases')
      redis.call('ZADD', open, now + 60000, id)
      redis.call('ZADD', rate, now + 60000, id)
      redis.call('SET', id, p, 'PX', 60000)
      if redis.call('HINCRBY', state, 'uses', 1) >= 1000000 then
        redis.call('HSET', state, 'uses', 0, 'until', now + 900000)
      end
      return id
    end
  end
end
return 'none'`;

const reportScript = `
local p = redis.call('GET', KEYS[1])
if not p then return 'unknown' end
local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('DEL', KEYS[1])
redis.call('ZREM', 'open:' .. p, KEYS[1])
redis.call('ZADD', 'rate:' .. p, now, KEYS[1])
local state = 'state:' .. p
if tonumber(ARGV[1]) < 400 then redis.call('HSET', state, 'streak', 0); return 'ok' end
local streak = redis.call('HINCRBY', state, 'streak', 1)
redis.call('HSET', state, 'until', now + math.min(3600000, 1000 * 2 ^ streak))
return 'ok'`;

type Send = (...words: string[]) => Promise<string>;

export async function fillRedis(port: number, proxies: readonly string[]): Promise<void> {
  const { send, close } = await connectRedis(port);
  await send("FLUSHALL");
  await send("RPUSH", "proxies", ...proxies);
  close();
}

export async function redisChannel(url: string, { isReported }: { isReported: boolean }): Promise<Channel> {
  const { send, close } = await connectRedis(Number(new URL(url).port));
  const lease = await send("SCRIPT", "LOAD", leaseScript);
  const report = await send("SCRIPT", "LOAD", reportScript);
  const reports = new Set<Promise<string>>();
  return {
    async ask() {
      const id = await send("EVALSHA", lease, "0");
      if (!id.startsWith("l_")) throw new Error(`Redis answered ${id}`);
      if (!isReported) return 1;
      const reported = send("EVALSHA", report, "1", id, "200");
      reports.add(reported);
      void reported.finally(() => reports.delete(reported));
      return 1;
    },
    async close() {
      await Promise.all(reports);
      close();
    },
  };
}

/** Understands replies of one line or one string. */
async function connectRedis(port: number): Promise<{ send: Send; close(): void }> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  const waiting: { resolve(reply: string): void; reject(error: Error): void }[] = [];
  const fail = (error: Error): void => {
    for (const each of waiting.splice(0)) each.reject(error);
  };
  let unread = "";
  let unsent: string[] = [];
  socket.on("error", fail).on("close", () => fail(new Error("Redis closed the connection")));
  socket.setEncoding("latin1").on("data", (chunk: string) => {
    unread += chunk;
    let at = 0;
    for (let end = unread.indexOf("\r\n"); end >= 0; end = unread.indexOf("\r\n", at)) {
      const line = unread.slice(at + 1, end);
      const isString = unread[at] === "$";
      const next = isString ? end + 2 + Number(line) + 2 : end + 2;
      if (next > unread.length) break;
      const reply = waiting.shift();
      if (unread[at] === "-") reply?.reject(new Error(line));
      else reply?.resolve(isString ? unread.slice(end + 2, next - 2) : line);
      at = next;
    }
    unread = unread.slice(at);
  });
  const flush = (): void => {
    socket.write(unsent.join(""), "latin1");
    unsent = [];
  };
  return {
    send: (...words) => {
      if (unsent.length === 0) setImmediate(flush);
      unsent.push(`*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`);
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
    close: () => socket.destroy(),
  };
}
