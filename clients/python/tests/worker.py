"""Fetches SITE through the pool WORKER_POOL, with threads or in asyncio, until a line comes, and says how often."""

import asyncio
import os
import sys
import threading

from remuda_client import AsyncClient, Client, RemudaRefusal

WORKERS = 4
OPTIONS = {"pool": os.environ["WORKER_POOL"], "retry": 60}
SITE = os.environ["SITE"]
stopping = threading.Event()


def in_threads():
    client = Client(**OPTIONS)
    served = []

    def work():
        while not stopping.is_set():
            try:
                served.append(client.fetch(SITE, wait=1).status)
            except RemudaRefusal as refusal:
                if refusal.code != "pool-exhausted":
                    raise

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return served


async def in_asyncio():
    served = []

    async def work(client):
        while not stopping.is_set():
            try:
                served.append((await client.fetch(SITE, wait=1)).status)
            except RemudaRefusal as refusal:
                if refusal.code != "pool-exhausted":
                    raise

    async with AsyncClient(**OPTIONS) as client:
        await asyncio.gather(*[work(client) for _ in range(WORKERS)])
    return served


def wait_for_a_line():
    sys.stdin.readline()
    stopping.set()


threading.Thread(target=wait_for_a_line, daemon=True).start()
seen = in_threads() if sys.argv[1] == "threads" else asyncio.run(in_asyncio())
assert set(seen) <= {200}, seen
print("served", len(seen))
