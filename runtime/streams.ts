// Streams and buckets, created or checked. An existing one with other settings is a clear error: a ledger that forgets,
// or keeps its messages in memory, would silently break every promise.
import type { Bus } from "./bus.ts";
import { Fault } from "./fault.ts";
import { callJs, ifStream, isJsError, JsError, jsErrors, type StreamInfo, streamInfo } from "./jetstream-api.ts";

export interface StreamSettings {
  name: string;
  /** Settings that must match exactly. */
  fixed: Record<string, unknown>;
  /** Settings that are changed where they differ. */
  adjusted?: Record<string, unknown>;
  /** Bounds that are raised where they are lower. */
  raised?: Record<string, number>;
  /** Settings for a new stream. An operator may change them later. */
  initial: Record<string, unknown>;
}

type Config = StreamInfo["config"];

/** Creates or corrects the stream. @throws Fault "fix-setup" if it cannot be used as it is. */
export async function ensureStream(bus: Bus, settings: StreamSettings): Promise<StreamInfo> {
  const present = await ifStream(streamInfo(bus, settings.name));
  const info = present ?? (await create(bus, settings));
  const [wrong] = wrongIn(info.config, settings);
  if (wrong !== undefined) {
    const todo = "Fix it, or point REMUDA_NATS_URL at another account.";
    throw new Fault("fix-setup", `${wrongSetting(settings.name, wrong)}. ${todo}`);
  }
  const changes = changesTo(info.config, settings);
  return changes === undefined ? info : update(bus, { ...info.config, ...changes, name: settings.name });
}

export interface WrongSetting {
  key: string;
  actual: unknown;
  expected: unknown;
}

/** The settings that must match, and do not. */
export function wrongIn(config: Config, { fixed }: Pick<StreamSettings, "fixed">): WrongSetting[] {
  return Object.entries(fixed)
    .map(([key, expected]) => ({ key, actual: config[key], expected }))
    .filter(({ actual, expected }) => !isSame(actual, expected));
}

export function wrongSetting(stream: string, { key, actual, expected }: WrongSetting): string {
  return (
    `The JetStream stream ${stream} has ${key} ${JSON.stringify(actual ?? null)}, ` +
    `and Remuda needs ${JSON.stringify(expected)}`
  );
}

/** Undefined if nothing is to be changed. */
export function changesTo(config: Config, { adjusted = {}, raised = {} }: StreamSettings): Config | undefined {
  const differs = Object.entries(adjusted).filter(([key, value]) => !isSame(config[key], value));
  const lower = Object.entries(raised).filter(([key, bound]) => {
    const actual = Number(config[key] ?? -1);
    return actual > 0 && actual < bound; // -1 is no bound.
  });
  const changes = [...differs, ...lower];
  return changes.length === 0 ? undefined : Object.fromEntries(changes);
}

async function update(bus: Bus, config: { name: string }): Promise<StreamInfo> {
  try {
    return await callJs<StreamInfo>(bus, `STREAM.UPDATE.${config.name}`, config);
  } catch (error) {
    if (!(error instanceof JsError)) throw error;
    const what = `JetStream refuses new settings for the stream ${config.name}: ${error.message}.`;
    const todo = isJsError(error, jsErrors.insufficientStorage)
      ? " Give it more, or set REMUDA_LEDGER_BYTES_MAX lower."
      : "";
    throw new Fault("fix-setup", `${what}${todo}`, { cause: error });
  }
}

async function create(bus: Bus, { name, fixed, adjusted, raised, initial }: StreamSettings): Promise<StreamInfo> {
  try {
    const config = { name, ...initial, ...raised, ...adjusted, ...fixed };
    return await callJs<StreamInfo>(bus, `STREAM.CREATE.${name}`, config);
  } catch (error) {
    // Another process may have been faster.
    if (isJsError(error, jsErrors.streamNameInUse)) return streamInfo(bus, name);
    if (isJsError(error, jsErrors.insufficientStorage)) {
      throw new Fault(
        "fix-setup",
        `JetStream has no room for the stream ${name} (max_bytes ${String(raised?.["max_bytes"] ?? initial["max_bytes"])}). Give it more, or set REMUDA_LEDGER_BYTES_MAX lower.`,
        { cause: error },
      );
    }
    if (error instanceof JsError)
      throw new Fault("fix-setup", `JetStream refuses the stream ${name}: ${error.message}.`, { cause: error });
    throw error;
  }
}

function isSame(actual: unknown, expected: unknown): boolean {
  return JSON.stringify(normal(actual)) === JSON.stringify(normal(expected));
}

/** To a NATS server, absent, false and empty are the same, and so is its default value. */
function normal(value: unknown): unknown {
  return value === undefined || value === false || value === "" || value === "default" ? null : value;
}
