// The examples in each command's --help.
import type { Command } from "commander";

/** By the command's words. */
export const examples: Readonly<Record<string, readonly string[]>> = {
  up: ["npx remuda up", "REMUDA_DATA_DIR=/var/lib/remuda REMUDA_NATS_PORT=0 npx remuda up"],
  run: ["REMUDA_NATS_URL=nats://10.0.0.5:4222 npx remuda run picker"],
  env: ['eval "$(npx remuda env)"'],
  "user add": ["npx remuda user add worker-7"],
  "user list": ["npx remuda user list"],
  "user quota": ["npx remuda user quota worker-7 --open-leases 100"],
  "user rotate": ["npx remuda user rotate worker-7"],
  "user remove": ["npx remuda user remove worker-7"],
  "user conf": ["npx remuda user conf --out users.conf"],
  "proxies add": [
    "npx remuda proxies add proxies.txt",
    "curl -s https://example.com/list.csv | npx remuda proxies add -",
  ],
  "proxies list": [
    "npx remuda proxies list --bad",
    "npx remuda proxies list --state cooling --sort until",
    "npx remuda proxies list --all --json",
  ],
  "proxies export": ["npx remuda proxies export > proxies.json"],
  "proxies get": ["npx remuda proxies get p_q2mTxT6gTJm6sA1d"],
  "proxies retire": ["npx remuda proxies retire p_q2mTxT6gTJm6sA1d --reason 'too slow'"],
  "proxies rest": ["npx remuda proxies rest p_q2mTxT6gTJm6sA1d --for 10m"],
  "proxies revive": ["npx remuda proxies revive p_q2mTxT6gTJm6sA1d"],
  lease: ["npx remuda lease --uses 10 --wait 5s", "npx remuda lease --label country=DE --scheme http https --json"],
  renew: ["npx remuda renew l_… --ttl 5m"],
  report: ["npx remuda report l_… --status 200", "npx remuda report l_… --n 2 --error ECONNREFUSED"],
  release: ["npx remuda release l_… --used 3"],
  leases: ["npx remuda leases --holder worker-7 --sort ends"],
  exec: [
    "npx remuda exec -- curl -sf https://example.com/",
    "npx remuda exec --uses 20 --wait 30s --label country=DE -- python3 scrape.py",
  ],
  "pool open": [`npx remuda pool open --pool shop --policy '{"rate": {"limit": 10}}'`],
  "pool get": ["npx remuda pool get --pool shop"],
  "pool policy": ["npx remuda pool policy", `npx remuda pool policy '{"concurrency": 1}'`],
  "pool stats": ["npx remuda pool stats --json"],
  "pool delete": ["npx remuda pool delete --pool shop", "npx remuda pool delete --pool shop --yes"],
  "pool close": ["npx remuda pool close --pool shop --drain"],
  "pool list": ["npx remuda pool list"],
  "sources list": ["npx remuda sources list --pool shop"],
  "sources put": [
    `npx remuda sources put '{"name": "vendor", "from": {"kind": "url", "url": "https://example.com/list"}}'`,
  ],
  "sources read": ["npx remuda sources read vendor"],
  "sources remove": ["npx remuda sources remove vendor"],
  "token get": ["npx remuda token get --wait 5s"],
  "token reject": ["npx remuda token reject t_…"],
  "token history": ["npx remuda token history --from 1h"],
  watch: [
    "npx remuda watch",
    "npx remuda watch --type RestBegan RestEnded --from 1h",
    "npx remuda watch --json | jq .event",
  ],
  "audit verify": ["npx remuda audit verify", "npx remuda audit verify --file range.ndjson --public-key public.pem"],
  "audit explain": [
    "npx remuda audit explain p_… --at 14:03",
    "npx remuda audit explain l_…",
    "npx remuda audit explain 14:03",
  ],
  "audit users": ["npx remuda audit users --from -1d"],
  "audit state": ["npx remuda audit state --at -1h"],
  "audit diff": ["npx remuda audit diff --from -1h"],
  "audit events": ["npx remuda audit events --type RestBegan RestEnded --from -1h"],
  "audit export": ["npx remuda audit export --format parquet --output events.parquet --from -1d"],
  "audit sql": [`npx remuda audit sql "select class, count(*) from uses group by class"`],
  "audit what-if": [`npx remuda audit what-if --policy '{"rate": {"limit": 20}}' --from -1d`],
  "audit report": ["npx remuda audit report --html report.html --from -1d"],
  "audit seal": ["npx remuda audit seal --output january.ndjson --from 2026-01-01 --to 2026-02-01"],
  "audit key": ["npx remuda audit key > public.pem"],
  "audit head": ["npx remuda audit head > head.json"],
  backup: ["npx remuda backup /mnt/backup/$(date +%F) --key /mnt/other/remuda.key"],
  restore: ["npx remuda restore /mnt/backup/2026-01-31 --key /mnt/other/remuda.key"],
  "key rotate": ["npx remuda key rotate"],
  completion: ["npx remuda completion bash > ~/.local/share/bash-completion/completions/remuda"],
  doctor: ["npx remuda doctor", "npx remuda doctor --json"],
};

export function addExamples(program: Command): void {
  const walk = (command: Command, words: readonly string[]): void => {
    const lines = examples[words.join(" ")];
    if (lines !== undefined)
      command.addHelpText("after", `\nFor example:\n${lines.map((line) => `  ${line}`).join("\n")}`);
    for (const each of command.commands) walk(each, [...words, each.name()]);
  };
  walk(program, []);
}
