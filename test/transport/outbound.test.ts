// Remuda's own requests must not reach a service that only this machine can reach.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { LeaseReply } from "../../protocol/lease.ts";
import { probeThrough } from "../../services/sources/probe.ts";
import { readUrl } from "../../services/sources/url.ts";
import { NotAllowed, outboundWith, type Resolve } from "../../transport/outbound.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";

const nothing = { hosts: [], blocks: [] };

describe("a target", () => {
  const strict = outboundWith(nothing);

  test.each([
    ...["127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"],
    ...["100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255", "198.18.0.1"],
    ...["[::1]", "::", "[fe80::1]", "fe80::1%eth0", "fd00:ec2::254", "[::ffff:127.0.0.1]", "::ffff:a9fe:a9fe"],
    ...["64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "localhost", "localhost.", "api.localhost", "LOCALHOST"],
  ])("is refused at %s", (host) => expect(strict.allowsTarget(host)).toBe(false));

  test.each(["1.1.1.1", "172.32.0.1", "169.253.1.1", "[2606:4700::1111]", "example.com", "localhost.example"])(
    "is allowed at %s",
    (host) => expect(strict.allowsTarget(host)).toBe(true),
  );

  test("is allowed where the operator says so, and nowhere else", () => {
    const some = outboundWith({ hosts: ["api.localhost", "*.corp.example"], blocks: [["10.1.0.0", 16]] });
    expect(["10.1.9.9", "10.2.0.1", "api.localhost", "localhost"].map(some.allowsTarget)).toEqual([
      true,
      false,
      true,
      false,
    ]);
  });
});

test("a proxy may be on loopback or in a private network, and not at a link-local or metadata address", () => {
  const { allowsProxy } = outboundWith(nothing);
  expect(["127.0.0.1", "192.168.8.1", "localhost", "5.6.7.8", "[::1]"].map(allowsProxy)).not.toContain(false);
  expect(
    ["169.254.169.254", "[fe80::1]", "100.100.100.200", "fd00:ec2::254", "0.0.0.0"].map(allowsProxy),
  ).not.toContain(true);
});

describe("a name", () => {
  const known: Record<string, string[]> = {
    "public.example": ["93.184.216.34"],
    "inner.example": ["10.0.0.7"],
    "both.example": ["93.184.216.34", "169.254.169.254"],
  };
  const resolve: Resolve = async (host) => {
    const found = known[host];
    if (found === undefined) throw Object.assign(new Error(`no such name: ${host}`), { code: "ENOTFOUND" });
    return found.map((address) => ({ address, family: 4 }));
  };
  const { route, lookupTarget } = outboundWith({ hosts: ["*.onion"], blocks: [] }, resolve);

  test("that has any address inside is refused", async () => {
    await expect(route("5.6.7.8", "inner.example")).rejects.toThrow(NotAllowed);
    await expect(route("5.6.7.8", "both.example")).rejects.toThrow(NotAllowed);
  });

  test("is passed on by a proxy outside, which resolves it itself", async () => {
    expect(await route("5.6.7.8", "public.example")).toBe("public.example");
    expect(await route("5.6.7.8", "only-there.example")).toBe("only-there.example");
  });

  test("is replaced by its checked address for a proxy inside, which could resolve it to another one", async () => {
    expect(await route("127.0.0.1", "public.example")).toBe("93.184.216.34");
    expect(await route("inner.example", "public.example")).toBe("93.184.216.34");
    await expect(route("127.0.0.1", "only-there.example")).rejects.toThrow(/no such name/);
    expect(await route("127.0.0.1", "shop.onion")).toBe("shop.onion");
  });

  test("is checked when a socket looks it up", async () => {
    const look = (host: string) =>
      new Promise((done) => lookupTarget(host, {}, (error, address) => done(error?.name ?? address)));
    expect(await Promise.all(["public.example", "both.example", "gone.example"].map(look))).toEqual([
      "93.184.216.34",
      "NotAllowed",
      "Error",
    ]);
  });
});

describe("a service of this machine", () => {
  let asked = 0;
  let server: Server;
  let secretUrl: string;
  let proxy: ForwardProxy;
  const strict = outboundWith(nothing);
  const signal = AbortSignal.timeout(60_000);

  beforeAll(async () => {
    server = createServer((_request, response) => {
      asked += 1;
      response.end("1.2.3.4:80");
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    secretUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/secret`; // It listens on TCP.
    proxy = await startForwardProxy({ exit: "127.0.0.1" });
  });
  afterEach(() => {
    expect(asked).toBe(0);
  });
  afterAll(async () => {
    server.close();
    await proxy.stop();
  });

  const read = (url: string) =>
    readUrl({ kind: "url", url, headers: {}, timeoutMs: 5000 }, undefined, { signal, outbound: strict });

  test("is not read as a list", async () => {
    await expect(read(secretUrl)).rejects.toThrow(/REMUDA_OUTBOUND_ALLOW/);
    await expect(read(secretUrl.replace("127.0.0.1", "localhost"))).rejects.toThrow(/REMUDA_OUTBOUND_ALLOW/);
  });

  test("is not probed through a proxy of this machine", async () => {
    const { hostname: host, port } = new URL(proxy.url);
    const lease: LeaseReply = {
      leaseId: "l_1",
      pool: "p",
      proxyId: "p_1",
      url: proxy.url,
      scheme: "http",
      host,
      port: Number(port),
      ...{ uses: 1, epoch: 0, grantedAt: 0, expiresAt: 90_000, leftMs: 90_000, labels: {} },
    };
    const probing = { url: secretUrl, perMinute: 1, timeoutMs: 5000 };
    const outcome = await probeThrough(lease, probing, { signal, outbound: strict });
    expect(outcome).toMatchObject({ reason: "client-abort" });
  });

  test.each(["http", "https"])(
    "does not get a name (%s) to resolve when the name of a proxy outside has become an address inside",
    async (scheme) => {
      const outside = { address: "93.184.216.34", family: 4 };
      let looks = 0;
      const resolve: Resolve = async (host) =>
        host === "proxy.example" && ++looks > 1 ? [{ address: "127.0.0.1", family: 4 }] : [outside];
      const { port } = new URL(proxy.url);
      const lease: LeaseReply = {
        ...{ leaseId: "l_1", pool: "p", proxyId: "p_1", url: "", scheme: "http", host: "proxy.example" },
        ...{ port: Number(port), uses: 1, epoch: 0, grantedAt: 0, expiresAt: 90_000, leftMs: 90_000, labels: {} },
      };
      const before = proxy.requests;
      const probing = { url: `${scheme}://target.example/`, perMinute: 1, timeoutMs: 5000 };
      const outcome = await probeThrough(lease, probing, { signal, outbound: outboundWith(nothing, resolve) });
      expect(outcome).toMatchObject({ reason: "proxy-error" });
      expect([looks, proxy.requests]).toEqual([2, before]);
    },
  );
});
