"""The client for asyncio. Requests to the service wait without a thread. Each request of `fetch` has one of its own."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generator, List, Mapping, Optional, Sequence, Type, Union

from .ask import Asking, Json, Settings, ask, read_settings, wait_ms
from .client import wanted_of
from .errors import RemudaError, RemudaRefusal
from .exchange import Order, exchange
from .fetch import REDIRECTS_MAX, Ask, Classify, Outcome, Response, Steps, Via, fetch_steps
from .lease import LeaseBase, asking_for_outcomes, leasing, outcome_fields, pool_path
from .service import AsyncService

#: Requests of `fetch` under way at once. Further ones wait for a thread, without a lease.
FETCHES_MAX = 64


class AsyncLease(LeaseBase):
    """As `Lease`. `report`, `renew` and `release` are awaited."""

    def __init__(self, service: AsyncService, reply: Json, asked_at: float) -> None:
        super().__init__(service.settings, reply, asked_at)
        self._service = service

    async def report(
        self,
        *,
        status: Optional[int] = None,
        error: Union[str, BaseException, None] = None,
        reason: Optional[str] = None,
        result: Optional[str] = None,
        n: Optional[int] = None,
        latency: Optional[float] = None,
        bytes: Optional[int] = None,
        target: Optional[str] = None,
        retry_after: Optional[float] = None,
        token_rejected: Optional[bool] = None,
    ) -> None:
        told = outcome_fields(status, reason, result, latency, bytes, target, retry_after, token_rejected)
        outcome = self._outcome(told, error, n)
        with self._reporting(outcome["n"]):
            self._note(await self._service.run(asking_for_outcomes(self._settings, self.pool, [outcome])))

    async def renew(self, ttl: Optional[float] = None) -> None:
        asked_at = time.monotonic()
        reply = await self._service.run(self._asking_to_renew(ttl))
        self.deadline = asked_at + reply["leftMs"] / 1000

    async def release(self) -> None:
        asking = self._asking_to_release()
        if asking is None:
            return
        try:
            await self._service.run(asking)
        except RemudaRefusal as refusal:
            if refusal.code != "unknown-lease":
                raise

    async def _end(self, error: Optional[BaseException]) -> None:
        outcome = self._last_outcome(error)
        if outcome is not None:
            await self._service.run(asking_for_outcomes(self._settings, self.pool, [outcome]))
        await self.release()

    async def __aenter__(self) -> "AsyncLease":
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            # A task that is cancelled must still report.
            await asyncio.shield(self._end(error))
        except RemudaError:
            if error is None:
                raise  # Otherwise the caller's own exception is the one to see. The lease expires by itself.


class _Leasing:
    """`await client.lease()` gives the lease. `async with client.lease() as lease` gives it back as well."""

    def __init__(self, service: AsyncService, asking: Asking) -> None:
        self._service = service
        self._asking = asking
        self._lease: Optional[AsyncLease] = None

    async def _granted(self) -> AsyncLease:
        asked_at = time.monotonic()
        self._lease = AsyncLease(self._service, await self._service.run(self._asking), asked_at)
        return self._lease

    def __await__(self) -> Generator[Any, None, AsyncLease]:
        return self._granted().__await__()

    async def __aenter__(self) -> AsyncLease:
        return await self._granted()

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        assert self._lease is not None
        await self._lease.__aexit__(kind, error, trace)


class AsyncClient:
    """As `Client`, for asyncio."""

    def __init__(
        self,
        url: Optional[str] = None,
        key: Optional[str] = None,
        *,
        pool: str = "default",
        holder: Optional[str] = None,
        retry: float = 30.0,
        context: Optional[ssl.SSLContext] = None,
        target_context: Optional[ssl.SSLContext] = None,
    ) -> None:
        self.settings: Settings = read_settings(url, key, pool, holder, retry)
        self._service = AsyncService(self.settings, context)
        self._target_context = target_context
        self._threads: Optional[ThreadPoolExecutor] = None
        self._fetches: Optional[asyncio.Semaphore] = None

    def lease(
        self,
        *,
        pool: Optional[str] = None,
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
    ) -> _Leasing:
        asking = leasing(
            self.settings,
            pool,
            uses=uses,
            wait=wait,
            ttl=ttl,
            session=session,
            labels=labels,
            schemes=schemes,
            exclude=exclude,
            proxy_id=proxy_id,
            target=target,
            holder=holder,
            token=token,
            request_id=request_id,
        )
        return _Leasing(self._service, asking)

    async def leases(self, count: int, *, pool: Optional[str] = None, **request: Any) -> List[AsyncLease]:
        """As `Client.leases`."""
        asking = leasing(self.settings, pool, count=count, **request)
        asked_at = time.monotonic()
        return [AsyncLease(self._service, each, asked_at) for each in (await self._service.run(asking))["leases"]]

    async def report(self, outcomes: Union[Json, Sequence[Json]], *, pool: Optional[str] = None) -> Json:
        told = [outcomes] if isinstance(outcomes, Mapping) else outcomes
        reply: Json = await self._service.run(asking_for_outcomes(self.settings, pool, told))
        return reply

    async def token(self, *, pool: Optional[str] = None, proxy_id: Optional[str] = None, wait: float = 0.0) -> Json:
        body = {"proxyId": proxy_id, "waitMs": wait_ms(wait)}
        path = f"{pool_path(self.settings, pool)}/token"
        reply: Json = await self._service.run(ask(self.settings, "POST", path, body))
        return reply

    async def reject_token(self, token_id: str, *, pool: Optional[str] = None, proxy_id: Optional[str] = None) -> Json:
        body = {"tokenId": token_id, "proxyId": proxy_id}
        path = f"{pool_path(self.settings, pool)}/token/reject"
        reply: Json = await self._service.run(ask(self.settings, "POST", path, body))
        return reply

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Optional[Mapping[str, str]] = None,
        body: Union[bytes, str, Mapping[str, str], None] = None,
        outcome: Optional[Outcome] = None,
        pool: Optional[str] = None,
        wait: float = 30.0,
        retries: int = 2,
        timeout: Optional[float] = None,
        redirects: int = REDIRECTS_MAX,
        connect_timeout: float = 10.0,
        headers_timeout: float = 30.0,
        body_timeout: float = 30.0,
        tunnel_http: bool = False,
        **request: Any,
    ) -> Response:
        """As `Client.fetch`. `outcome` may be async. At most 64 requests are under way at once."""
        via = Via(
            pool,
            request,
            wait,
            retries,
            timeout,
            outcome,
            min(redirects, REDIRECTS_MAX),
            connect_timeout,
            headers_timeout,
            body_timeout,
            tunnel_http,
            self._target_context,
        )
        self._fetches = self._fetches or asyncio.Semaphore(FETCHES_MAX)
        steps = fetch_steps(self.settings, wanted_of(method, url, headers, body), via)
        cancelled: "list[asyncio.Future[Any]]" = []
        await self._fetches.acquire()
        try:
            return await self._run(steps, cancelled)
        finally:
            # The thread of a cancelled request may take a moment to notice. Its place is free after that.
            ending = asyncio.gather(*cancelled, return_exceptions=True)
            ending.add_done_callback(lambda _, fetches=self._fetches: fetches.release())

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, steps: Steps, cancelled: "list[asyncio.Future[Any]]") -> Response:
        try:
            step = next(steps)
            while True:
                try:
                    done = await self._do(step, cancelled)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as end:
            response: Response = end.value
            return response

    async def _do(self, step: Union[Ask, Order, Classify], cancelled: "list[asyncio.Future[Any]]") -> Any:
        if isinstance(step, Ask):
            return await self._service.run(step.asking)
        if isinstance(step, Order):
            self._threads = self._threads or ThreadPoolExecutor(FETCHES_MAX, "remuda-fetch")
            running = asyncio.get_running_loop().run_in_executor(self._threads, exchange, step)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                step.cut.now()  # Before the report: a use that was reported must not be made later.
                cancelled.append(running)
                raise
        word = step.outcome(step.response)
        return await word if inspect.isawaitable(word) else word
