"""The middleware without a service, a site or a running reactor."""

import unittest
from types import SimpleNamespace
from unittest import mock

from remuda_client import RemudaFault, RemudaRefusal
from scrapy.settings import Settings
from scrapy_remuda import RemudaMiddleware
from twisted.internet import defer


class Leasing(unittest.TestCase):
    def test_a_request_keeps_its_request_id_until_it_has_a_lease(self):
        crawler = SimpleNamespace(settings=Settings(), stats=mock.Mock(), engine=mock.Mock())
        middleware = RemudaMiddleware(crawler)
        refusal = RemudaRefusal({"code": "pool-exhausted", "message": "m", "retryAfterMs": 1})
        answers = [RemudaFault("no-answer", "m"), refusal, "one lease", "another"]
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


if __name__ == "__main__":
    unittest.main()
