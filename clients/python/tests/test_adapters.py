"""The adapters for requests, httpx and aiohttp, with a proxy that is scripted, and without a service."""

import asyncio
import queue
import socket
import threading
import time
import unittest
import warnings
from unittest import mock

import aiohttp
import httpx
import requests
from stand_in import AsyncStandIn, StandIn

from remuda_client import AsyncClient, Client
from remuda_client import aiohttp as for_aiohttp
from remuda_client.httpx import AsyncRemudaTransport, RemudaTransport
from remuda_client.requests import RemudaAdapter
from remuda_client.tries import KEPT_MAX, Kept

URL = "http://site.test/"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wire:
    """A proxy. It gives the answers in turn, one for each connection, and keeps what arrived. An empty one hangs up."""

    def __init__(self, test, *answers, end=b"\r\n\r\n"):
        self._end = end
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answers = list(answers)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        #: One item for each connection, when it has ended.
        self.arrived = queue.Queue()
        threading.Thread(target=self._accept, daemon=True).start()
        test.addCleanup(self._listener.close)

    def _accept(self):
        while True:
            try:
                wire = self._listener.accept()[0]
            except OSError:
                return
            answer = self._answers.pop(0) if self._answers else OK
            threading.Thread(target=self._serve, args=(wire, answer), daemon=True).start()

    def _serve(self, wire, answer):
        data = b""
        with wire:
            try:
                while self._end not in data:
                    more = wire.recv(65536)
                    if more == b"":
                        break
                    data += more
                else:
                    wire.sendall(answer)
            except OSError:
                pass
        self.arrived.put(data)

    def next(self):
        return self.arrived.get(timeout=20)


