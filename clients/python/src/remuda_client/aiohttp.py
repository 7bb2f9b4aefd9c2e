"""For `aiohttp`: `async with request(session, client, "GET", url) as response`. Each redirect and try is one use."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, AsyncIterator, Callable, Dict, Mapping, Optional, Tuple
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from .aio import AsyncClient, AsyncLease
from .ask import Asking
from .client import wanted_of
from .errors import RemudaError, RemudaFault
from .fetch import REDIRECTS_MAX, Wanted, redirected
from .outcome import verdict_of
from .tries import DEFAULT_TIMEOUT_S, Tries, Use

#: aiohttp speaks to http proxies. For SOCKS, use aiohttp-socks with `lease.url`.
SCHEMES = ("http",)

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
    _repeat_nothing(session)
    wanted: Wanted = wanted_of(method, url, headers, data)
    for hop in range(REDIRECTS_MAX + 1):
        use, response = await _tried(session, client, wanted, retries, ssl, lease)
        onward = redirected(wanted, response.status, response.headers.get("Location"))
        if onward is not None and hop < redirects:
            response.release()
            await _run(client, use.ended())
            wanted = onward
            continue
        try:
            if outcome is not None:
                word = outcome(response)
                use.classified(await word if hasattr(word, "__await__") else word)
            yield response
        except BaseException as error:
            response.release()
            await _run(client, use.ended(verdict_of(error).fields))
            raise
        response.release()
        await _run(client, use.ended())
        return
    raise RemudaFault("wrong-options", f"redirects: at most {REDIRECTS_MAX} are followed.")


async def _tried(
    session: aiohttp.ClientSession,
    client: AsyncClient,
    wanted: Wanted,
    retries: int,
    ssl: Any,
    given: Mapping[str, Any],
) -> "Tuple[Use, aiohttp.ClientResponse]":
    method, url, headers, body = wanted
    is_plain = body is None or isinstance(body, bytes)
    tries = Tries({"schemes": SCHEMES, **given}, retries, method, url, is_plain=is_plain)
    while True:
        try:
            lease = await client.lease(**tries.wanted())
        except RemudaError as refusal:
            raise tries.told(refusal) from None
        use = Use(lease, url)
        proxy, auth = proxy_of(lease)
        limit = aiohttp.ClientTimeout(total=max(0.001, lease.left), sock_read=DEFAULT_TIMEOUT_S)
        options: Dict[str, Any] = {"proxy": proxy, "proxy_auth": auth, "timeout": limit, "allow_redirects": False}
        if ssl is not None:
            options["ssl"] = ssl
        try:
            response = await session.request(method, url, headers=headers, data=body, **options)
        except BaseException as error:
            await _run(client, use.failed(error))
            # aiohttp reads some bodies before it connects, so one that is not there whole is never sent again.
            if not tries.goes_on(use, error, unsent=is_plain and verdict_of(error).unsent):
                raise
            continue
        use.answered(response.status, response.headers)
        if not tries.goes_on_after_407(use):
            return use, response
        response.release()
        await _run(client, use.ended({"reason": "proxy-auth"}))


def _repeat_nothing(session: aiohttp.ClientSession) -> None:
    """aiohttp 3.10 and newer make a request again by themselves when its connection breaks, as part of one use.

    Nothing but this attribute switches that off. aiohttp's own test client sets it as well.
    """
    if getattr(session, "_retry_connection", False):
        session._retry_connection = False


def proxy_of(lease: AsyncLease) -> "Tuple[str, Optional[aiohttp.BasicAuth]]":
    """The arguments `proxy` and `proxy_auth` of aiohttp."""
    parts = urlsplit(lease.url)
    if parts.username is None:
        return lease.url, None
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return bare, aiohttp.BasicAuth(unquote(parts.username), unquote(parts.password or ""))


async def _run(client: AsyncClient, asking: Optional[Asking]) -> None:
    if asking is not None:
        # A task that is cancelled must still report. anyio cancels it anew at each step.
        await asyncio.shield(client._service.run(asking))  # The same package.
