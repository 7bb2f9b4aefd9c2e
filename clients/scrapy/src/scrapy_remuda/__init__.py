"""A downloader middleware for Scrapy. Each request, redirect and retry goes through a leased proxy, as one use.

At 740 it is inside redirects and retries, and before Scrapy's own proxy middleware, which reads `meta["proxy"]`.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Dict, Optional
from urllib.parse import urlsplit

from remuda_client import Client, Lease, RemudaFault, RemudaRefusal, verdict_of
from remuda_client.outcome import answer_fields, with_word
from scrapy import signals
from scrapy.exceptions import IgnoreRequest
from scrapy.utils.defer import maybe_deferred_to_future
from twisted.internet import defer, task, threads
from twisted.internet.defer import Deferred

__all__ = ["RemudaMiddleware", "Use"]

#: A later answer may differ, so the request is delayed. Any other refusal fails it.
DELAYING = ("pool-exhausted", "overloaded", "unavailable", "token-unavailable")
DELAY_S = 1.0
DELAY_S_MIN = 0.05
DELAY_S_MAX = 5.0
#: How long a request is delayed after its spider has begun to close. Scrapy waits for it.
CLOSING_S = 30.0
THREADS_MIN = 32
#: Scrapy makes a redirect of these by itself. The spider never sees them.
REDIRECTS = (301, 302, 303, 307, 308)
#: http and https proxies are the ones that Scrapy speaks to.
SCHEMES = ("http", "https")


class Use:
    """One use, in `meta["remuda"]`. The spider may say what its answer was: `response.meta["remuda"].blocked()`."""

    def __init__(self, middleware: "RemudaMiddleware", options: Dict[str, Any], lease: Lease, target: str) -> None:
        self._middleware = middleware
        self._target = target
        self._started = time.monotonic()
        self._fields: Optional[Dict[str, Any]] = None
        self._timer: Any = None
        self._done = False
        #: The spider's own `download_slot`, which a redirect or a retry gets again.
        self.slot: Any = None
        #: Of the lease request. A copy of the request (a redirect, a retry) takes them over.
        self.options = options
        self.lease = lease

    def blocked(self) -> None:
        """The answer is a captcha or a ban page, whatever its status says."""
        self.report("blocked")

    def success(self) -> None:
        """The answer is good, whatever its status says."""
        self.report("success")

    def report(self, outcome: str) -> None:
        """`success`, or a reason such as `blocked`. The first word stands; one that comes too late is counted."""
        if self._done:
            self._middleware.stats.inc_value("remuda/reports_late")
            return
        self._fields = with_word(self._fields or {}, outcome)
        self.settle()

    def ended(self, fields: Dict[str, Any], wait: float = 0.0) -> None:
        """The request has ended. Its outcome waits for the spider's word for so many seconds."""
        latency = int((time.monotonic() - self._started) * 1000)
        self._fields = {"latencyMs": latency, "target": self._target, **fields}
        if wait <= 0:
            return self.settle()
        from twisted.internet import reactor  # Here, because Scrapy chooses the reactor after it has read this file.

        self._timer = reactor.callLater(wait, self.settle)

    def settle(self) -> None:
        if self._done:
            return
        self._done = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._middleware.report(self, {"leaseId": self.lease.lease_id, "n": 1, **(self._fields or {})})