class Adapters(unittest.TestCase):
    def client(self, *urls):
        client = Client("http://127.0.0.1:1")
        service = client._service = StandIn(client.settings, urls)
        return client, service

    def async_client(self, *urls):
        client = AsyncClient("http://127.0.0.1:1")
        service = client._service = AsyncStandIn(client.settings, urls)
        return client, service

    def session(self, adapter):
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", adapter)
        self.addCleanup(session.close)
        return session

    def kept(self, client):
        """Its leases, to end them early."""
        leases = []
        lease = client.lease
        client.lease = lambda **given: leases.append(lease(**given)) or leases[-1]
        return leases

    def test_requests_sends_nothing_after_the_lease_has_ended_while_it_connected(self):
        wire = Wire(self)
        client, service = self.client(wire.url)
        leases = self.kept(client)
        connect = socket.create_connection

        def slowly(address, *_, **__):
            connected = connect(address)
            leases[-1].deadline = time.monotonic()
            return connected

        with mock.patch("urllib3.util.connection.create_connection", slowly):
            with self.assertRaises(requests.ConnectTimeout):
                self.session(RemudaAdapter(client, retries=0)).get(URL)
        self.assertEqual(wire.next(), b"")
        self.assertEqual([each["error"] for each in service.outcomes], ["ETIMEDOUT"])

    def test_httpx_sends_nothing_after_the_lease_has_ended_while_it_connected(self):
        wire = Wire(self)
        client, service = self.client(wire.url)
        leases = self.kept(client)

        def trace(name, _):
            if name.endswith("connect_tcp.complete"):
                leases[-1].deadline = time.monotonic()

        with httpx.Client(transport=RemudaTransport(client, retries=0), trust_env=False) as session:
            with self.assertRaises(httpx.ConnectTimeout):
                session.get(URL, extensions={"trace": trace})
        self.assertEqual(wire.next(), b"")
        self.assertEqual([each["error"] for each in service.outcomes], ["ETIMEDOUT"])

    def test_httpx_in_asyncio_sends_nothing_after_the_lease_has_ended_while_it_connected(self):
        wire = Wire(self)
        client, service = self.async_client(wire.url)
        leases = []
        lease = client.lease

        async def kept(**given):
            leases.append(await lease(**given))
            return leases[-1]

        async def trace(name, _):
            if name.endswith("connect_tcp.complete"):
                leases[-1].deadline = time.monotonic()

        async def gets():
            client.lease = kept
            async with httpx.AsyncClient(
                transport=AsyncRemudaTransport(client, retries=0), trust_env=False
            ) as session:
                with self.assertRaises(httpx.ConnectTimeout):
                    await session.get(URL, extensions={"trace": trace})

        asyncio.run(gets())
        self.assertEqual(wire.next(), b"")
        self.assertEqual([each["error"] for each in service.outcomes], ["ETIMEDOUT"])

    def test_aiohttp_makes_no_request_again_by_itself(self):
        """As aiohttp 3.10 does it. Debian's is older."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Inheritance is discouraged.

            class Newer(aiohttp.ClientSession):
                _retry_connection = True

                async def _request(self, *args, **options):
                    try:
                        return await super()._request(*args, **options)
                    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                        if not self._retry_connection:
                            raise
                        return await super()._request(*args, **options)

        wire = Wire(self, b"", b"")
        client, service = self.async_client(wire.url)

        async def gets():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # And so are attributes of one's own.
                session = Newer()
                async with session:
                    with self.assertRaises(aiohttp.ClientError):
                        async with for_aiohttp.request(session, client, "GET", URL, retries=0):
                            pass

        asyncio.run(gets())
        wire.next()
        self.assertEqual(wire.arrived.qsize(), 0)
        self.assertEqual(len(service.outcomes), 1)

    def test_a_task_that_is_cancelled_again_and_again_still_reports(self):
        wire = Wire(self, end=b"never")

        async def cancels(get):
            client, service = self.async_client(wire.url)
            ready = service.run

            async def slow(asking):
                await asyncio.sleep(0.02)
                return await ready(asking)

            service.run = slow
            task = asyncio.ensure_future(get(client))
            while service.granted == 0:
                await asyncio.sleep(0)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
            for _ in range(500):
                if service.outcomes:
                    break
                await asyncio.sleep(0.02)
            self.assertEqual([each["reason"] for each in service.outcomes], ["client-abort"])

        async def with_httpx(client):
            async with httpx.AsyncClient(transport=AsyncRemudaTransport(client), trust_env=False) as session:
                await session.get(URL)

        async def with_aiohttp(client):
            async with aiohttp.ClientSession() as session:
                async with for_aiohttp.request(session, client, "GET", URL):
                    pass

        for get in (with_httpx, with_aiohttp):
            with self.subTest(get.__name__):
                asyncio.run(cancels(get))

    def test_a_body_that_streams_is_not_sent_again(self):
        for name, put in (("requests", self.put_with_requests), ("aiohttp", self.put_with_aiohttp)):
            with self.subTest(name):
                broken, other = Wire(self, b"", end=b"END"), Wire(self, end=b"END")
                with self.assertRaises((requests.RequestException, aiohttp.ClientError)):
                    put(broken.url, other.url)
                self.assertIn(b"first", broken.next())
                self.assertEqual(other.arrived.qsize(), 0)

    def put_with_requests(self, *urls):
        client, _ = self.client(*urls)
        self.session(RemudaAdapter(client)).put(URL, data=iter([b"first ", b"END"]))

    def put_with_aiohttp(self, *urls):
        client, _ = self.async_client(*urls)

        async def body():
            yield b"first "
            yield b"END"

        async def puts():
            async with aiohttp.ClientSession() as session:
                async with for_aiohttp.request(session, client, "PUT", URL, data=body()):
                    pass

        asyncio.run(puts())

    def test_a_post_goes_through_another_proxy_only_if_nothing_of_it_was_sent(self):
        for post in (self.post_with_requests, self.post_with_httpx):
            with self.subTest(post.__name__):
                broken, other = Wire(self, b"", end=b"END"), Wire(self, end=b"END")
                with self.assertRaises((requests.RequestException, httpx.HTTPError)):
                    post(broken.url, other.url)
                self.assertIn(b"POST", broken.next())
                self.assertEqual(other.arrived.qsize(), 0)
                with socket.socket() as dead:
                    dead.bind(("127.0.0.1", 0))  # It does not listen.
                    url = f"http://127.0.0.1:{dead.getsockname()[1]}"
                    self.assertEqual(post(url, other.url).status_code, 200)

    def post_with_requests(self, *urls):
        return self.session(RemudaAdapter(self.client(*urls)[0])).post(URL, data=b"END")

    def post_with_httpx(self, *urls):
        with httpx.Client(transport=RemudaTransport(self.client(*urls)[0]), trust_env=False) as session:
            return session.post(URL, content=b"END")

    def test_an_outcome_function_that_raises_closes_the_answer_and_the_status_counts(self):
        def outcome(_):
            raise KeyError("mine")

        client, service = self.client(Wire(self).url)
        with mock.patch("requests.Response.close", autospec=True, side_effect=requests.Response.close) as closed:
            with self.assertRaises(KeyError):
                self.session(RemudaAdapter(client, outcome=outcome)).get(URL, stream=True)
        self.assertEqual(closed.call_count, 1)
        transport = RemudaTransport(client, outcome=outcome)
        with httpx.Client(transport=transport, trust_env=False) as session:
            with self.assertRaises(KeyError):
                session.get(URL)
            self.assertEqual(set(transport._kept._users.values()), {0})
        self.assertEqual([(each["n"], each["status"]) for each in service.outcomes], [(1, 200), (1, 200)])

    def test_keeps_the_connections_of_a_bounded_number_of_proxies(self):
        client, service = self.client(Wire(self).url)
        adapter = RemudaAdapter(client)
        transport = RemudaTransport(client)
        session = self.session(adapter)
        with mock.patch("remuda_client.tries.KEPT_MAX", 1), httpx.Client(transport=transport) as other:
            for _ in range(3):
                service.proxies = [Wire(self).url]
                self.assertEqual(session.get(URL).text, "ok")
                self.assertEqual(other.get(URL).text, "ok")
            adapter.proxy_manager_for("http://127.0.0.1:1")
        self.assertEqual((len(adapter._kept.all()), len(transport._kept.all())), (1, 1))
        self.assertEqual(adapter.proxy_manager, {})

    def test_closes_nothing_that_is_in_use(self):
        kept = Kept()
        for n in range(KEPT_MAX + 2):
            kept.take(str(n), object)
        self.assertEqual(len(kept.all()), KEPT_MAX + 2)
        first = kept.take("0", object)
        self.assertEqual(kept.give("0"), [])  # It is used once more.
        self.assertEqual(kept.give("0"), [first])
        self.assertEqual(len(kept.give("1")), 1)
        self.assertEqual(kept.give("2"), [])


if __name__ == "__main__":
    unittest.main()
