"""For `requests`: `session.mount("https://", RemudaAdapter(client))`. Each request, redirect and try is one use."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple, Union
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from .client import Client, Lease
from .errors import RemudaError
from .outcome import IDEMPOTENT, answer_fields, verdict_of, with_word

try:
    import socks  # noqa: F401  (PySocks, of requests[socks])

    SCHEMES: Tuple[str, ...] = ("http", "https", "socks5", "socks5h")
except ImportError:
    SCHEMES = ("http", "https")

DEFAULT_TIMEOUT_S = 30.0
RETRY_WAIT_S_MAX = 5.0

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
        avoid: "list[str]" = []
        earlier: Optional[BaseException] = None
        forwards = urlsplit(request.url or "").scheme == "http"
        for left in range(self._retries, -1, -1):
            try:
                lease = self._lease(request, avoid)
            except RemudaError:
                if earlier is not None:
                    raise earlier from None
                raise
            use = _Use(lease, urlsplit(request.url or "").hostname)
            forwarded = forwards and lease.scheme in ("http", "https")
            try:
                response = super().send(request, True, _bounded(timeout, lease.left), verify, cert, lease.proxies)
            except BaseException as error:
                verdict = verdict_of(error)
                use.ended(verdict.fields or {"reason": "client-abort"})
                if not (left and verdict.another and (verdict.unsent or request.method in IDEMPOTENT)):
                    raise
                avoid.append(lease.proxy_id)
                earlier = error
                continue
            use.head = answer_fields(response.status_code, response.headers, forwarded=forwarded)
            if forwarded and response.status_code == 407 and left:
                response.close()
                use.ended({"reason": "proxy-auth", "status": 407})
                avoid.append(lease.proxy_id)
                earlier = None
                continue
            response.raw = _Body(response.raw, use)
            if not stream:
                self._read(response, use)
            elif self._outcome is not None:
                use.head = with_word(use.head, self._outcome(response))
            return response
        raise AssertionError("the last try returns or raises")

    def _lease(self, request: PreparedRequest, avoid: "list[str]") -> Lease:
        given = dict(self._request)
        if avoid and given.get("session") is None:
            given["exclude"] = [*(given.get("exclude") or []), *avoid]
            given["wait"] = min(given.get("wait", 30.0), RETRY_WAIT_S_MAX)
        return self._client.lease(target=urlsplit(request.url or "").hostname, **given)

    def _read(self, response: Response, use: "_Use") -> None:
        use.held = True
        try:
            response.content
            if self._outcome is not None:
                use.head = with_word(use.head, self._outcome(response))
        finally:
            use.held = False
            use.settle()


class _Use:
    """One use, which is reported once, when its body has ended."""

    def __init__(self, lease: Lease, target: Optional[str]) -> None:
        self._lease = lease
        self._target = target
        self._started = time.monotonic()
        self._pending: Optional[Dict[str, Any]] = None
        self._done = False
        self.head: Dict[str, Any] = {}
        self.bytes = 0
        #: While the caller's function decides, the report waits.
        self.held = False

    def ended(self, fields: Dict[str, Any]) -> None:
        if self._pending is None:
            self._pending = fields
        if not self.held:
            self.settle()

    def settle(self) -> None:
        if self._done:
            return
        self._done = True
        fields = {**self.head, **(self._pending or {})}
        latency = int((time.monotonic() - self._started) * 1000)
        told = {"leaseId": self._lease.lease_id, "n": 1, "target": self._target, "latencyMs": latency}
        self._lease._service.run(  # The same package.
            _asking(self._lease, {**told, "bytes": self.bytes, **fields})
        )


def _asking(lease: Lease, outcome: Dict[str, Any]) -> Any:
    from .lease import asking_for_outcomes

    return asking_for_outcomes(lease._settings, lease.pool, [outcome])


class _Body:
    """The raw body, observed: its end is the end of the use."""

    def __init__(self, raw: Any, use: _Use) -> None:
        self._raw = raw
        self._use = use

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        try:
            for chunk in self._raw.stream(*args, **kwargs):
                self._use.bytes += len(chunk)
                yield chunk
        except GeneratorExit:
            self._use.ended({})
            raise
        except BaseException as error:
            self._use.ended(verdict_of(error).fields or {"reason": "client-abort"})
            raise
        self._use.ended({})

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        try:
            data: bytes = self._raw.read(*args, **kwargs)
        except BaseException as error:
            self._use.ended(verdict_of(error).fields or {"reason": "client-abort"})
            raise
        self._use.bytes += len(data)
        if data == b"" or self._raw.closed:
            self._use.ended({})
        return data

    def close(self) -> None:
        self._raw.close()
        self._use.ended({})

    def release_conn(self) -> None:
        self._raw.release_conn()
        self._use.ended({})


def _bounded(timeout: Any, left: float) -> Tuple[float, float]:
    """No request waits past the end of its lease."""
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    least = max(0.001, left)
    return min(least, connect or DEFAULT_TIMEOUT_S), min(least, read or DEFAULT_TIMEOUT_S)
