"""The two errors of this client. Neither ever holds a password or a key."""

from __future__ import annotations

from typing import Any, Mapping, Optional


class RemudaError(Exception):
    """The base of both errors."""

    code: str


class RemudaRefusal(RemudaError):
    """The service refused, and nothing was changed. `code` gives the reason."""

    def __init__(self, reply: Mapping[str, Any]) -> None:
        super().__init__(str(reply.get("message", "")))
        self.code = str(reply.get("code", ""))
        ms = reply.get("retryAfterMs")
        #: Seconds after which the same request may be answered differently.
        self.retry_after: Optional[float] = None if ms is None else ms / 1000
        #: Of `pool-exhausted`: how many matching proxies each rule holds back.
        self.limited_by: Optional[Mapping[str, int]] = reply.get("limitedBy")
        #: Of `invalid-request`: which field.
        self.field: Optional[str] = reply.get("field")


class RemudaFault(RemudaError):
    """Anything else between this client and the service.

    `no-connection`: no service answers there. `no-answer`: sent, but no reply in time; it may have been done.
    `not-allowed`: the key is not accepted. `not-remuda`: another program answers there. `lease-over`: the lease has no
    time or no use left. `wrong-options`: a mistake in a call. `closed`: this client is closed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RequestFailed(OSError):
    """A request through a proxy failed. `reason` or `error` says how it counts."""

    def __init__(
        self,
        message: str,
        *,
        reason: Optional[str] = None,
        error: Optional[str] = None,
        status: Optional[int] = None,
        another: bool = False,
        unsent: bool = False,
        cut: bool = False,
        received: int = 0,
    ) -> None:
        super().__init__(message)
        #: A class of outcomes (`proxy-auth`, `target-error`, …). None: the pool's policy classifies `error`.
        self.reason = reason
        #: A code such as `ECONNREFUSED`.
        self.error = error
        self.status = status
        #: Another proxy may do better.
        self.another = another
        #: Nothing of the request has reached the target.
        self.unsent = unsent
        #: The caller's time limit or the lease's end cut it.
        self.cut = cut
        #: Bytes of the body that had come.
        self.received = received
