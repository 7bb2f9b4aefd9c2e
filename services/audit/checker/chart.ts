// The lifecycle of a proxy, written down a second time from the design: what may follow what. `from type to`.

const lines = `
available LeaseGranted in-use
available RestBegan    cooling exhausted
available ProxyRetired retired
in-use    LeaseGranted in-use
in-use    LeaseClosed  in-use available
in-use    RestBegan    cooling exhausted
in-use    ProxyRetired retired
cooling   LeaseClosed  cooling
cooling   RestBegan    cooling exhausted
cooling   RestEnded    available in-use
cooling   ProxyRetired retired
exhausted LeaseClosed  exhausted
exhausted RestBegan    exhausted
exhausted RestEnded    available in-use
exhausted ProxyRetired retired
retired   ProxyAdded   available in-use cooling exhausted
retired   LeaseClosed  retired
`;

const legal = new Map<string, Map<string, Set<string>>>();
for (const line of lines.trim().split("\n")) {
  const [from = "", type = "", ...to] = line.trim().split(/\s+/);
  const types = legal.get(from) ?? new Map<string, Set<string>>();
  types.set(type, new Set(to));
  legal.set(from, types);
}

export function isLegal(from: string, type: string, to: string): boolean {
  return legal.get(from)?.get(type)?.has(to) === true;
}
