// `npm run bench -- <name>`: benchmarks are run manually, on a quiet machine. None is a test.

import { benchAudit } from "./audit.ts";
import { benchBandit } from "./bandit.ts";
import { benchDecide } from "./decide.ts";
import { benchFetch } from "./fetch.ts";
import { benchGateway } from "./gateway.ts";
import { benchLease } from "./lease.ts";
import { benchLists } from "./lists.ts";
import { benchMillion } from "./million.ts";
import { benchPools } from "./pools.ts";
import { benchSoak } from "./soak.ts";
import { benchAll } from "./suite.ts";

const benches: Record<string, () => void | Promise<void>> = {
  bandit: benchBandit,
  decide: benchDecide,
  fetch: benchFetch,
  gateway: benchGateway,
  lease: benchLease,
  all: benchAll,
  lists: benchLists,
  audit: benchAudit,
  million: benchMillion,
  pools: benchPools,
  soak: benchSoak,
};

const name = process.argv[2] ?? "";
const bench = benches[name];
if (bench === undefined) {
  console.error(`npm run bench -- <name>, where <name> is one of: ${Object.keys(benches).join(", ")}`);
  process.exitCode = 2;
} else await bench();
