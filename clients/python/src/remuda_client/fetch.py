"""`fetch`: a request through leased proxies, as steps without input or output.

Each request that leaves is one use: the first one, each redirect, and each try on another proxy. The generator yields
what is to be done, and both clients do it in their own way.
"""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Generator, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urljoin, urlsplit

from .ask import Asking, Settings
from .errors import RemudaFault, RemudaRefusal, RequestFailed
from .exchange import SCHEMES, Answer, Headers, Order
from .lease import LeaseBase, asking_for_outcomes, leasing
from .outcome import IDEMPOTENT, answer_fields, fields_of, with_word
from .tries import RETRY_WAIT_S_MAX

REDIRECTS_MAX = 20
#: A limit that cuts a request blames the proxy if it has had this part of it, and this many seconds.
HUNG_SHARE = 0.5
HUNG_S_MIN = 0.2


@dataclass(frozen=True)
class Response:
    """The answer of a target."""

    status: int
    headers: Headers
    body: bytes
    #: After redirects.
    url: str
    #: How many uses the whole call took.
    uses: int

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body in the charset that its header names, otherwise UTF-8."""
        kind = (self.headers.get("Content-Type") or "").lower()
        charset = kind.partition("charset=")[2].split(";")[0].strip(" \"'") or "utf-8"
        try:
            return self.body.decode(charset, "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.body)


#: The caller's own class of an answer: `success`, a reason, or None for the policy's.
Outcome = Callable[[Response], Any]


@dataclass(frozen=True)
class Via:
    """The parts of a call that are not about HTTP."""

    pool: Optional[str]
    request: Mapping[str, Any]
    wait: float
    retries: int
    timeout: Optional[float]
    outcome: Optional[Outcome]
    redirects: int
    connect_timeout: float
    headers_timeout: float
    body_timeout: float
    tunnel_http: bool
    context: Optional[ssl.SSLContext]


@dataclass(frozen=True)
class Ask:
    asking: Asking


@dataclass(frozen=True)
class Classify:
    outcome: Outcome
    response: Response


#: The driver sends back a reply, an Answer, or the caller's word; or it throws.
Steps = Generator[Union[Ask, Order, Classify], Any, Response]
Wanted = Tuple[str, str, Dict[str, str], Optional[bytes]]


def fetch_steps(settings: Settings, wanted: Wanted, via: Via) -> Steps:
    """@raises RemudaRefusal, RemudaFault, RequestFailed, and errors of the caller's own `outcome`."""
    started = time.monotonic()
    uses = 0
    for hop in range(REDIRECTS_MAX + 1):
        answer, lease, tries = yield from _tried(settings, wanted, via, started)
        uses += tries
        method, url, headers, body = wanted
        outcome = {**_seen(lease, url, answer.latency, len(answer.body))}
        outcome.update(answer_fields(answer.status, answer.headers, forwarded=answer.forwarded))
        onward = redirected(wanted, answer.status, answer.headers.get("Location"))
        if onward is None or hop >= via.redirects:
            response = Response(answer.status, answer.headers, answer.body, url, uses)
            word = None
            try:
                if via.outcome is not None:
                    word = yield Classify(via.outcome, response)
                    outcome = with_word(outcome, word)
            finally:  # If the function throws, the status counts.
                yield Ask(asking_for_outcomes(settings, via.pool, [outcome]))
            return response
        yield Ask(asking_for_outcomes(settings, via.pool, [outcome]))
        wanted = onward
    raise RequestFailed(f"More than {REDIRECTS_MAX} redirects.")


def _tried(
    settings: Settings, wanted: Wanted, via: Via, started: float
) -> "Generator[Any, Any, Tuple[Answer, LeaseBase, int]]":
    method, url, headers, body = wanted
    avoid: "list[str]" = []
    earlier: Optional[RequestFailed] = None
    for tries in range(1, via.retries + 2):
        try:
            lease = yield from _leased(settings, url, via, avoid, started)
        except (RemudaRefusal, RemudaFault):
            if earlier is not None:
                raise earlier
            raise
        sent_at = time.monotonic()
        limit = lease.deadline if via.timeout is None else min(lease.deadline, started + via.timeout)
        order = Order(
            lease.url,
            method,
            url,
            headers,
            body,
            limit,
            via.connect_timeout,
            via.headers_timeout,
            via.body_timeout,
            via.tunnel_http,
            via.context,
        )
        try:
            answer = yield order
        except RequestFailed as failed:
            now = min(time.monotonic(), limit)
            by_lease = limit == lease.deadline
            whole = now - (lease.asked_at if by_lease else started)
            hung = now - sent_at >= HUNG_SHARE * whole and (by_lease or now - sent_at >= HUNG_S_MIN)
            if failed.cut and not hung and failed.error is not None:
                failed.error, failed.reason = None, None if failed.status is not None else "client-abort"
            seen = {**_seen(lease, url, now - sent_at, failed.received), **fields_of(failed)}
            yield Ask(asking_for_outcomes(settings, via.pool, [seen]))
            again = failed.another and (failed.unsent or method in IDEMPOTENT)
            if not again or tries > via.retries:
                raise
            if via.request.get("session") is None:  # A session keeps its proxy.
                avoid.append(lease.proxy_id)
            earlier = failed
        except BaseException:
            aborted = {**_seen(lease, url, time.monotonic() - sent_at, 0), "reason": "client-abort"}
            yield Ask(asking_for_outcomes(settings, via.pool, [aborted]))
            raise
        else:
            return answer, lease, tries
    raise AssertionError("the last try returns or raises")


def _leased(
    settings: Settings, url: str, via: Via, avoid: Sequence[str], started: float
) -> "Generator[Any, Any, _Leased]":
    wait = min(via.wait, RETRY_WAIT_S_MAX) if avoid else via.wait
    if via.timeout is not None:
        wait = min(wait, max(0.0, started + via.timeout - time.monotonic()))
    request = dict(via.request)
    exclude = [*(request.pop("exclude", None) or []), *avoid]
    request.setdefault("schemes", SCHEMES)
    asking = leasing(settings, via.pool, wait=wait, exclude=exclude, target=urlsplit(url).hostname, **request)
    asked_at = time.monotonic()
    reply = yield Ask(asking)
    return _Leased(settings, reply, asked_at)


class _Leased(LeaseBase):
    def __init__(self, settings: Settings, reply: Mapping[str, Any], asked_at: float) -> None:
        super().__init__(settings, reply, asked_at)
        self.asked_at = asked_at


def _seen(lease: LeaseBase, url: str, latency: float, received: int) -> Dict[str, Any]:
    return {
        "leaseId": lease.lease_id,
        "n": 1,
        "target": urlsplit(url).hostname,
        "latencyMs": max(0, int(latency * 1000)),
        "bytes": received,
    }


def redirected(wanted: Wanted, status: int, location: Optional[str]) -> Optional[Wanted]:
    """The next request by the Fetch standard. None if this answer leads nowhere."""
    method, url, headers, body = wanted
    if status not in (301, 302, 303, 307, 308) or location is None:
        return None
    to = urljoin(url, location)
    if urlsplit(to).scheme not in ("http", "https"):
        return None
    headers = dict(headers)
    if (status in (301, 302) and method == "POST") or (status == 303 and method not in ("GET", "HEAD")):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
    if _origin(to) != _origin(url):  # Credentials are not sent to another origin.
        secret = ("authorization", "cookie", "proxy-authorization")
        headers = {name: value for name, value in headers.items() if name.lower() not in secret}
    return method, to, headers, body


def _origin(url: str) -> Tuple[str, Optional[str], int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
