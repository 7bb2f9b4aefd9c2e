// `remuda key rotate`: a new key for the sealed secrets.
import type { Command } from "commander";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { addSeal, keyFileOf, readKey } from "../runtime/key-file.ts";
import { sealAnew } from "../services/picker/installation.ts";
import { print, printJson } from "./output.ts";
import { withStopped } from "./stopped.ts";

export function addKeys(program: Command, config: () => Config): void {
  const key = program.command("key").description("the installation's key, which seals the proxies' passwords");
  key
    .command("rotate")
    .description("seal all secrets with a new key, while no picker runs; proxies keep their ids")
    .option("--json", "print JSON")
    .action(async ({ json }: { json?: true }) => {
      const settings = config();
      const path = keyFileOf(settings.dataDir);
      if (readKey(settings.dataDir) === undefined)
        throw new Fault("fix-setup", `there is no key ${path}. The first start makes it; a lost one must be restored.`);
      const entries = await withStopped(settings, async (bus) => {
        const { key: added, finish } = addSeal(settings.dataDir);
        const sealed = await sealAnew(bus, added);
        finish();
        return sealed;
      });
      if (json) return printJson({ rotated: true, entries });
      print(
        `${entries} entries are sealed with the new key. Copy ${path} to the data directory of every other picker.`,
      );
      print("Keep a copy of it apart. An earlier backup needs the key file of its time.");
    });
}
