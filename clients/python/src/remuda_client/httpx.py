"""For `httpx`: `httpx.Client(transport=RemudaTransport(client))`, and the same for asyncio.

Each request, redirect and try is one use. Connections through a proxy are kept for the next lease of that proxy.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, AsyncIterator, Callable, Dict, Iterator, Optional, Tuple

import httpx

from .aio import AsyncClient, AsyncLease
from .client import Client, Lease
from .errors import RemudaError
from .lease import LeaseBase, asking_for_outcomes
from .outcome import IDEMPOTENT, answer_fields, verdict_of, with_word

#: httpx speaks to http and https proxies. SOCKS needs httpx[socks]: name it in `schemes`.
SCHEMES: Tuple[str, ...] = ("http", "https")
DEFAULT_TIMEOUT_S = 30.0
RETRY_WAIT_S_MAX = 5.0
#: Proxies whose connections are kept.
TRANSPORTS_MAX = 256

#: It may read the body: `response.read()`, or `await response.aread()` if it is async.
Outcome = Callable[[httpx.Response], Any]


class _Common:
    """The parts that both transports share."""

    def __init__(self, retries: int, outcome: Optional[Outcome], request: Dict[str, Any], made: Dict[str, Any]) -> None:
        self._retries = retries
        self._outcome = outcome
        self._request = {"schemes": SCHEMES, **request}
        self._made = made
        self._lock = threading.Lock()
        self._transports: "OrderedDict[str, Any]" = OrderedDict()

    def _wanted(self, request: httpx.Request, avoid: "list[str]") -> Dict[str, Any]:
        given: Dict[str, Any] = {"target": request.url.host, **self._request}
        if avoid and given.get("session") is None:
            given["exclude"] = [*(given.get("exclude") or []), *avoid]
            given["wait"] = min(given.get("wait", 30.0), RETRY_WAIT_S_MAX)
        return given

    def _through(self, url: str, make: Callable[..., Any]) -> Tuple[Any, Any]:
        """The transport of this proxy, and one that must be closed for it."""
        with self._lock:
            found = self._transports.pop(url, None) or make(proxy=httpx.Proxy(url), **self._made)
            self._transports[url] = found
            old = self._transports.popitem(last=False)[1] if len(self._transports) > TRANSPORTS_MAX else None
            return found, old


class _Use:
    """One use: the fields of its outcome as they become known."""

    def __init__(self, lease: LeaseBase, request: httpx.Request) -> None:
        self.lease = lease
        self.started = time.monotonic()
        self.forwarded = request.url.scheme == "http" and lease.scheme in ("http", "https")
        self.target = request.url.host
        self.head: Dict[str, Any] = {}
        self.bytes = 0
        self.done = False
        limits = request.extensions.get("timeout") or {}
        left = max(0.001, lease.left)
        # No request waits past the end of its lease.
        bounded = {name: min(left, limits.get(name) or DEFAULT_TIMEOUT_S) for name in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": bounded}

    def answered(self, response: httpx.Response) -> None:
        self.head = answer_fields(response.status_code, response.headers, forwarded=self.forwarded)

    def asking(self, fields: Dict[str, Any]) -> Any:
        """None if it was reported."""
        if self.done:
            return None
        self.done = True
        told = {"leaseId": self.lease.lease_id, "n": 1, "target": self.target, "bytes": self.bytes}
        latency = int((time.monotonic() - self.started) * 1000)
        outcome = {**told, "latencyMs": latency, **self.head, **fields}
        return asking_for_outcomes(self.lease._settings, self.lease.pool, [outcome])


def _fields_of(error: BaseException) -> Dict[str, Any]:
    return verdict_of(error).fields or {"reason": "client-abort"}


def _may_repeat(error: BaseException, request: httpx.Request) -> bool:
    verdict = verdict_of(error)
    is_kept = isinstance(request.stream, httpx.ByteStream)  # A body that streams cannot be sent twice.
    return is_kept and verdict.another and (verdict.unsent or request.method in IDEMPOTENT)


class RemudaTransport(_Common, httpx.BaseTransport):
    """@param request: of each lease: pool, session, labels, … @param made: options of the inner transports (verify)."""

    def __init__(
        self,
        client: Client,
        *,
        retries: int = 2,
        outcome: Optional[Outcome] = None,
        verify: Any = True,
        **request: Any,
    ) -> None:
        super().__init__(retries, outcome, request, {"verify": verify})
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        avoid: "list[str]" = []
        earlier: Optional[BaseException] = None
        for left in range(self._retries, -1, -1):
            try:
                lease = self._client.lease(**self._wanted(request, avoid))
            except RemudaError:
                if earlier is not None:
                    raise earlier from None
                raise
            use = _Use(lease, request)
            transport, old = self._through(lease.url, httpx.HTTPTransport)
            if old is not None:
                old.close()
            try:
                response = transport.handle_request(request)
            except BaseException as error:
                self._report(lease, use, _fields_of(error))
                if not left or not _may_repeat(error, request):
                    raise
                avoid.append(lease.proxy_id)
                earlier = error
                continue
            use.answered(response)
            if use.forwarded and response.status_code == 407 and left:
                response.close()
                self._report(lease, use, {"reason": "proxy-auth"})
                avoid.append(lease.proxy_id)
                earlier = None
                continue
            return self._observed(lease, use, response, request)
        raise AssertionError("the last try returns or raises")

    def _observed(self, lease: Lease, use: _Use, response: httpx.Response, request: httpx.Request) -> httpx.Response:
        stream = _Stream(response.stream, use, lambda fields: self._report(lease, use, fields))
        seen = httpx.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )
        if self._outcome is not None:
            seen.request = request
            stream.held = True
            try:
                use.head = with_word(use.head, self._outcome(seen))
            finally:
                stream.let_go()
        return seen

    def _report(self, lease: Lease, use: _Use, fields: Dict[str, Any]) -> None:
        asking = use.asking(fields)
        if asking is not None:
            lease._service.run(asking)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, inner: Any, use: _Use, report: Callable[[Dict[str, Any]], None]) -> None:
        self._inner = inner
        self._use = use
        self._report = report
        self._ended: Optional[Dict[str, Any]] = None
        self.held = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                self._use.bytes += len(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._end(_fields_of(error))
            raise
        self._end({})

    def close(self) -> None:
        self._inner.close()
        self._end({})

    def let_go(self) -> None:
        self.held = False
        if self._ended is not None:
            self._report(self._ended)

    def _end(self, fields: Dict[str, Any]) -> None:
        self._ended = fields if self._ended is None else self._ended
        if not self.held:
            self._report(self._ended)


class AsyncRemudaTransport(_Common, httpx.AsyncBaseTransport):
    """As RemudaTransport, for httpx.AsyncClient. `outcome` may be async."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        retries: int = 2,
        outcome: Optional[Outcome] = None,
        verify: Any = True,
        **request: Any,
    ) -> None:
        super().__init__(retries, outcome, request, {"verify": verify})
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        avoid: "list[str]" = []
        earlier: Optional[BaseException] = None
        for left in range(self._retries, -1, -1):
            try:
                lease = await self._client.lease(**self._wanted(request, avoid))
            except RemudaError:
                if earlier is not None:
                    raise earlier from None
                raise
            use = _Use(lease, request)
            transport, old = self._through(lease.url, httpx.AsyncHTTPTransport)
            if old is not None:
                await old.aclose()
            try:
                response = await transport.handle_async_request(request)
            except BaseException as error:
                await self._report(lease, use, _fields_of(error))
                if not left or not _may_repeat(error, request):
                    raise
                avoid.append(lease.proxy_id)
                earlier = error
                continue
            use.answered(response)
            if use.forwarded and response.status_code == 407 and left:
                await response.aclose()
                await self._report(lease, use, {"reason": "proxy-auth"})
                avoid.append(lease.proxy_id)
                earlier = None
                continue
            return await self._observed(lease, use, response, request)
        raise AssertionError("the last try returns or raises")

    async def _observed(
        self, lease: AsyncLease, use: _Use, response: httpx.Response, request: httpx.Request
    ) -> httpx.Response:
        stream = _AsyncStream(response.stream, use, lambda fields: self._report(lease, use, fields))
        seen = httpx.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )
        if self._outcome is not None:
            seen.request = request
            stream.held = True
            try:
                word = self._outcome(seen)
                use.head = with_word(use.head, await word if hasattr(word, "__await__") else word)
            finally:
                await stream.let_go()
        return seen

    async def _report(self, lease: AsyncLease, use: _Use, fields: Dict[str, Any]) -> None:
        asking = use.asking(fields)
        if asking is not None:
            await lease._service.run(asking)

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, inner: Any, use: _Use, report: Callable[[Dict[str, Any]], Any]) -> None:
        self._inner = inner
        self._use = use
        self._report = report
        self._ended: Optional[Dict[str, Any]] = None
        self.held = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._use.bytes += len(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            await self._end(_fields_of(error))
            raise
        await self._end({})

    async def aclose(self) -> None:
        await self._inner.aclose()
        await self._end({})

    async def let_go(self) -> None:
        self.held = False
        if self._ended is not None:
            await self._report(self._ended)

    async def _end(self, fields: Dict[str, Any]) -> None:
        self._ended = fields if self._ended is None else self._ended
        if not self.held:
            await self._report(self._ended)