class RemudaMiddleware:
    """Settings: REMUDA_URL, REMUDA_KEY, REMUDA_POOL, REMUDA_LABELS, REMUDA_SCHEMES, REMUDA_OUTCOME_DELAY."""

    def __init__(self, crawler: Any) -> None:
        settings = crawler.settings
        self._crawler = crawler
        self.client = Client(
            settings.get("REMUDA_URL"), settings.get("REMUDA_KEY"), pool=settings.get("REMUDA_POOL") or "default"
        )
        self.stats = crawler.stats
        self._common = {
            "labels": settings.getdict("REMUDA_LABELS") or None,
            "schemes": settings.getlist("REMUDA_SCHEMES") or SCHEMES,
        }
        self._delay = settings.getfloat("REMUDA_OUTCOME_DELAY", 1.0)
        self._timeout = settings.getfloat("DOWNLOAD_TIMEOUT")
        self._open: "set[Use]" = set()
        self._reports: "set[Deferred[Any]]" = set()
        self._is_ready = False

    @classmethod
    def from_crawler(cls, crawler: Any) -> "RemudaMiddleware":
        middleware = cls(crawler)
        crawler.signals.connect(middleware.spider_closed, signal=signals.spider_closed)
        return middleware

    async def process_request(self, request: Any, spider: Any = None) -> None:
        given = request.meta.get("remuda")
        options = given.options if isinstance(given, Use) else dict(given or {})
        lease = await self._leased(options, urlsplit(request.url).hostname or "")
        use = Use(self, options, lease, urlsplit(request.url).hostname or "")
        self._open.add(use)
        self.stats.inc_value("remuda/leases")
        request.meta["remuda"] = use
        request.meta["proxy"] = lease.url
        # A slot of its own: in its site's slot the request would wait behind others, past the end of its lease.
        use.slot = request.meta.get("download_slot")
        request.meta["download_slot"] = lease.lease_id
        # No request outlasts its lease. A retry gets the spider's own limit again.
        limit = request.meta.setdefault("remuda_timeout", request.meta.get("download_timeout") or self._timeout)
        request.meta["download_timeout"] = max(0.1, min(limit, lease.left))

    def process_response(self, request: Any, response: Any, spider: Any = None) -> Any:
        use = request.meta.get("remuda")
        if isinstance(use, Use):
            self._leave_slot(request, use)
            headers = _Headers(response.headers)
            forwarded = urlsplit(request.url).scheme == "http"
            fields = {"bytes": len(response.body), **answer_fields(response.status, headers, forwarded=forwarded)}
            may_be_seen = response.status not in REDIRECTS
            use.ended(fields, self._delay if may_be_seen else 0.0)
        return response

    def process_exception(self, request: Any, exception: BaseException, spider: Any = None) -> None:
        use = request.meta.get("remuda")
        if isinstance(use, Use) and use in self._open:
            self._leave_slot(request, use)
            use.ended(verdict_of(exception).fields or {"reason": "client-abort"})

    def spider_closed(self) -> "Deferred[Any]":
        """Scrapy waits for the reports."""
        for use in list(self._open):
            use.settle()
        return defer.DeferredList(list(self._reports), consumeErrors=True).addBoth(lambda _: self.client.close())

    def report(self, use: Use, outcome: Dict[str, Any]) -> None:
        self._open.discard(use)
        told = outcome.get("reason") or outcome.get("result") or outcome.get("error") or outcome.get("status")
        self.stats.inc_value(f"remuda/outcomes/{told}")
        report = threads.deferToThread(self.client.report, outcome, pool=use.lease.pool)
        self._reports.add(report)

        def done(result: Any) -> None:
            self._reports.discard(report)
            if isinstance(getattr(result, "value", None), Exception):
                self.stats.inc_value("remuda/reports_lost")

        report.addBoth(done)

    def _leave_slot(self, request: Any, use: Use) -> None:
        """Scrapy would keep an unused slot for as long as DOWNLOAD_DELAY, and for a minute more."""
        if request.meta.get("download_slot") != use.lease.lease_id:
            return
        if use.slot is None:
            del request.meta["download_slot"]
        else:
            request.meta["download_slot"] = use.slot
        slot = self._crawler.engine.downloader.slots.pop(use.lease.lease_id, None)
        if slot is not None:
            slot.close()

    def _repeat_nothing(self) -> None:
        """Twisted makes a request again by itself when a kept connection breaks, as part of one use."""
        handlers = self._crawler.engine.downloader.handlers
        for scheme in ("http", "https"):
            pool = getattr(handlers._get_handler(scheme), "_pool", None)  # Scrapy has no setting for it.
            if pool is not None:
                pool.retryAutomatically = False

    async def _leased(self, options: Dict[str, Any], target: str) -> Lease:
        """A refusal delays the request. It takes no thread while it waits."""
        from twisted.internet import reactor

        if not self._is_ready:
            self._is_ready = True
            reactor.suggestThreadPoolSize(max(THREADS_MIN, reactor.getThreadPool().max))
            self._repeat_nothing()
        # One requestId for all of them: a request that got no answer may have been granted.
        asked = {**self._common, "target": target, "wait": 0.0, "request_id": str(uuid.uuid4()), **options}
        give_up: Optional[float] = None
        while True:
            try:
                lease: Lease = await maybe_deferred_to_future(threads.deferToThread(self.client.lease, **asked))
                return lease
            except (RemudaRefusal, RemudaFault) as refusal:
                self.stats.inc_value(f"remuda/refused/{refusal.code}")
                if refusal.code not in (*DELAYING, "no-connection", "no-answer"):
                    raise
                pause = getattr(refusal, "retry_after", None) or DELAY_S
            if self._is_closing():
                give_up = give_up or time.monotonic() + CLOSING_S
                if time.monotonic() >= give_up:
                    raise IgnoreRequest("The spider closes, and no proxy can be leased.")
            self.stats.inc_value("remuda/delayed")
            pause = max(DELAY_S_MIN, min(pause, DELAY_S_MAX))
            await maybe_deferred_to_future(task.deferLater(reactor, pause, lambda: None))


    def _is_closing(self) -> bool:
        """Scrapy has no signal for it: `spider_closed` comes only when no request is under way any more."""
        engine = self._crawler.engine
        slot = getattr(engine, "slot", None) or getattr(engine, "_slot", None)  # Its name changed in Scrapy 2.13.
        return not engine.running or getattr(slot, "closing", None) is not None


class _Headers:
    """Scrapy's headers are bytes."""

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def get(self, name: str) -> Optional[str]:
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")
