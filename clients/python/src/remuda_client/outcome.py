"""Outcomes: what an exception says about the proxy, and whether another proxy may do better.

The pool's policy classifies codes such as `ECONNREFUSED`. A reason is named only where the exception says more than a
code. The libraries that make requests wrap the socket's error, each in its own way, so the whole chain is read. Their
classes are known by name, because this package needs none of them.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Optional

from .errors import RemudaError, RemudaFault, RequestFailed

REASONS = (
    "unreachable",
    "timeout",
    "proxy-auth",
    "proxy-error",
    "blocked",
    "throttled",
    "target-error",
    "client-abort",
)
#: Methods that may be repeated (RFC 9110).
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")

RETRY_AFTER_MS_MAX = 366 * 86_400_000

_DEPTH_MAX = 16
_CONNECTING = {
    "NewConnectionError",
    "ConnectTimeoutError",
    "ConnectTimeout",
    "ConnectError",
    "ConnectionTimeoutError",
    "ProxyError",
    "ClientConnectorError",
    "ClientProxyConnectionError",
}
_TIMEOUTS = {
    "ConnectTimeoutError",
    "ConnectTimeout",
    "ReadTimeout",
    "ReadTimeoutError",
    "WriteTimeout",
    "ServerTimeoutError",
}
#: Twisted has a TimeoutError of its own.
_TIMEOUTS |= {"TimeoutError", "TCPTimedOutError"}
_CLOSED = {
    "RemoteDisconnected",
    "ServerDisconnectedError",
    "RemoteProtocolError",
    "IncompleteRead",
    "ClientPayloadError",
    "ChunkedEncodingError",
    "ReadError",
    "WriteError",
    "ResponseNeverReceived",
    "ConnectionLost",
    "ConnectionDone",
}
_REFUSED = {"ConnectionRefusedError", "ConnectionRefused"}
_NOT_HTTP = {"BadStatusLine", "UnknownProtocol", "BadHttpMessage", "ClientResponseError", "InvalidHeader"}
#: The other side's first bytes are not TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
#: These libraries tell the status of a refused tunnel only in words.
_TUNNEL = re.compile(
    r"(?:Tunnel connection failed: |Could not open CONNECT tunnel with proxy .*'status': |^)([1-5]\d\d)\b"
)


@dataclass(frozen=True)
class Verdict:
    """`fields`: of the outcome. Empty if the exception is the caller's own and says nothing about the proxy."""

    fields: Dict[str, Any]
    another: bool = False
    unsent: bool = False


def verdict_of(error: BaseException) -> Verdict:
    """What the exception says, from any of the libraries that this package works with."""
    chain = list(_chain(error))
    names = {each.__name__ for one in chain for each in type(one).__mro__}
    unsent = bool(names & _CONNECTING)
    for one in chain:
        found = _plain(one, unsent)
        if found is not None:
            return found
    if names & _TIMEOUTS:
        return Verdict({"error": "ETIMEDOUT"}, another=True, unsent=unsent)
    if names & _REFUSED:
        return Verdict({"error": "ECONNREFUSED"}, another=True, unsent=True)
    if names & _NOT_HTTP and not names & _CLOSED:
        return Verdict({"reason": "proxy-error"}, another=True)
    if names & _CLOSED:
        return Verdict({"error": "ECONNRESET"}, another=True, unsent=unsent)
    if unsent:
        return Verdict({"reason": "proxy-error"}, another=True, unsent=True)
    return Verdict({})


