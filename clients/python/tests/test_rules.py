"""The rules of the client, without a network."""

import asyncio
import errno
import json
import os
import socket
import ssl
import threading
import time
import unittest
from unittest import mock

from stand_in import AsyncStandIn, StandIn

import remuda_client
from remuda_client import AsyncClient, Client, RemudaFault, RemudaRefusal, RequestFailed, verdict_of
from remuda_client.ask import Broken, ask, read_settings
from remuda_client.fetch import redirected
from remuda_client.outcome import retry_after_ms, with_word

with open(os.environ["CLASSIFICATION"], encoding="utf-8") as file:
    FIXTURE = json.load(file)


def client_of(*proxies, **more):
    client = Client("http://127.0.0.1:1")
    client._service = StandIn(client.settings, proxies or ["http://127.0.0.1:2"], **more)
    return client, client._service


class Settings(unittest.TestCase):
    def test_takes_its_defaults_from_the_environment_and_the_key_only_with_its_url(self):
        env = {"REMUDA_HTTP_URL": "http://other:1/", "REMUDA_HTTP_KEY": "k"}
        with mock.patch.dict(os.environ, env):
            settings = Client().settings
            self.assertEqual((settings.url, settings.key), ("http://other:1", "k"))
            self.assertIsNone(Client("http://127.0.0.1:9").settings.key)
            self.assertNotIn("k'", repr(settings))
        with mock.patch.dict(os.environ, {"REMUDA_HTTP_URL": ""}):
            self.assertEqual(Client().settings.url, "http://127.0.0.1:7480")

    def test_names_the_wrong_option(self):
        for wrong in ({"url": "ftp://x"}, {"url": "http://u:p@h"}, {"key": "a b"}, {"pool": "No"}, {"retry": -1}):
            with self.assertRaises(RemudaFault) as caught:
                Client(**{"url": "http://h", **wrong})
            self.assertTrue(str(caught.exception).startswith(next(iter(wrong))), wrong)
        with self.assertRaisesRegex(RemudaFault, "wait"):
            client_of()[0].lease(wait=61)


class Asking(unittest.TestCase):
    def test_repeats_the_same_request_id_while_no_service_answers(self):
        client, service = client_of()
        service.first = [Broken("no-connection"), Broken("no-answer"), (503, {"code": "unavailable", "message": "m"})]
        client.lease(uses=2)
        ids = [body["requestId"] for _, _, body in service.requests]
        self.assertEqual((len(ids), len(set(ids))), (4, 1))

    def test_raises_a_refusal_with_retry_after(self):
        client, service = client_of()
        service.proxies = []
        with self.assertRaises(RemudaRefusal) as caught:
            client.lease(wait=0)
        refusal = caught.exception
        self.assertEqual((refusal.code, refusal.retry_after, refusal.limited_by), ("pool-exhausted", 1.5, {"rest": 1}))
        self.assertEqual(len(service.requests), 1)

    def test_tells_a_wrong_key_and_another_program_apart(self):
        client, service = client_of()
        service.first = [(401, {}), (200, [])]
        for code in ("not-allowed", "not-remuda"):
            with self.assertRaises(RemudaFault) as caught:
                client.lease()
            self.assertEqual(caught.exception.code, code)

    def test_gives_up_after_its_time(self):
        settings = read_settings("http://h", None, "default", None, 0)
        asking = ask(settings, "GET", "/v1/pools")
        next(asking)
        with self.assertRaises(RemudaFault) as caught:
            asking.throw(Broken("no-connection"))
        self.assertEqual(caught.exception.code, "no-connection")


