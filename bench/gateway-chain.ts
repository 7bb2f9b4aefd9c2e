// proxy-chain with parents, one after the other, in a process of its own. The parents' ports are the arguments.
import { Server } from "proxy-chain";

const parents = process.argv.slice(2);
let turn = 0;
const server = new Server({
  port: 0,
  host: "127.0.0.1",
  prepareRequestFunction: () => ({ upstreamProxyUrl: `http://127.0.0.1:${parents[turn++ % parents.length]}` }),
});
await server.listen();
process.send?.(server.port);
process.on("disconnect", () => process.exit());
