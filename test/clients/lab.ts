// The lab for clients in other languages: for each row of clients/classification.json a proxy that goes wrong, and one
// good proxy beside it. Every language gets paths of its own, because only the first request for a path goes wrong.
import { deadPort, firstly, type LabProxy, startLabProxy, startTarget } from "../client/lab.ts";
import { labCases } from "../client/lab-cases.ts";
import { readClassification, type Transport } from "../docs/classification.ts";

/** As the languages read it: JSON in the variable `LAB`. */
export interface LabRow {
  phase: string;
  what: string;
  transport: Transport;
  class: string;
  next: string;
  url: string;
  bad: string;
  good: string;
}

export interface Lab {
  rows: LabRow[];
  stop(): Promise<void>;
}

/** @param without rows that this language's client cannot have, each for a reason that its test gives. */
export async function startLab(language: string, without: readonly string[]): Promise<Lab> {
  const root = new URL("../../", import.meta.url).pathname;
  const [plain, secure, good] = [
    await startTarget({ secure: false }),
    await startTarget({ secure: true }),
    await startLabProxy(),
  ];
  const bad: LabProxy[] = [];
  const rows: LabRow[] = [];
  for (const { transports, ...row } of readClassification(root).cases) {
    const { target, proxy, dead } = labCases[row.what] ?? {};
    if (without.includes(row.what)) continue;
    for (const transport of transports) {
      const wrong = await startLabProxy();
      bad.push(wrong);
      proxy?.(wrong);
      const scheme = transport === "SOCKS" ? "socks5" : "http";
      const site = transport === "TLS" ? secure : plain;
      const path = `/${language}/${rows.length}`;
      if (target !== undefined) site.plays.set(path, firstly(target));
      const [badPort, goodPort] = [dead ? await deadPort() : wrong.port, good.port];
      rows.push({
        ...row,
        transport,
        url: site.url + path,
        bad: `${scheme}://127.0.0.1:${badPort}`,
        good: `${scheme}://127.0.0.1:${goodPort}`,
      });
    }
  }
  return { rows, stop: async () => void (await Promise.all([plain, secure, good, ...bad].map((each) => each.stop()))) };
}
