"""For `aiohttp`: `async with request(session, client, "GET", url) as response`. Each redirect and try is one use."""

from __future__ import annotations

import contextlib
import time
from typing import Any, AsyncIterator, Callable, Dict, Mapping, Optional, Tuple
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from .aio import AsyncClient, AsyncLease
from .client import wanted_of
from .errors import RemudaError, RemudaFault
from .fetch import REDIRECTS_MAX, Wanted, redirected
from .outcome import IDEMPOTENT, answer_fields, verdict_of, with_word

#: aiohttp speaks to http proxies. For SOCKS, use aiohttp-socks with `lease.url`.
SCHEMES = ("http",)
DEFAULT_TIMEOUT_S = 30.0
RETRY_WAIT_S_MAX = 5.0

#: It may be async, and may read the body.
Outcome = Callable[[aiohttp.ClientResponse], Any]


@contextlib.asynccontextmanager
async def request(
    session: aiohttp.ClientSession,
    client: AsyncClient,
    method: str,
    url: str,
    *,
    headers: Optional[Mapping[str, str]] = None,
    data: Any = None,
    outcome: Optional[Outcome] = None,
    retries: int = 2,
    redirects: int = REDIRECTS_MAX,
    ssl: Any = None,
    **lease: Any,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A request of the session through leased proxies. `lease`: pool, session, labels, wait, …

    The outcome is reported when the block ends. The block ends without an exception: the status counts.
    """
    wanted: Wanted = wanted_of(method, url, headers, data)
    for hop in range(REDIRECTS_MAX + 1):
        held, response, started = await _tried(session, client, wanted, retries, ssl, lease)
        forwarded = urlsplit(wanted[1]).scheme == "http"
        fields = answer_fields(response.status, response.headers, forwarded=forwarded)
        onward = redirected(wanted, response.status, response.headers.get("Location"))
        if onward is not None and hop < redirects:
            response.release()
            await _report(held, wanted, started, fields)
            wanted = onward
            continue
        try:
            if outcome is not None:
                word = outcome(response)
                fields = with_word(fields, await word if hasattr(word, "__await__") else word)
            yield response
        except BaseException as error:
            fields = {**fields, **verdict_of(error).fields}
            raise
        finally:
            response.release()
            await _report(held, wanted, started, fields)
        return
    raise RemudaFault("wrong-options", f"redirects: at most {REDIRECTS_MAX} are followed.")


async def _tried(
    session: aiohttp.ClientSession,
    client: AsyncClient,
    wanted: Wanted,
    retries: int,
    ssl: Any,
    given: Mapping[str, Any],
) -> "Tuple[AsyncLease, aiohttp.ClientResponse, float]":
    method, url, headers, body = wanted
    avoid: "list[str]" = []
    earlier: Optional[BaseException] = None
    for left in range(retries, -1, -1):
        asked = {"schemes": SCHEMES, "target": urlsplit(url).hostname, **given}
        if avoid and asked.get("session") is None:
            asked["exclude"] = [*(asked.get("exclude") or []), *avoid]
            asked["wait"] = min(asked.get("wait", 30.0), RETRY_WAIT_S_MAX)
        try:
            lease = await client.lease(**asked)
        except RemudaError:
            if earlier is not None:
                raise earlier from None
            raise
        started = time.monotonic()
        proxy, auth = proxy_of(lease)
        limit = aiohttp.ClientTimeout(total=max(0.001, lease.left), sock_read=DEFAULT_TIMEOUT_S)
        options: Dict[str, Any] = {"proxy": proxy, "proxy_auth": auth, "timeout": limit, "allow_redirects": False}
        if ssl is not None:
            options["ssl"] = ssl
        try:
            response = await session.request(method, url, headers=headers, data=body, **options)
        except BaseException as error:
            verdict = verdict_of(error)
            await _report(lease, wanted, started, verdict.fields or {"reason": "client-abort"})
            if not (left and verdict.another and (verdict.unsent or method in IDEMPOTENT)):
                raise
            earlier = error
        else:
            if response.status != 407 or urlsplit(url).scheme != "http" or not left:
                return lease, response, started
            response.release()
            await _report(lease, wanted, started, {"reason": "proxy-auth", "status": 407})
            earlier = None
        avoid.append(lease.proxy_id)
    raise AssertionError("the last try returns or raises")


def proxy_of(lease: AsyncLease) -> "Tuple[str, Optional[aiohttp.BasicAuth]]":
    """The arguments `proxy` and `proxy_auth` of aiohttp."""
    parts = urlsplit(lease.url)
    if parts.username is None:
        return lease.url, None
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return bare, aiohttp.BasicAuth(unquote(parts.username), unquote(parts.password or ""))


async def _report(lease: AsyncLease, wanted: Wanted, started: float, fields: Dict[str, Any]) -> None:
    latency = int((time.monotonic() - started) * 1000)
    told = {"leaseId": lease.lease_id, "n": 1, "target": urlsplit(wanted[1]).hostname, "latencyMs": latency}
    from .lease import asking_for_outcomes

    await lease._service.run(asking_for_outcomes(lease._settings, lease.pool, [{**told, **fields}]))
