"""Leases forward proxies from a Remuda service and makes requests through them, within every limit."""

from .aio import AsyncClient, AsyncLease
from .client import Client, Lease
from .errors import RemudaError, RemudaFault, RemudaRefusal, RequestFailed
from .fetch import Response
from .outcome import REASONS, verdict_of

__all__ = [
    "AsyncClient",
    "AsyncLease",
    "Client",
    "Lease",
    "REASONS",
    "RemudaError",
    "RemudaFault",
    "RemudaRefusal",
    "RequestFailed",
    "Response",
    "verdict_of",
]
