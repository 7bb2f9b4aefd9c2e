// A process that owns a broker, for tests that kill it: `node owner-process.ts <dataDir> <nats-server>`. It prints one
// line of JSON: the broker's address, or its Fault. It stops in order when its standard input ends.

import { openBroker } from "../../runtime/broker/broker.ts";
import { Fault } from "../../runtime/fault.ts";

const [dataDir = "", binary = ""] = process.argv.slice(2);
try {
  const broker = await openBroker({ dataDir, host: "127.0.0.1", port: 0, binary, say: () => {} });
  console.log(JSON.stringify({ pid: broker.pid, port: broker.port, how: broker.how }));
  for await (const _ of process.stdin);
  await broker.stop();
} catch (error) {
  if (!(error instanceof Fault)) throw error;
  console.log(JSON.stringify({ code: error.code, message: error.message }));
}
