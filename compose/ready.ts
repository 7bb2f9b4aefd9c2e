// The health check of the api's container: does /readyz say that every open pool is led and caught up? It asks with a
// key of the api's own users file, since in a container HTTP listens beyond loopback. Its output has no key in it.
import { readConfig } from "../runtime/config.ts";
import { readUsers } from "../runtime/users.ts";

const answerMsMax = 6000;

const { natsUsers = "", httpPort } = readConfig(process.env);
const key = readUsers(natsUsers)?.find((user) => user.key !== undefined)?.key;
try {
  const response = await fetch(`http://127.0.0.1:${httpPort}/readyz`, {
    headers: { authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(answerMsMax),
  });
  console.log(`${response.status} ${await response.text()}`);
  process.exitCode = response.ok ? 0 : 1;
} catch (error) {
  console.log(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
