"""The middleware without a service, a site or a running reactor."""

import unittest
from types import SimpleNamespace
from unittest import mock

from remuda_client import RemudaFault, RemudaRefusal
from scrapy.exceptions import IgnoreRequest
from scrapy.settings import Settings
from scrapy_remuda import RemudaMiddleware
from twisted.internet import defer


REFUSAL = RemudaRefusal({"code": "pool-exhausted", "message": "m", "retryAfterMs": 1})


class Leasing(unittest.TestCase):
    def middleware(self, closing=None):
        engine = SimpleNamespace(running=True, slot=SimpleNamespace(closing=closing), downloader=mock.Mock())
        return RemudaMiddleware(SimpleNamespace(settings=Settings(), stats=mock.Mock(), engine=engine))

    def test_a_request_keeps_its_request_id_until_it_has_a_lease(self):
        middleware = self.middleware()
        answers = [RemudaFault("no-answer", "m"), REFUSAL, "one lease", "another"]
        middleware.client.lease = mock.Mock(side_effect=answers)
        leases = []
        with mock.patch("scrapy_remuda.threads.deferToThread", defer.execute):
            with mock.patch("scrapy_remuda.task.deferLater", lambda *_: defer.succeed(None)):
                for _ in range(2):
                    defer.ensureDeferred(middleware._leased({}, "site.test")).addCallback(leases.append)
        self.assertEqual(leases, ["one lease", "another"])
        first, again, last, other = [call[1]["request_id"] for call in middleware.client.lease.call_args_list]
        self.assertEqual({first, again, last}, {first})
        self.assertNotEqual(other, first)

    def test_a_spider_that_closes_does_not_wait_for_ever_for_a_proxy(self):
        for closing_s, asked in ((0, 1), (60, 3)):
            middleware = self.middleware(closing=defer.Deferred())
            middleware.client.lease = mock.Mock(side_effect=[REFUSAL, REFUSAL, "a lease"])
            ends = []
            with mock.patch("scrapy_remuda.threads.deferToThread", defer.execute):
                with mock.patch("scrapy_remuda.task.deferLater", lambda *_: defer.succeed(None)):
                    with mock.patch("scrapy_remuda.CLOSING_S", closing_s):
                        defer.ensureDeferred(middleware._leased({}, "site.test")).addBoth(ends.append)
            self.assertEqual(middleware.client.lease.call_count, asked)
            self.assertEqual(ends == ["a lease"], asked == 3)
            self.assertTrue(asked == 3 or ends[0].check(IgnoreRequest))


if __name__ == "__main__":
    unittest.main()
