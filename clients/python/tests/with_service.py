"""The client with a real service (REMUDA_HTTP_URL), real proxies (PROXIES) and a real site (SITE, SECURE_SITE).

Each test has a pool of its own, and checks in the end that every request at the site is a use in that pool.
"""

import asyncio
import json
import os
import ssl
import threading
import time
import unittest
import urllib.request

import aiohttp
import httpx
import requests

from remuda_client import AsyncClient, Client, RemudaRefusal, RequestFailed
from remuda_client import aiohttp as for_aiohttp
from remuda_client.httpx import AsyncRemudaTransport, RemudaTransport
from remuda_client.requests import RemudaAdapter

API = os.environ["REMUDA_HTTP_URL"]
SITE, SECURE = os.environ["SITE"], os.environ["SECURE_SITE"]
PROXIES = json.loads(os.environ["PROXIES"])
DEAD, SOCKS = os.environ["DEAD_PROXY"], os.environ["SOCKS_PROXY"]
CA = os.environ["CA"]
TRUSTING = ssl.create_default_context(cafile=CA)
FREE = {"rate": None, "backoff": {"kind": "none"}, "concurrency": None}


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(API + path, data, method=method)) as reply:
        return json.load(reply)


class WithService(unittest.TestCase):
    def setUp(self):
        self.pool = "python-" + self._testMethodName.replace("test_", "").replace("_", "-")[:50]

    def open(self, proxies=None, **policy):
        call("PUT", f"/v1/pools/{self.pool}", {"policy": {**FREE, **policy}})
        for each in proxies or PROXIES:  # In this order.
            call("POST", f"/v1/pools/{self.pool}/proxies", {"proxies": [each]})
        client = Client(pool=self.pool, target_context=TRUSTING)
        self.addCleanup(client.close)
        return client

    def expect(self, *, succeeded, failed=0, neutral=0):
        stats = call("GET", f"/v1/pools/{self.pool}/stats")
        told = {name: stats["outcomes"][name] for name in ("succeeded", "failed", "neutral", "ignored")}
        self.assertEqual(told, {"succeeded": succeeded, "failed": failed, "neutral": neutral, "ignored": 0})
        self.assertEqual((stats["leases"]["open"], stats["leases"]["expired"]), (0, 0))

    def test_lease_and_report(self):
        client = self.open()
        with client.lease(uses=3, session="a", wait=5) as lease:
            for _ in range(2):
                page = requests.get(f"{SITE}/seen", proxies=lease.proxies, timeout=lease.left, allow_redirects=False)
                lease.report(status=page.status_code, bytes=len(page.content))
            session = lease.proxy_id
        with client.lease(session="a") as lease:
            self.assertEqual(lease.proxy_id, session)
            lease.renew(ttl=60)
        with self.assertRaises(requests.RequestException):
            with client.lease() as lease:
                requests.get(f"{SITE}/seen", proxies={"http": DEAD}, timeout=lease.left)
        self.expect(succeeded=3, failed=1)

    def test_refusals(self):
        client = self.open(rate={"limit": 1, "windowMs": 60_000})
        with self.assertRaises(RemudaRefusal) as caught:
            client.lease(labels={"no": "such"})
        self.assertEqual(caught.exception.code, "no-match")
        for _ in PROXIES:
            client.fetch(f"{SITE}/seen")
        with self.assertRaises(RemudaRefusal) as caught:
            client.fetch(f"{SITE}/seen", wait=0)
        self.assertEqual(caught.exception.code, "pool-exhausted")
        self.assertGreater(caught.exception.retry_after, 1)
        self.expect(succeeded=len(PROXIES))

    def test_fetch(self):
        client = self.open([DEAD, *PROXIES], strategy={"kind": "drain"})
        self.assertEqual(client.fetch(f"{SITE}/seen").text, "seen\n")  # The first proxy is dead.
        page = client.fetch(f"{SITE}/redirect/302?to=/seen")
        self.assertEqual((page.status, page.url), (200, f"{SITE}/seen"))
        self.assertEqual(client.fetch(f"{SECURE}/seen").text, "seen\n")
        self.assertEqual(client.fetch(f"{SITE}/seen", method="POST", body={"a": "b"}).status, 200)
        self.assertEqual(client.fetch(f"{SITE}/redirect/302", redirects=0).status, 302)
        stats = call("GET", f"/v1/pools/{self.pool}/stats")["outcomes"]
        self.expect(succeeded=6, failed=stats["failed"])
        self.assertGreaterEqual(stats["failed"], 1)

    def test_fetch_over_socks(self):
        client = self.open([SOCKS])
        self.assertEqual(client.fetch(f"{SITE}/seen").status, 200)
        self.assertEqual(client.fetch(f"{SECURE}/seen").status, 200)
        self.expect(succeeded=2)

    def test_the_caller_classifies(self):
        client = self.open()
        page = client.fetch(f"{SITE}/seen", outcome=lambda each: "blocked" if "seen" in each.text else None)
        self.assertEqual(page.status, 200)
        client.fetch(f"{SITE}/status/403", outcome=lambda each: "success")
        with self.assertRaises(KeyError):
            client.fetch(f"{SITE}/seen", outcome=lambda each: {}["x"])
        self.expect(succeeded=2, failed=1)

    def test_a_certificate_is_the_targets(self):
        self.open()
        with Client(pool=self.pool) as client, self.assertRaises(RequestFailed) as caught:
            client.fetch(f"{SECURE}/seen")
        self.assertEqual(caught.exception.reason, "target-error")
        self.expect(succeeded=0, neutral=1)

    def test_threads_share_a_client(self):
        client = self.open()
        threads = [threading.Thread(target=client.fetch, args=(f"{SITE}/seen",)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.expect(succeeded=8)

    def test_token(self):
        self.open(token={"source": {"url": f"{SITE}/seen", "value": {"regex": "(se+n)"}}, "minAgeMs": 0})
        client = Client(pool=self.pool)
        self.addCleanup(client.close)
        token = client.token(wait=10)
        self.assertEqual(token["value"], "seen")
        self.assertIn(client.reject_token(token["tokenId"])["action"], ("refreshing", "kept"))
        with client.lease(token=True, wait=10) as lease:
            self.assertEqual(lease.token["value"], "seen")

    def test_requests(self):
        client = self.open([DEAD, *PROXIES], strategy={"kind": "drain"})
        session = requests.Session()
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, RemudaAdapter(client, wait=5))
        self.assertEqual(session.get(f"{SITE}/redirect/302?to=/seen").text, "seen\n")
        self.assertEqual(session.get(f"{SECURE}/seen", verify=CA).text, "seen\n")
        with session.get(f"{SITE}/large/100000", stream=True) as page:
            self.assertEqual(sum(len(each) for each in page.iter_content(1000)), 100_000)
        with session.get(f"{SITE}/seen", stream=True):
            pass  # Not read: the status counts.
        failed = call("GET", f"/v1/pools/{self.pool}/stats")["outcomes"]["failed"]
        self.assertGreaterEqual(failed, 1)
        with requests.Session() as fresh, self.assertRaises(requests.RequestException):
            fresh.mount("https://", RemudaAdapter(client))
            fresh.get(f"{SECURE}/seen")  # Its certificate is not trusted.
        session.mount("http://", RemudaAdapter(client, outcome=lambda page: "blocked" if "seen" in page.text else None))
        self.assertEqual(session.get(f"{SITE}/seen").status_code, 200)
        failed = call("GET", f"/v1/pools/{self.pool}/stats")["outcomes"]["failed"]
        self.expect(succeeded=5, failed=failed, neutral=1)

    def test_httpx(self):
        client = self.open([DEAD, *PROXIES], strategy={"kind": "drain"})
        told = []

        def outcome(response):
            told.append(response.read())
            return "blocked" if response.url.path == "/large/3" else None

        transport = RemudaTransport(client, outcome=outcome, verify=CA)
        with httpx.Client(transport=transport, follow_redirects=True, trust_env=False) as session:
            self.assertEqual(session.get(f"{SITE}/redirect/302?to=/seen").text, "seen\n")
            self.assertEqual(session.get(f"{SECURE}/seen").text, "seen\n")
            self.assertEqual(session.get(f"{SITE}/large/3").text, "xxx")
            with session.stream("GET", f"{SITE}/seen"):
                pass
        self.assertEqual(told[-2], b"xxx")
        failed = call("GET", f"/v1/pools/{self.pool}/stats")["outcomes"]["failed"]
        self.assertGreaterEqual(failed, 2)
        self.expect(succeeded=4, failed=failed)

    def test_asyncio(self):
        self.open([DEAD, *PROXIES], strategy={"kind": "drain"})
        asyncio.run(self.in_asyncio())
        failed = call("GET", f"/v1/pools/{self.pool}/stats")["outcomes"]["failed"]
        self.assertGreaterEqual(failed, 2)
        self.expect(succeeded=11, failed=failed)

    async def in_asyncio(self):
        async def blocked(response):
            return "blocked" if "seen" in response.text else None

        async with AsyncClient(pool=self.pool, target_context=TRUSTING) as client:
            pages = await asyncio.gather(*[client.fetch(f"{SITE}/seen") for _ in range(4)])
            self.assertEqual({page.status for page in pages}, {200})
            self.assertEqual((await client.fetch(f"{SITE}/seen", outcome=blocked)).status, 200)
            async with client.lease(uses=2) as lease:
                await lease.report(status=200)
            async with httpx.AsyncClient(
                transport=AsyncRemudaTransport(client, verify=CA), follow_redirects=True, trust_env=False
            ) as session:
                self.assertEqual((await session.get(f"{SITE}/redirect/302?to=/seen")).text, "seen\n")
                self.assertEqual((await session.get(f"{SECURE}/seen")).text, "seen\n")
            async with aiohttp.ClientSession() as session:
                async with for_aiohttp.request(session, client, "GET", f"{SITE}/redirect/302?to=/seen") as page:
                    self.assertEqual(await page.text(), "seen\n")
                async with for_aiohttp.request(session, client, "GET", f"{SECURE}/seen", ssl=TRUSTING) as page:
                    self.assertEqual(await page.text(), "seen\n")

    def test_a_cancelled_task_cancels_its_lease_request(self):
        self.open(rate={"limit": 1, "windowMs": 60_000})

        async def waits():
            client = AsyncClient(pool=self.pool)
            for _ in PROXIES:
                await client.fetch(f"{SITE}/seen")
            waiting = asyncio.ensure_future(client.fetch(f"{SITE}/seen", wait=60))
            while call("GET", f"/v1/pools/{self.pool}/stats")["waiting"] != 1:
                await asyncio.sleep(0.02)
            waiting.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await waiting

        asyncio.run(waits())
        until = time.monotonic() + 20
        while call("GET", f"/v1/pools/{self.pool}/stats")["waiting"] != 0 and time.monotonic() < until:
            time.sleep(0.02)
        self.assertEqual(call("GET", f"/v1/pools/{self.pool}/stats")["waiting"], 0)
        self.expect(succeeded=len(PROXIES))


if __name__ == "__main__":
    unittest.main()
