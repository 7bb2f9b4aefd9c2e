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
  /** Settings for a new stream. An operator may change them later. */
  initial: Record<string, unknown>;
}

export async function ensureStream(bus: Bus, settings: StreamSettings): Promise<StreamInfo> {
  const present = await ifStream(streamInfo(bus, settings.name));
  const info = present ?? (await create(bus, settings));
  for (const [key, expected] of Object.entries(settings.fixed)) {
    const actual = info.config[key];
    if (isSame(actual, expected)) continue;
    throw new Fault(
      "fix-setup",
      `The JetStream stream ${settings.name} has ${key} ${JSON.stringify(actual ?? null)}, and Remuda needs ${JSON.stringify(expected)}. ` +
        "Fix it, or point REMUDA_NATS_URL at another account.",
    );
  }
  const { adjusted = {} } = settings;
  const differs = Object.keys(adjusted).some((key) => !isSame(info.config[key], adjusted[key]));
  return differs ? update(bus, { ...info.config, ...adjusted, name: settings.name }) : info;
}

async function update(bus: Bus, config: { name: string }): Promise<StreamInfo> {
  try {
    return await callJs<StreamInfo>(bus, `STREAM.UPDATE.${config.name}`, config);
  } catch (error) {
    if (!(error instanceof JsError)) throw error;
    throw new Fault("fix-setup", `JetStream refuses new settings for the stream ${config.name}: ${error.message}.`, {
      cause: error,
    });
  }
}

async function create(bus: Bus, { name, fixed, adjusted, initial }: StreamSettings): Promise<StreamInfo> {
  try {
    return await callJs<StreamInfo>(bus, `STREAM.CREATE.${name}`, { name, ...initial, ...adjusted, ...fixed });
  } catch (error) {
    // Another process may have been faster.
    if (isJsError(error, jsErrors.streamNameInUse)) return streamInfo(bus, name);
    if (isJsError(error, jsErrors.insufficientStorage)) {
      throw new Fault(
        "fix-setup",
        `JetStream has no room for the stream ${name} (max_bytes ${String(initial["max_bytes"])}). Give it more, or set REMUDA_LEDGER_BYTES_MAX lower.`,
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