class Leases(unittest.TestCase):
    def test_a_block_that_counts_nothing_has_made_all_its_uses(self):
        client, service = client_of()
        with client.lease(uses=3):
            pass
        self.assertEqual(service.outcomes, [{"leaseId": "l_1", "n": 1, "result": "success"}])
        self.assertEqual(service.requests[-1][:2], ("DELETE", "/v1/pools/default/leases/l_1?used=3"))

    def test_reports_count_and_the_others_are_returned(self):
        client, service = client_of()
        with client.lease(uses=3) as lease:
            lease.report(status=200)
            lease.report(status=404, latency=0.25, bytes=7)
        self.assertEqual([each["n"] for each in service.outcomes], [1, 2])
        self.assertEqual(service.outcomes[1]["latencyMs"], 250)
        self.assertIn("?used=2", service.requests[-1][1])

    def test_a_report_that_failed_is_repeated_for_the_same_use(self):
        client, service = client_of()
        lease = client.lease(uses=2)
        lease.report(status=200)
        for _ in range(2):
            service.first = [(404, {"code": "unknown-pool", "message": "m"})]
            with self.assertRaises(RemudaRefusal):
                lease.report(status=200)
        lease.report(status=200)
        self.assertEqual([each["n"] for each in service.outcomes], [1, 2])

    def test_leases_several_proxies_each_of_them_a_block(self):
        client, service = client_of("http://127.0.0.1:2", "http://127.0.0.1:3")
        leases = client.leases(3, uses=2)
        self.assertEqual([lease.port for lease in leases], [2, 3])
        asynchronous = AsyncClient("http://127.0.0.1:1")
        asynchronous._service = AsyncStandIn(client.settings, service.proxies)

        async def in_asyncio():
            for lease in await asynchronous.leases(2):
                async with lease:
                    await lease.report(status=200)

        asyncio.run(in_asyncio())
        for each in leases:
            with each as lease:
                lease.report(status=200)
        for outcomes in (asynchronous._service.outcomes, service.outcomes):
            self.assertEqual([each["leaseId"] for each in outcomes], ["l_1", "l_2"])
        self.assertEqual(service.requests[0][2]["count"], 3)

    def test_a_request_for_one_very_proxy_does_not_wait(self):
        client, service = client_of()
        client.lease(proxy_id="p_1")
        client.lease()
        waits = [body["waitMs"] for _, _, body in service.requests]
        self.assertEqual(waits[0], 0)
        self.assertGreater(waits[1], 0)

    def test_closes_by_itself_when_all_uses_are_reported(self):
        client, service = client_of()
        with client.lease() as lease:
            lease.report(status=200)
            with self.assertRaises(RemudaFault):
                lease.take()
        self.assertEqual(len(service.requests), 2)

    def test_reports_an_exception_as_the_next_use_and_passes_it_on(self):
        client, service = client_of()
        with self.assertRaises(ConnectionRefusedError):
            with client.lease(uses=3) as lease:
                lease.report(status=200)
                raise ConnectionRefusedError(errno.ECONNREFUSED, "no")
        self.assertEqual(service.outcomes[1], {"leaseId": "l_1", "n": 2, "error": "ECONNREFUSED"})
        self.assertIn("?used=2", service.requests[-1][1])

    def test_an_exception_of_the_callers_own_says_nothing_about_the_proxy(self):
        client, service = client_of()
        with self.assertRaises(KeyError):
            with client.lease() as lease:
                lease.take()
                raise KeyError("mine")
        self.assertEqual(service.outcomes, [{"leaseId": "l_1", "n": 1, "reason": "client-abort"}])

    def test_an_exception_after_all_reports_adds_nothing(self):
        client, service = client_of()
        with self.assertRaises(KeyError):
            with client.lease() as lease:
                lease.report(status=200)
                raise KeyError("mine")
        self.assertEqual(len(service.outcomes), 1)

    def test_ends_by_the_monotonic_clock_from_the_sending(self):
        client, _ = client_of(lease_s=0.0)
        lease = client.lease()
        self.assertEqual(lease.left, 0.0)
        with self.assertRaises(RemudaFault):
            lease.take()
        later, _ = client_of(lease_s=5.0)
        self.assertLess(abs(later.lease().deadline - time.monotonic() - 5), 1)

    def test_shows_no_credentials(self):
        client, _ = client_of("http://user:secret@127.0.0.1:2")
        self.assertNotIn("secret", repr(client.lease()))

    def test_a_failed_report_does_not_hide_the_callers_exception(self):
        client, service = client_of()
        with self.assertRaises(KeyError):
            with client.lease():
                service.first = [(404, {"code": "unknown-pool", "message": "m"})]
                raise KeyError("mine")


