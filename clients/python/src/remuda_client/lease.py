"""Leases, and the rules by which their uses are counted. Both clients share them."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Union

from .ask import Asking, Json, Settings, ask, pool_name, wait_ms
from .errors import RemudaFault
from .outcome import verdict_of


def pool_path(settings: Settings, pool: Optional[str]) -> str:
    return f"/v1/pools/{pool_name(settings.pool if pool is None else pool)}"


def leasing(settings: Settings, pool: Optional[str], **fields: Any) -> Asking:
    """A lease request, checked. `fields`: of `lease_body`. @raises RemudaFault."""
    return ask(settings, "POST", f"{pool_path(settings, pool)}/leases", lease_body(settings, **fields))


def lease_body(
    settings: Settings,
    *,
    count: Optional[int] = None,
    uses: int = 1,
    wait: float = 30.0,
    ttl: Optional[float] = None,
    session: Optional[str] = None,
    labels: Optional[Mapping[str, str]] = None,
    schemes: Optional[Sequence[str]] = None,
    exclude: Optional[Sequence[str]] = None,
    proxy_id: Optional[str] = None,
    target: Optional[str] = None,
    holder: Optional[str] = None,
    token: Optional[bool] = None,
    request_id: Optional[str] = None,
) -> Dict[str, Any]:
    """The body of a lease request. It has a requestId, so a repeated request is granted once."""
    return {
        "requestId": request_id or str(uuid.uuid4()),
        "count": count,
        "uses": uses,
        # A request for one very proxy cannot wait.
        "waitMs": wait_ms(wait if proxy_id is None else 0.0),
        "ttlMs": None if ttl is None else int(ttl * 1000),
        "session": session,
        "labels": None if labels is None else dict(labels),
        "schemes": None if schemes is None else list(schemes),
        "exclude": list(exclude) if exclude else None,
        "proxyId": proxy_id,
        "target": target,
        "holder": holder or settings.holder,
        "token": token,
    }


def asking_for_outcomes(settings: Settings, pool: Optional[str], outcomes: Sequence[Json]) -> Asking:
    return ask(settings, "POST", f"{pool_path(settings, pool)}/outcomes", {"outcomes": list(outcomes)})


class LeaseBase:
    """A lease, and its uses so far. It ends by this process's monotonic clock, counted from the sending."""

    def __init__(self, settings: Settings, reply: Json, asked_at: float) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._taken = 0
        self._reported: "set[int]" = set()
        self._over = False
        self.reply = reply
        self.lease_id: str = reply["leaseId"]
        self.pool: str = reply["pool"]
        self.proxy_id: str = reply["proxyId"]
        #: With the credentials, percent-encoded.
        self.url: str = reply["url"]
        self.host: str = reply["host"]
        self.port: int = reply["port"]
        self.scheme: str = reply["scheme"]
        self.uses: int = reply["uses"]
        self.labels: Mapping[str, str] = reply.get("labels", {})
        #: The guest token, if it was asked for: {"tokenId", "value", …}.
        self.token: Optional[Json] = reply.get("token")
        #: An instant of `time.monotonic()`. Send nothing later.
        self.deadline: float = asked_at + reply["leftMs"] / 1000
        #: The proxy has begun to rest: make no further use of it.
        self.stopped = False

    def __repr__(self) -> str:  # Without the credentials.
        return f"<Lease {self.lease_id} of {self.pool}: {self.host}:{self.port}, {self.left:.1f} s left>"

    @property
    def proxies(self) -> Dict[str, str]:
        """For `requests`: both schemes through this proxy."""
        return {"http": self.url, "https": self.url}

    @property
    def left(self) -> float:
        """Seconds until the deadline. For the timeout of a request."""
        return max(0.0, self.deadline - time.monotonic())

    def take(self) -> int:
        """Takes the next use, before its request is sent, and returns its number. @raises RemudaFault "lease-over"."""
        with self._lock:
            if self._over or self.left <= 0 or self._taken >= self.uses or self.stopped:
                raise RemudaFault("lease-over", f"The lease has no time or no use left (of {self.uses}).")
            self._taken += 1
            return self._taken

    def _outcome(self, told: Dict[str, Any], error: Union[str, BaseException, None], n: Optional[int]) -> Json:
        if isinstance(error, BaseException):
            told = {**(verdict_of(error).fields or {"reason": "client-abort"}), **_given(told)}
        elif error is not None:
            told = {**told, "error": error}
        with self._lock:
            if n is None:
                # The use that was taken last, if it was not reported yet, else the next one.
                n = self._taken if self._taken > 0 and self._taken not in self._reported else self._taken + 1
            self._taken = max(self._taken, min(n, self.uses))
            self._reported.add(n)
        return {"leaseId": self.lease_id, "n": n, **_given(told)}

    @contextlib.contextmanager
    def _reporting(self, n: int) -> Iterator[None]:
        """If the report fails, the next one without a number is about the same use. The service counts each use once."""
        try:
            yield
        except BaseException:
            with self._lock:
                self._reported.discard(n)
            raise

    def _note(self, reply: Json) -> None:
        if any(each["leaseId"] == self.lease_id for each in reply.get("stop", [])):
            self.stopped = True

    def _last_outcome(self, error: Optional[BaseException]) -> Optional[Json]:
        """The outcome to report when the block ends, if any.

        A caller that counts nothing may have made all uses, so they count as made. An exception ends a use that was not
        reported: it may have been made, so it counts.
        """
        with self._lock:
            silent = self._taken == 0
            pending = self._taken > 0 and self._taken not in self._reported
            spent = self._taken >= self.uses and not pending
        if error is None:
            return self._all_made({"result": "success"}) if silent else None
        if spent:
            return None
        fields = verdict_of(error).fields or {"reason": "client-abort"}
        return self._all_made(fields) if silent else self._outcome(fields, None, None)

    def _all_made(self, fields: Dict[str, Any]) -> Json:
        outcome = self._outcome(fields, None, 1)
        with self._lock:
            self._taken = self.uses
        return outcome

    def _asking_to_release(self) -> Optional[Asking]:
        """None if it is closed already, because all uses are reported or its time is over."""
        with self._lock:
            over, self._over = self._over, True
            if over or len(self._reported) >= self.uses or time.monotonic() >= self.deadline:
                return None
            used = self._taken
        path = f"/v1/pools/{self.pool}/leases/{self.lease_id}"
        return ask(self._settings, "DELETE", path, query={"used": used})

    def _asking_to_renew(self, ttl: Optional[float]) -> Asking:
        body = {"ttlMs": None if ttl is None else int(ttl * 1000)}
        return ask(self._settings, "POST", f"/v1/pools/{self.pool}/leases/{self.lease_id}/renew", body)


def outcome_fields(
    status: Optional[int],
    reason: Optional[str],
    result: Optional[str],
    latency: Optional[float],
    bytes: Optional[int],
    target: Optional[str],
    retry_after: Optional[float],
    token_rejected: Optional[bool],
) -> Dict[str, Any]:
    return {
        "status": status,
        "reason": reason,
        "result": result,
        "latencyMs": None if latency is None else max(0, int(latency * 1000)),
        "bytes": bytes,
        "target": target,
        "retryAfterMs": None if retry_after is None else int(retry_after * 1000),
        "tokenRejected": token_rejected,
    }


def _given(fields: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
