"""For `requests`: `session.mount("https://", RemudaAdapter(client))`. Each request, redirect and try is one use."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple, Union

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError

from .ask import Asking
from .client import Client
from .errors import RemudaError
from .tries import DEFAULT_TIMEOUT_S, Kept, Tries, Use

try:
    import socks  # noqa: F401  (PySocks, of requests[socks])

    SCHEMES: Tuple[str, ...] = ("http", "https", "socks5", "socks5h")
except ImportError:
    SCHEMES = ("http", "https")

Outcome = Callable[[Response], Optional[str]]


class RemudaAdapter(HTTPAdapter):
    """Sends requests through leased proxies.

    @param request: of each lease: pool, session, labels, wait, ttl, … @param retries: tries on other proxies.
    @param outcome: classifies the answer: `success`, a reason such as `blocked`, or None. With `stream=True` it must
    not read the body.
    """

    def __init__(
        self, client: Client, *, retries: int = 2, outcome: Optional[Outcome] = None, **request: Any
    ) -> None:
        self._client = client
        self._retries = retries
        self._outcome = outcome
        self._request: Dict[str, Any] = {"schemes": SCHEMES, **request}
        self._kept: "Kept[Any]" = Kept()
        super().__init__()

    def send(  # type: ignore[override]
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Union[None, float, Tuple[Optional[float], Optional[float]]] = None,
        verify: Union[bool, str] = True,
        cert: Any = None,
        proxies: Optional[Mapping[str, str]] = None,
    ) -> Response:
        url = request.url or ""
        is_plain = request.body is None or isinstance(request.body, (bytes, str))
        tries = Tries(self._request, self._retries, request.method or "GET", url, is_plain=is_plain)
        while True:
            try:
                lease = self._client.lease(**tries.wanted())
            except RemudaError as refusal:
                raise tries.told(refusal) from None
            use = Use(lease, url)
            try:
                with self._sending(use):
                    response = super().send(request, True, _bounded(timeout, lease.left), verify, cert, lease.proxies)
            except BaseException as error:
                self._run(use.failed(error))
                if not tries.goes_on(use, error, unsent=not use.is_sent):
                    raise
                continue
            use.answered(response.status_code, response.headers)
            if tries.goes_on_after_407(use):
                response.close()
                self._run(use.ended({"reason": "proxy-auth"}))
                continue
            return self._observed(response, use, stream)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = self._kept.take(proxy, lambda: self._manager(proxy, options))
        if getattr(_present, "use", None) is None:
            self._give(proxy)  # A caller looks at it. It sends nothing.
        else:
            _present.proxies.append(proxy)
        return manager

    def close(self) -> None:
        super().close()
        for each in self._kept.all():
            each.clear()

    @contextlib.contextmanager
    def _sending(self, use: Use) -> Iterator[None]:
        """A body may be made of other requests of the same thread, so these nest."""
        before = getattr(_present, "use", None), getattr(_present, "proxies", None)
        _present.use, _present.proxies = use, []
        try:
            yield
        finally:
            for proxy in _present.proxies:
                self._give(proxy)
            _present.use, _present.proxies = before

    def _give(self, proxy: str) -> None:
        for old in self._kept.give(proxy):
            old.clear()  # Of connections that are still read, each is closed when its body ends.

    def _manager(self, proxy: str, options: Dict[str, Any]) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        self.proxy_manager.clear()  # It would keep all of them.
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: _watched(pool) for scheme, pool in pools.items()}
        return manager

    def _observed(self, response: Response, use: Use, stream: bool) -> Response:
        response.raw = _Body(response.raw, use, self._run)
        use.is_held = not stream
        try:
            if not stream:
                response.content  # Only its end shows a success.
            if self._outcome is not None:
                use.classified(self._outcome(response))
        except BaseException:
            response.close()
            raise
        finally:
            self._run(use.let_go())
        return response

    def _run(self, asking: Optional[Asking]) -> None:
        if asking is not None:
            self._client._service.run(asking)  # The same package.


#: The use whose request this thread sends, and its proxies. urllib3's connections look here: no argument reaches them.
_present = threading.local()


class _Watched:
    """A connection that sends nothing after the end of its lease, and says when it begins to send.

    urllib3's timeouts bound each step alone: the connection, each message of a handshake, and so on.
    """

    def connect(self) -> None:
        self._is_connecting = True  # A request for a tunnel is no use.
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self._is_connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:  # type: ignore[has-type]
            self.connect()
        use: Optional[Use] = getattr(_present, "use", None)
        if use is not None and time.monotonic() >= use.lease.deadline:
            if use.is_sent:
                raise socket.timeout("The lease of the proxy has ended.")
            raise ConnectTimeoutError(self, "The lease of the proxy ended before anything was sent.")
        if use is not None and not getattr(self, "_is_connecting", False):
            use.is_sent = True
        super().send(data)  # type: ignore[misc]


def _watched(pool: Any) -> Any:
    connection = type("Watched", (_Watched, pool.ConnectionCls), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class _Body:
    """The raw body, observed: its end is the end of the use."""

    def __init__(self, raw: Any, use: Use, run: Callable[[Optional[Asking]], None]) -> None:
        self._raw = raw
        self._use = use
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        try:
            for chunk in self._raw.stream(*args, **kwargs):
                self._use.bytes += len(chunk)
                yield chunk
        except GeneratorExit:
            self._run(self._use.ended())
            raise
        except BaseException as error:
            self._run(self._use.failed(error))
            raise
        self._run(self._use.ended())

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        try:
            data: bytes = self._raw.read(*args, **kwargs)
        except BaseException as error:
            self._run(self._use.failed(error))
            raise
        self._use.bytes += len(data)
        if data == b"" or self._raw.closed:
            self._run(self._use.ended())
        return data

    def close(self) -> None:
        self._raw.close()
        self._run(self._use.ended())

    def release_conn(self) -> None:
        self._raw.release_conn()
        self._run(self._use.ended())


def _bounded(timeout: Any, left: float) -> Tuple[float, float]:
    """No step waits past the end of its lease."""
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    least = max(0.001, left)
    return min(least, connect or DEFAULT_TIMEOUT_S), min(least, read or DEFAULT_TIMEOUT_S)
