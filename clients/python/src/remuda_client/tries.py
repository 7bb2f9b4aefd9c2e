"""What the adapters for requests, httpx and aiohttp share: the tries of a request, its uses, and what is kept for them.

There is no input or output here. A use gives its report as an `Asking`, and the adapter's driver runs it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, Generic, List, Mapping, Optional, TypeVar
from urllib.parse import urlsplit

from .ask import Asking
from .errors import RemudaError
from .lease import LeaseBase, asking_for_outcomes
from .outcome import IDEMPOTENT, answer_fields, verdict_of, with_word

DEFAULT_TIMEOUT_S = 30.0
#: After a failed try the wait for another proxy is short, because the caller has already waited once.
RETRY_WAIT_S_MAX = 5.0
#: Proxies whose connections are kept.
KEPT_MAX = 256

Kind = TypeVar("Kind")


class Tries:
    """The tries of one request, each with a lease of its own.

    @param given: the fields of each lease request. @param is_plain: the body is there whole, so it can be sent again.
    """

    def __init__(self, given: Mapping[str, Any], retries: int, method: str, url: str, *, is_plain: bool) -> None:
        self._given = {"target": urlsplit(url).hostname, **given}
        self._left = retries
        self._method = method
        self._is_plain = is_plain
        self._avoid: List[str] = []
        self._earlier: Optional[BaseException] = None

    def wanted(self) -> Dict[str, Any]:
        """The fields of the next lease request. A session keeps its proxy."""
        given = dict(self._given)
        if self._avoid and given.get("session") is None:
            given["exclude"] = [*(given.get("exclude") or []), *self._avoid]
            given["wait"] = min(given.get("wait", 30.0), RETRY_WAIT_S_MAX)
        return given

    def told(self, refusal: RemudaError) -> BaseException:
        """The error that the caller should see when no lease is granted: the one of an earlier try, if there is one."""
        return self._earlier or refusal

    def goes_on(self, use: "Use", error: BaseException, *, unsent: bool) -> bool:
        """Whether to try another proxy. @param unsent: nothing of the request has left, its body included."""
        may_repeat = unsent or (self._is_plain and self._method in IDEMPOTENT)
        return verdict_of(error).another and may_repeat and self._next(use, error)

    def goes_on_after_407(self, use: "Use") -> bool:
        """The same for an answer of the proxy itself, which says that it has passed nothing on."""
        return use.is_rejected and self._is_plain and self._next(use, None)

    def _next(self, use: "Use", error: Optional[BaseException]) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        self._avoid.append(use.lease.proxy_id)
        self._earlier = error
        return True


class Use:
    """One use, which is reported once, when its body has ended."""

    def __init__(self, lease: LeaseBase, url: str) -> None:
        parts = urlsplit(url)
        self.lease = lease
        self.bytes = 0
        #: The request's head has left, or a part of it.
        self.is_sent = False
        #: While the caller's function decides, the report waits.
        self.is_held = False
        self._forwarded = parts.scheme == "http" and lease.scheme in ("http", "https")
        self._target = parts.hostname
        self._started = time.monotonic()
        self._head: Dict[str, Any] = {}
        self._end: Optional[Dict[str, Any]] = None
        self._is_reported = False

    def answered(self, status: int, headers: Any) -> None:
        self._head = answer_fields(status, headers, forwarded=self._forwarded)

    def classified(self, word: Any) -> None:
        """By the caller. @raises RemudaFault."""
        self._head = with_word(self._head, word)

    @property
    def is_rejected(self) -> bool:
        """The proxy does not accept its login."""
        return self._forwarded and self._head.get("status") == 407

    def failed(self, error: BaseException) -> Optional[Asking]:
        return self.ended(verdict_of(error).fields or {"reason": "client-abort"})

    def ended(self, fields: Optional[Dict[str, Any]] = None) -> Optional[Asking]:
        """The report. None if it was made or has to wait. The first end counts; without fields, the answer's head."""
        if self._end is None:
            self._end = fields or {}
        return None if self.is_held else self._report()

    def let_go(self) -> Optional[Asking]:
        """The caller's function has decided. The report, if the use has ended in the meantime."""
        self.is_held = False
        return None if self._end is None else self._report()

    def _report(self) -> Optional[Asking]:
        if self._is_reported:
            return None
        self._is_reported = True
        told = {"leaseId": self.lease.lease_id, "n": 1, "target": self._target, "bytes": self.bytes}
        latency = int((time.monotonic() - self._started) * 1000)
        outcome = {**told, "latencyMs": latency, **self._head, **(self._end or {})}
        return asking_for_outcomes(self.lease._settings, self.lease.pool, [outcome])


class Kept(Generic[Kind]):
    """One thing for each key, at most KEPT_MAX besides those in use. The least recently used one goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._things: "OrderedDict[str, Kind]" = OrderedDict()
        self._users: Dict[str, int] = {}

    def take(self, key: str, make: Callable[[], Kind]) -> Kind:
        """For use, until `give`."""
        with self._lock:
            thing = self._things.pop(key) if key in self._things else make()
            self._things[key] = thing
            self._users[key] = self._users.get(key, 0) + 1
            return thing

    def give(self, key: str) -> List[Kind]:
        """The things that are not kept any longer. Nobody uses them. The caller closes them."""
        with self._lock:
            self._users[key] -= 1
            over = len(self._things) - KEPT_MAX
            idle = [each for each in self._things if self._users[each] == 0][:over] if over > 0 else []
            for each in idle:
                del self._users[each]
            return [self._things.pop(each) for each in idle]

    def all(self) -> List[Kind]:
        with self._lock:
            return list(self._things.values())