class Verdicts(unittest.TestCase):
    def test_codes_of_the_fixture_have_the_class_of_the_fixture(self):
        """Every code of Python's that the fixture knows arrives under the name that the fixture has."""
        names = {name for name in FIXTURE["error"] if hasattr(errno, name)}
        self.assertGreater(len(names), 5)
        for name in names:
            self.assertEqual(verdict_of(OSError(getattr(errno, name), "x")).fields, {"error": name})
        self.assertEqual(tuple(FIXTURE["reasons"]), remuda_client.REASONS)

    def test_reads_through_wrapped_exceptions(self):
        inner = ConnectionRefusedError(errno.ECONNREFUSED, "no")
        outer = RuntimeError("outer", RuntimeError(inner))
        self.assertEqual(verdict_of(outer).fields, {"error": "ECONNREFUSED"})
        self.assertTrue(verdict_of(outer).unsent)
        self.assertEqual(verdict_of(socket.timeout("x")).fields, {"error": "ETIMEDOUT"})
        self.assertEqual(verdict_of(socket.gaierror(1, "x")).fields, {"error": "ENOTFOUND"})
        self.assertEqual(verdict_of(ssl.SSLCertVerificationError(1, "x")).fields["reason"], "target-error")
        self.assertEqual(verdict_of(OSError("Tunnel connection failed: 407 No")).fields["reason"], "proxy-auth")
        self.assertEqual(verdict_of(OSError("Tunnel connection failed: 502 No")).fields["reason"], "proxy-error")
        self.assertEqual(verdict_of(ValueError("mine")).fields, {})
        self.assertEqual(verdict_of(KeyboardInterrupt()).fields, {"reason": "client-abort"})

    def test_a_cycle_of_causes_ends(self):
        one, two = ValueError("1"), ValueError("2")
        one.__cause__, two.__cause__ = two, one
        self.assertEqual(verdict_of(one).fields, {})

    def test_the_callers_word_replaces_the_class(self):
        self.assertEqual(with_word({"status": 200, "reason": "x"}, "success"), {"status": 200, "result": "success"})
        self.assertEqual(with_word({"status": 200}, "blocked"), {"status": 200, "reason": "blocked"})
        self.assertEqual(with_word({"status": 200}, None), {"status": 200})
        with self.assertRaises(RemudaFault):
            with_word({}, "captcha")

    def test_reads_retry_after(self):
        self.assertEqual(retry_after_ms("120"), 120_000)
        self.assertEqual(retry_after_ms("Wed, 21 Oct 2015 07:28:00 GMT"), 0)
        self.assertEqual(retry_after_ms("Wed, 21 Oct 9999 07:28:00 GMT"), retry_after_ms("9" * 12))
        self.assertIsNone(retry_after_ms("soon"))
        self.assertIsNone(retry_after_ms(None))


class Redirects(unittest.TestCase):
    def test_follows_the_fetch_standard(self):
        post = ("POST", "http://a/x", {"authorization": "s", "content-type": "t"}, b"b")
        self.assertEqual(redirected(post, 303, "/y"), ("GET", "http://a/y", {"authorization": "s"}, None))
        self.assertEqual(redirected(post, 307, "/y")[0], "POST")
        self.assertEqual(redirected(post, 307, "http://b/")[2], {"content-type": "t"})
        self.assertIsNone(redirected(post, 200, "/y"))
        self.assertIsNone(redirected(post, 302, None))
        self.assertIsNone(redirected(post, 302, "file:///etc/passwd"))


class Fetch(unittest.TestCase):
    def test_a_url_or_header_that_would_break_the_head_is_refused_before_it_is_sent(self):
        client, service = client_of()
        for url, headers in (("ftp://x/", {}), ("http://x/a b", {}), ("http://x/", {"a": "b\r\nc: d"})):
            with mock.patch("socket.create_connection"):
                with self.assertRaises(RequestFailed):
                    client.fetch(url, headers=headers)
        self.assertEqual({each["reason"] for each in service.outcomes}, {"client-abort"})

    def test_a_login_that_is_too_long_for_socks_is_the_proxys(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            place = f"127.0.0.1:{listener.getsockname()[1]}"
            client, service = client_of(f"socks5://{'u' * 256}:p@{place}")

            def ask_for_a_login():
                with listener.accept()[0] as wire:
                    wire.recv(3)
                    wire.sendall(b"\x05\x02")
                    wire.recv(1)

            proxy = threading.Thread(target=ask_for_a_login)
            proxy.start()
            with self.assertRaises(RequestFailed):
                client.fetch("http://site.test/", retries=0)
            proxy.join()
        self.assertEqual([each["reason"] for each in service.outcomes], ["proxy-auth"])

    def test_a_cancelled_task_sends_nothing_after_its_outcome_was_reported(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        is_reported = threading.Event()
        sent = []

        def hold_a_tunnel(is_reached):
            wire = listener.accept()[0]
            with wire:
                while b"\r\n\r\n" not in (sent[-1] if sent else b""):
                    sent.append(wire.recv(4096))
                is_reached()
                is_reported.wait()
                try:
                    wire.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    sent.append(wire.recv(4096))
                except OSError:
                    sent.append(b"")  # The client has hung up.

        async def cancels():
            client = AsyncClient("http://127.0.0.1:1")
            client._service = AsyncStandIn(client.settings, [f"http://127.0.0.1:{listener.getsockname()[1]}"])
            reached = asyncio.Event()
            loop = asyncio.get_running_loop()
            proxy = threading.Thread(target=hold_a_tunnel, args=(lambda: loop.call_soon_threadsafe(reached.set),))
            proxy.start()
            task = asyncio.ensure_future(client.fetch("http://site.test/", tunnel_http=True))
            await reached.wait()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertEqual([each["reason"] for each in client._service.outcomes], ["client-abort"])
            is_reported.set()
            await loop.run_in_executor(None, proxy.join)
            await client.close()

        asyncio.run(cancels())
        self.assertTrue(sent[0].startswith(b"CONNECT site.test:80 "))
        self.assertEqual(sent[1:], [b""])


if __name__ == "__main__":
    unittest.main()
