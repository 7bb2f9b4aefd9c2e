// Loaded before a process begins: this machine's clock, as that process sees it, is wrong by REMUDA_CHAOS_CLOCK_MS.
const offMs = Number(process.env["REMUDA_CHAOS_CLOCK_MS"] ?? 0);
const { now } = Date;
Date.now = () => now() + offMs;
