"""For `httpx`: `httpx.Client(transport=RemudaTransport(client))`, and the same for asyncio.

Each request, redirect and try is one use. Connections through a proxy are kept for the next lease of that proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Iterator, Optional, Tuple

import httpx

from .aio import AsyncClient
from .ask import Asking
from .client import Client
from .errors import RemudaError
from .lease import LeaseBase
from .tries import DEFAULT_TIMEOUT_S, Kept, Tries, Use

#: httpx speaks to http and https proxies. SOCKS needs httpx[socks]: name it in `schemes`.
SCHEMES: Tuple[str, ...] = ("http", "https")

#: It may read the body: `response.read()`, or `await response.aread()` if it is async.
Outcome = Callable[[httpx.Response], Any]


class _Common:
    """The parts that both transports share."""

    def __init__(self, retries: int, outcome: Optional[Outcome], request: Dict[str, Any], made: Dict[str, Any]) -> None:
        self._retries = retries
        self._outcome = outcome
        self._request = {"schemes": SCHEMES, **request}
        self._made = made
        self._kept: "Kept[Any]" = Kept()

    def _tries(self, request: httpx.Request) -> Tries:
        is_plain = isinstance(request.stream, httpx.ByteStream)
        return Tries(self._request, self._retries, request.method, str(request.url), is_plain=is_plain)

    def _made_for(self, lease: LeaseBase, kind: Any) -> Any:
        return kind(proxy=httpx.Proxy(lease.url), **self._made)


class RemudaTransport(_Common, httpx.BaseTransport):
    """@param request: of each lease: pool, session, labels, … @param verify: of the targets, as httpx takes it."""

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
        tries = self._tries(request)
        while True:
            try:
                lease = self._client.lease(**tries.wanted())
            except RemudaError as refusal:
                raise tries.told(refusal) from None
            use = Use(lease, str(request.url))
            taken = contextlib.ExitStack()
            try:
                transport = self._kept.take(lease.url, lambda: self._made_for(lease, httpx.HTTPTransport))
                taken.callback(self._give, lease.url)
                response = transport.handle_request(_bounded(request, use, _trace))
            except BaseException as error:
                taken.close()
                self._run(use.failed(error))
                if not tries.goes_on(use, error, unsent=not use.is_sent):
                    raise
                continue
            use.answered(response.status_code, response.headers)
            if tries.goes_on_after_407(use):
                response.close()
                taken.close()
                self._run(use.ended({"reason": "proxy-auth"}))
                continue
            return self._observed(response, request, _Stream(response.stream, use, self._run, taken))

    def _observed(self, response: httpx.Response, request: httpx.Request, stream: "_Stream") -> httpx.Response:
        seen = _seen(response, request, stream)
        if self._outcome is not None:
            stream.use.is_held = True
            try:
                stream.use.classified(self._outcome(seen))
            except BaseException:
                seen.close()
                raise
            finally:
                self._run(stream.use.let_go())
        return seen

    def _run(self, asking: Optional[Asking]) -> None:
        if asking is not None:
            self._client._service.run(asking)  # The same package.

    def _give(self, url: str) -> None:
        for old in self._kept.give(url):
            with contextlib.suppress(Exception):  # This request does not need it.
                old.close()

    def close(self) -> None:
        for transport in self._kept.all():
            transport.close()


class _Stream(httpx.SyncByteStream):
    """The body, observed: its end is the end of the use."""

    def __init__(
        self, inner: Any, use: Use, run: Callable[[Optional[Asking]], None], taken: contextlib.ExitStack
    ) -> None:
        self.use = use
        self._inner = inner
        self._run = run
        self._taken = taken

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                self.use.bytes += len(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._run(self.use.failed(error))
            raise
        self._run(self.use.ended())

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._taken.close()
            self._run(self.use.ended())


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
        tries = self._tries(request)
        while True:
            try:
                lease = await self._client.lease(**tries.wanted())
            except RemudaError as refusal:
                raise tries.told(refusal) from None
            use = Use(lease, str(request.url))
            taken = contextlib.AsyncExitStack()
            try:
                transport = self._kept.take(lease.url, lambda: self._made_for(lease, httpx.AsyncHTTPTransport))
                taken.push_async_callback(self._give, lease.url)
                response = await transport.handle_async_request(_bounded(request, use, _async_trace))
            except BaseException as error:
                await taken.aclose()
                await self._run(use.failed(error))
                if not tries.goes_on(use, error, unsent=not use.is_sent):
                    raise
                continue
            use.answered(response.status_code, response.headers)
            if tries.goes_on_after_407(use):
                await response.aclose()
                await taken.aclose()
                await self._run(use.ended({"reason": "proxy-auth"}))
                continue
            return await self._observed(response, request, _AsyncStream(response.stream, use, self._run, taken))

    async def _observed(
        self, response: httpx.Response, request: httpx.Request, stream: "_AsyncStream"
    ) -> httpx.Response:
        seen = _seen(response, request, stream)
        if self._outcome is not None:
            stream.use.is_held = True
            try:
                word = self._outcome(seen)
                stream.use.classified(await word if hasattr(word, "__await__") else word)
            except BaseException:
                await seen.aclose()
                raise
            finally:
                await self._run(stream.use.let_go())
        return seen

    async def _run(self, asking: Optional[Asking]) -> None:
        if asking is not None:
            # A task that is cancelled must still report. anyio cancels it anew at each step.
            await asyncio.shield(self._client._service.run(asking))  # The same package.

    async def _give(self, url: str) -> None:
        for old in self._kept.give(url):
            with contextlib.suppress(Exception):  # This request does not need it.
                await old.aclose()

    async def aclose(self) -> None:
        for transport in self._kept.all():
            await transport.aclose()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(
        self,
        inner: Any,
        use: Use,
        run: Callable[[Optional[Asking]], Awaitable[None]],
        taken: contextlib.AsyncExitStack,
    ) -> None:
        self.use = use
        self._inner = inner
        self._run = run
        self._taken = taken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self.use.bytes += len(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            await self._run(self.use.failed(error))
            raise
        await self._run(self.use.ended())

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            await self._taken.aclose()
            await self._run(self.use.ended())


def _seen(response: httpx.Response, request: httpx.Request, stream: Any) -> httpx.Response:
    seen = httpx.Response(
        response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
    )
    seen.request = request
    return seen


def _bounded(request: httpx.Request, use: Use, trace: Callable[[Use, Any], Any]) -> httpx.Request:
    """The same request. No step waits past the end of its lease, and nothing is sent after that.

    httpx's timeouts bound each step alone: the connection, each message of a handshake, and so on.
    """
    limits = request.extensions.get("timeout") or {}
    left = max(0.001, use.lease.left)
    bounded = {name: min(left, limits.get(name) or DEFAULT_TIMEOUT_S) for name in ("connect", "read", "write", "pool")}
    own = {"timeout": bounded, "trace": trace(use, request.extensions.get("trace"))}
    extensions = {**request.extensions, **own}
    return httpx.Request(
        request.method, request.url, headers=request.headers, stream=request.stream, extensions=extensions
    )


def _trace(use: Use, own: Any) -> Any:
    def trace(name: str, info: Any) -> None:
        if own is not None:
            own(name, info)
        _note(use, name, info)

    return trace


def _async_trace(use: Use, own: Any) -> Any:
    async def trace(name: str, info: Any) -> None:
        if own is not None:
            await own(name, info)
        _note(use, name, info)

    return trace


def _note(use: Use, name: str, info: Any) -> None:
    """Of httpcore's events: `http11.send_request_headers.started`, the same for http2, and others."""
    if not name.endswith("send_request_headers.started"):
        return
    if time.monotonic() >= use.lease.deadline:
        raise httpx.ConnectTimeout("The lease of the proxy ended before anything was sent.")
    if info["request"].method != b"CONNECT":  # A request for a tunnel is no use.
        use.is_sent = True
