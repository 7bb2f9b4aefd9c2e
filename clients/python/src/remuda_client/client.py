"""The client that blocks. It may be shared by any number of threads."""

from __future__ import annotations

import ssl
import time
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, Union
from urllib.parse import urlencode

from .ask import Json, Settings, ask, read_settings, wait_ms
from .errors import RemudaError, RemudaRefusal
from .exchange import Answer, Order, exchange
from .fetch import REDIRECTS_MAX, Ask, Classify, Outcome, Response, Steps, Via, fetch_steps
from .lease import LeaseBase, asking_for_outcomes, leasing, outcome_fields, pool_path
from .service import Service


class Lease(LeaseBase):
    """A lease, and a context manager that gives it back."""

    def __init__(self, service: Service, reply: Json, asked_at: float) -> None:
        super().__init__(service.settings, reply, asked_at)
        self._service = service

    def report(
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
        """Reports one use. Returns when the outcome is in the ledger. Times are in seconds.

        Without `n` it is the use that was taken last, or the next one. @raises RemudaRefusal, RemudaFault.
        """
        told = outcome_fields(status, reason, result, latency, bytes, target, retry_after, token_rejected)
        outcome = self._outcome(told, error, n)
        with self._reporting(outcome["n"]):
            self._note(self._service.run(asking_for_outcomes(self._settings, self.pool, [outcome])))

    def renew(self, ttl: Optional[float] = None) -> None:
        asked_at = time.monotonic()
        reply = self._service.run(self._asking_to_renew(ttl))
        self.deadline = asked_at + reply["leftMs"] / 1000

    def release(self) -> None:
        """Gives back the uses that were not taken. Does nothing for a lease that is closed."""
        asking = self._asking_to_release()
        if asking is None:
            return
        try:
            self._service.run(asking)
        except RemudaRefusal as refusal:
            if refusal.code != "unknown-lease":
                raise

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            outcome = self._last_outcome(error)
            if outcome is not None:
                self._service.run(asking_for_outcomes(self._settings, self.pool, [outcome]))
            self.release()
        except RemudaError:
            if error is None:
                raise  # Otherwise the caller's own exception is the one to see. The lease expires by itself.


class Client:
    """Leases proxies, and makes requests through them.

    @param url: of the service. Default: REMUDA_HTTP_URL, else http://127.0.0.1:7480.
    @param key: a bearer key. Default: REMUDA_HTTP_KEY, if the URL is not given.
    @param retry: for how many seconds a request is repeated while no service answers, in addition to its `wait`.
    @param context: TLS to the service. @param target_context: TLS to targets, in `fetch`.
    """

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
        self._service = Service(self.settings, context)
        self._target_context = target_context

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
    ) -> Lease:
        """Leases a proxy, and waits for it up to `wait` seconds. @raises RemudaRefusal, RemudaFault."""
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
        asked_at = time.monotonic()
        return Lease(self._service, self._service.run(asking), asked_at)

    def leases(self, count: int, *, pool: Optional[str] = None, **request: Any) -> List[Lease]:
        """Leases up to `count` proxies (1 to 100), each on another exit: as many as can be had at once, at least one.

        @param request: as for `lease`. @raises RemudaRefusal, RemudaFault.
        """
        asking = leasing(self.settings, pool, count=count, **request)
        asked_at = time.monotonic()
        return [Lease(self._service, each, asked_at) for each in self._service.run(asking)["leases"]]

    def report(self, outcomes: Union[Json, Sequence[Json]], *, pool: Optional[str] = None) -> Json:
        """Reports outcomes in the form of the protocol, at most 1 000."""
        told = [outcomes] if isinstance(outcomes, Mapping) else outcomes
        reply: Json = self._service.run(asking_for_outcomes(self.settings, pool, told))
        return reply

    def token(self, *, pool: Optional[str] = None, proxy_id: Optional[str] = None, wait: float = 0.0) -> Json:
        """The pool's guest token: {"tokenId", "value", "mintedAt", …}."""
        body = {"proxyId": proxy_id, "waitMs": wait_ms(wait)}
        reply: Json = self._service.run(ask(self.settings, "POST", f"{pool_path(self.settings, pool)}/token", body))
        return reply

    def reject_token(self, token_id: str, *, pool: Optional[str] = None, proxy_id: Optional[str] = None) -> Json:
        """Says that a target rejects this token. Returns {"action", …}."""
        body = {"tokenId": token_id, "proxyId": proxy_id}
        path = f"{pool_path(self.settings, pool)}/token/reject"
        reply: Json = self._service.run(ask(self.settings, "POST", path, body))
        return reply

    def fetch(
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
        """A request through leased proxies. `request`: session, labels, exclude, ttl, holder, as for `lease`.

        @param timeout: of the whole call, in seconds. @param redirects: how many are followed; 0 returns the redirect.
        @param outcome: classifies the answer: `success`, a reason such as `blocked`, or None for the policy's class.
        @raises RequestFailed: at the proxy or the target. RemudaRefusal: no proxy is available. RemudaFault.
        """
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
        return self._run(fetch_steps(self.settings, wanted_of(method, url, headers, body), via))

    def close(self) -> None:
        self._service.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps) -> Response:
        try:
            step = next(steps)
            while True:
                try:
                    done = self._do(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as end:
            response: Response = end.value
            return response

    def _do(self, step: Union[Ask, Order, Classify]) -> "Union[Json, Answer, str, None]":
        if isinstance(step, Ask):
            reply: Json = self._service.run(step.asking)
            return reply
        if isinstance(step, Order):
            return exchange(step)
        word: Optional[str] = step.outcome(step.response)
        return word


def wanted_of(
    method: str, url: str, headers: Optional[Mapping[str, str]], body: Union[bytes, str, Mapping[str, str], None]
) -> "tuple[str, str, Dict[str, str], Optional[bytes]]":
    """The request in one form. A mapping as its body is a form, as in HTML."""
    lines = dict(headers or {})
    if isinstance(body, Mapping):
        if not any(name.lower() == "content-type" for name in lines):
            lines["content-type"] = "application/x-www-form-urlencoded"
        body = urlencode(body)
    return method.upper(), url, lines, body.encode() if isinstance(body, str) else body