def _plain(one: BaseException, unsent: bool) -> Optional[Verdict]:
    name = type(one).__name__
    if isinstance(one, RequestFailed):
        return Verdict(fields_of(one), one.another, one.unsent)
    if isinstance(one, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)):
        return Verdict({"reason": "client-abort"})
    if isinstance(one, RemudaFault) and one.code == "lease-over":
        return Verdict({"reason": "client-abort"})
    if isinstance(one, RemudaError):
        return Verdict({})
    if name in ("ClientHttpProxyError", "ProxyError", "TunnelError", "OSError"):
        told = getattr(one, "status", None) or _status_in(str(one))
        if told is not None:
            reason = "proxy-auth" if told == 407 else "proxy-error"
            return Verdict({"reason": reason, "status": told}, another=True, unsent=True)
    if isinstance(one, ssl.SSLCertVerificationError) or name in ("CertificateError", "ClientConnectorCertificateError"):
        return Verdict({"reason": "target-error", "error": "CERT_INVALID"})
    if isinstance(one, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Verdict({"error": "ECONNRESET"}, another=True, unsent=unsent)
    if isinstance(one, ssl.SSLError) and not isinstance(one, socket.timeout):
        if any(word in f"{one.reason} {one}".upper().replace(" ", "_") for word in _NOT_TLS):
            return Verdict({"reason": "proxy-error", "error": "EPROTO"}, another=True, unsent=True)
        return Verdict({"reason": "target-error", "error": f"ERR_SSL_{one.reason or 'ERROR'}"[:128]})
    if isinstance(one, socket.gaierror):
        return Verdict({"error": "ENOTFOUND"}, another=True, unsent=True)
    if isinstance(one, (socket.timeout, TimeoutError, asyncio.TimeoutError)):
        return Verdict({"error": "ETIMEDOUT"}, another=True, unsent=unsent)
    if isinstance(one, OSError) and isinstance(one.errno, int) and one.errno in errno.errorcode:
        code = errno.errorcode[one.errno]
        first = code in ("ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN")
        return Verdict({"error": code}, another=True, unsent=unsent or first)
    return None


def fields_of(failed: RequestFailed) -> Dict[str, Any]:
    told = {"reason": failed.reason, "error": failed.error, "status": failed.status}
    return {name: value for name, value in told.items() if value is not None}


def _status_in(text: str) -> Optional[int]:
    found = _TUNNEL.search(text)
    return None if found is None else int(found.group(1))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those inside it, each once, the outer ones first."""
    waiting, seen = [error], set()
    while waiting and len(seen) < _DEPTH_MAX:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [getattr(one, "reason", None), getattr(one, "os_error", None), *one.args]
        inner += list(getattr(one, "reasons", None) or []) + [one.__cause__, one.__context__]
        for each in inner:
            each = getattr(each, "value", each)  # Twisted wraps exceptions in failures.
            if isinstance(each, BaseException):
                waiting.append(each)


def retry_after_ms(value: Optional[str]) -> Optional[int]:
    """Of a `Retry-After` header: seconds or a date (RFC 9110). None if it is neither."""
    if value is None:
        return None
    if re.fullmatch(r"\s*\d{1,12}\s*", value):
        return min(int(value) * 1000, RETRY_AFTER_MS_MAX)
    from datetime import datetime, timezone
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)
    return min(max(0, int((at - datetime.now(timezone.utc)).total_seconds() * 1000)), RETRY_AFTER_MS_MAX)


def answer_fields(status: int, headers: Any, *, forwarded: bool) -> Dict[str, Any]:
    """Of an outcome, from an answer's head. `headers`: with a `get` that ignores case.

    @param forwarded: the answer came through a forwarding proxy, which may have made it itself.
    """
    fields: Dict[str, Any] = {"status": status}
    pause = retry_after_ms(headers.get("Retry-After")) if status in (429, 503) else None
    if pause is not None:
        fields["retryAfterMs"] = pause
    if forwarded and re.search(r";\s*error=", headers.get("Proxy-Status") or ""):
        fields["reason"] = "proxy-error"  # RFC 9209: a proxy made this answer.
    return fields


def with_word(fields: Dict[str, Any], word: Any) -> Dict[str, Any]:
    """The caller's own class of an answer. None leaves it to the policy."""
    if word is None:
        return fields
    if word != "success" and word not in REASONS:
        raise RemudaFault("wrong-options", f"outcome: must return success, one of {', '.join(REASONS)}, or None.")
    rest = {name: value for name, value in fields.items() if name not in ("reason", "error")}
    return {**rest, "result": "success"} if word == "success" else {**rest, "reason": word}
