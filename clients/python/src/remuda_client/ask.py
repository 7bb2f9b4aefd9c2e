"""How a request to the service is made, repeated and read, without any input or output.

`ask` is a generator. It yields a `Send` or a `Pause`, and its driver sends back the reply, or throws `Broken` into it.
`service.py` has a driver that blocks and one for asyncio, so both clients follow the same rules.

Every request may be sent twice: a lease request has its requestId, a report counts each use once, and renewal and
release state the desired result. So while no service answers, the same request is sent again until its time is over.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from typing import Any, Generator, Mapping, Optional, Union
from urllib.parse import urlencode, urlsplit

from .errors import RemudaError, RemudaFault, RemudaRefusal

DEFAULT_URL = "http://127.0.0.1:7480"
#: How long to wait for an answer, in addition to the request's own `wait`.
ANSWER_S = 15.0
PAUSE_S = 0.05
PAUSE_S_MAX = 1.0
#: The longest `wait` of a lease request.
WAIT_S_MAX = 60.0

Json = Mapping[str, Any]


class Broken(Exception):
    """No reply. It may or may not have been done. `why`: `no-connection` or `no-answer`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Send:
    method: str
    path: str
    body: Optional[bytes]
    timeout: float


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Reply:
    status: int
    text: bytes


Asking = Generator[Union[Send, Pause], Optional[Reply], Any]


@dataclass(frozen=True)
class Settings:
    """The options of a client, checked."""

    url: str
    key: Optional[str]
    pool: str
    holder: Optional[str]
    #: Seconds for which a request is repeated while no service answers.
    retry: float

    def __repr__(self) -> str:  # Without the key.
        return f"Settings(url={self.url!r}, pool={self.pool!r})"


def read_settings(
    url: Optional[str], key: Optional[str], pool: str, holder: Optional[str], retry: float
) -> Settings:
    """Defaults come from the environment, as `remuda env` prints it. The key is taken only together with its URL."""
    if url is None:
        url = os.environ.get("REMUDA_HTTP_URL") or DEFAULT_URL
        key = key if key is not None else (os.environ.get("REMUDA_HTTP_KEY") or None)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RemudaFault("wrong-options", "url: must be http://host:port or https://host:port.")
    if parts.username is not None:
        raise RemudaFault("wrong-options", "url: contains a login. Over HTTP, use a key.")
    if key is not None and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise RemudaFault("wrong-options", "key: must be visible ASCII without spaces.")
    if retry < 0:
        raise RemudaFault("wrong-options", "retry: must not be negative.")
    return Settings(url.rstrip("/"), key, pool_name(pool), holder, retry)


def pool_name(pool: str) -> str:
    """The name becomes part of a path."""
    if isinstance(pool, str) and re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", pool):
        return pool
    raise RemudaFault("wrong-options", "pool: must match [a-z0-9][a-z0-9-]{0,62}.")


def wait_ms(wait: float) -> int:
    if 0 <= wait <= WAIT_S_MAX:
        return int(wait * 1000)
    raise RemudaFault("wrong-options", f"wait: must be from 0 to {WAIT_S_MAX:.0f} seconds.")


def headers_of(settings: Settings) -> "dict[str, str]":
    auth = {} if settings.key is None else {"Authorization": f"Bearer {settings.key}"}
    return {"Content-Type": "application/json", **auth}


def ask(
    settings: Settings, method: str, path: str, body: Optional[Json] = None, query: Optional[Json] = None
) -> Asking:
    """@raises RemudaRefusal, RemudaFault."""
    started = time.monotonic()
    wait = float((body or {}).get("waitMs") or 0) / 1000
    until = started + wait + settings.retry
    pause = PAUSE_S
    place = path if not query else f"{path}?{urlencode(query)}"
    while True:
        left = max(0.0, wait - (time.monotonic() - started))
        asked = body if body is None or not wait else {**body, "waitMs": int(left * 1000)}
        failure: RemudaError
        try:
            reply = yield Send(method, place, None if asked is None else _bytes(asked), ANSWER_S + left)
            assert reply is not None
            read = _read(settings, reply)
            if "code" not in read or "message" not in read:
                return read
            refusal = RemudaRefusal(read)
            if refusal.code != "unavailable":
                raise refusal
            failure = refusal
            pause = min(PAUSE_S_MAX, max(pause, refusal.retry_after or 0.0))
        except Broken as broken:
            failure = _fault(settings, broken.why)
        if time.monotonic() + pause > until:
            raise failure
        yield Pause(pause)
        pause = min(pause * 2, PAUSE_S_MAX)


def _bytes(body: Json) -> bytes:
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def _read(settings: Settings, reply: Reply) -> "dict[str, Any]":
    if reply.status == 401:
        raise RemudaFault("not-allowed", f"{settings.url} does not accept this key (key, REMUDA_HTTP_KEY).")
    try:
        read = json.loads(reply.text)
    except ValueError:
        read = None
    if isinstance(read, dict) and (reply.status < 400 or "code" in read):
        return read
    if reply.status in (502, 503, 504):
        raise Broken("no-answer")
    raise RemudaFault(
        "not-remuda", f"{settings.url} answered {reply.status}, but not like a Remuda service. Is the URL correct?"
    )


def _fault(settings: Settings, why: str) -> RemudaFault:
    if why == "no-connection":
        return RemudaFault(why, f"{settings.url} cannot be reached. Is the service running?")
    return RemudaFault(why, f"{settings.url} gave no answer.")
