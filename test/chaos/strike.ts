// How each fault is done to the stage.
import { setTimeout as sleep } from "node:timers/promises";
import { ledgerStream } from "../../protocol/subjects.ts";
import { eventually } from "../kit/poll.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import type { Fault, Part } from "./faults.ts";
import type { Stage } from "./stage.ts";

export interface Struck {
  /**
   * Throws until the service shows the effect that it must show before the fault is undone. Absent: it serves requests.
   */
  shows?: () => Promise<void> | void;
  /** Undoes it. Absent: nothing is left of it. */
  undo?: () => Promise<void> | void;
  /** Throws until the service has dealt with it, though requests were served before. */
  isOver?: () => void;
}

interface Ports {
  stage: Stage;
  /** Its leader is struck. It has enough proxies for long answers. */
  pool: string;
}

const maxPayload = 4 * 1024 ** 2;
/** More than the buffers of a connection take, in answers of one request. */
const fillRequests = 100;

export async function strike(fault: Fault, { stage, pool }: Ports): Promise<Struck> {
  switch (fault.kind) {
    case "signal": {
      const { part, signal } = fault;
      if (part === "all") await stage.signalAll(signal);
      else (await signaller(part))(signal);
      return {};
    }
    case "freeze": {
      const { part } = fault;
      const send = await signaller(part);
      send("SIGSTOP");
      const until = performance.now() + fault.forMs;
      const undo = async (): Promise<void> => {
        await sleep(Math.max(0, until - performance.now()));
        send("SIGCONT");
      };
      return { undo, ...(part === "leader" || part === "standby" ? {} : { shows() {} }) };
    }
    case "connection": {
      const relay = stage.relay(await nameOf(fault.part));
      const { accepted } = relay;
      if (fault.how === "cut") relay.cut(fault.name);
      if (fault.how === "half-open") relay.stopReading(fault.name);
      if (fault.how === "deaf") relay.swallowAnswers(fault.name);
      if (fault.how === "full") {
        relay.stopReadingClients(fault.name);
        await fill();
      }
      const isOver = (): void => {
        if (relay.accepted === accepted) throw new Error(`"${fault.name}" was not dialled again`);
      };
      return { isOver };
    }
    case "clock": {
      const leader = await nameOf("leader");
      for (const name of ["first", "second"] as const)
        if (fault.takeover !== "followed" || name === leader) stage.signal(name, "SIGKILL");
      // Of three brokers, another one leads from now on: as if its clock differed from the last one's.
      for (const pid of await stage.brokerPids("leader")) if (stage.nodes === 3) process.kill(pid, "SIGKILL");
      stage.clock.step(fault.byMs);
      if (fault.takeover === "cold, all clocks") stage.setClocks(stage.clock.offMs);
      return {};
    }
    case "stream":
      if (fault.stream !== ledgerStream) {
        await stage.deleteStream(fault.stream);
        await stage.signalAll(fault.signal);
        return {};
      }
      // Only a backup brings it back. Until then nothing may be led.
      await stage.restartWithout(fault.stream, fault.signal);
      return {
        async shows() {
          const { code, message = "" } = await ask(`remuda.pool.get.${pool}`);
          if (code !== "unavailable" || !message.includes("is gone")) throw new Error(`${code}: ${message}`);
        },
        undo: () => stage.restore(fault.signal),
      };
    case "payload":
      await stage.setMaxPayload(fault.bytesMax);
      return {
        async shows() {
          const answer = await (await fetch(`${stage.httpUrl}/readyz`)).text();
          if (!answer.includes("max_payload: 4MB")) throw new Error(`/readyz: ${answer}`);
        },
        undo: () => stage.setMaxPayload(maxPayload),
      };
  }

  async function signaller(part: Exclude<Part, "all">): Promise<(signal: NodeJS.Signals) => void> {
    if (part !== "broker" && part !== "majority") {
      const name = await nameOf(part);
      return (signal) => stage.signal(name, signal);
    }
    const pids = await stage.brokerPids(part === "broker" ? "leader" : part);
    return (signal) => pids.forEach((pid) => void process.kill(pid, signal));
  }

  async function nameOf(part: Exclude<Part, "broker" | "majority" | "all">): Promise<ReturnType<Stage["nameOf"]>> {
    const term = await eventually(async () => {
      const { leader } = await ask(`remuda.pool.stats.${pool}`);
      if (leader === undefined) throw new Error(`${pool} has no leader`);
      return leader.term;
    });
    return stage.nameOf(part, { pool, term });
  }

  async function ask(subject: string): Promise<{ leader?: { term: number }; code?: string; message?: string }> {
    const nats = await connectRaw(stage.natsUrl);
    try {
      const answer = await nats.request(subject, "", { timeoutMs: 2000 });
      return answer.status === 503 ? { code: "no-responders" } : answer.json();
    } finally {
      await nats.close();
    }
  }

  /** Asks for many long answers, and reads none. */
  async function fill(): Promise<void> {
    const nats = await connectRaw(stage.natsUrl);
    for (let i = 0; i < fillRequests; i++)
      nats.publish(`remuda.proxies.list.${pool}`, '{"limit":1000}', { reply: `${nats.inbox}.none` });
    await nats.flush();
    await nats.close();
  }
}
