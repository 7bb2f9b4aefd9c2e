// A list in a vendor's format: JSON objects with the exit and the place deeply nested. The addresses are in a range
// that no public network routes (RFC 6598), and are only read.

/** Every eighth proxy shares the exit of the previous one. */
export function vendorList(count: number): string {
  const address = (i: number): string => `100.64.${i >> 8}.${i & 255}`;
  const entries = Array.from({ length: count }, (_, i) => ({
    protocol: ["http", "socks4", "socks5"][i % 3],
    username: null,
    password: null,
    host: address(i),
    port: 1080 + (i % 7),
    timeout: 0.18,
    exit_ip: address(i % 8 === 7 ? i - 1 : i),
    asn: { autonomous_system_number: 64_496, autonomous_system_organization: "Example" },
    geolocation: {
      city: { names: { en: "Berlin" } },
      country: { iso_code: ["DE", "FR", "SE"][i % 3], names: { en: "Somewhere" } },
      registered_country: { iso_code: "US" },
    },
  }));
  return JSON.stringify(entries);
}
