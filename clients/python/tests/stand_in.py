"""A service without a network: it leases the given proxies in turn, and keeps the outcomes."""

import json

from remuda_client.ask import Pause, Reply


class StandIn:
    def __init__(self, settings, proxies, lease_s=60.0):
        self.settings = settings
        self.proxies = list(proxies)
        self.lease_s = lease_s
        self.outcomes = []
        self.requests = []
        self.granted = 0
        #: Raised or answered before anything else: exceptions, or (status, body).
        self.first = []

    def run(self, asking):
        step = next(asking)
        while True:
            try:
                if isinstance(step, Pause):
                    step = asking.send(None)
                    continue
                body = json.loads(step.body) if step.body else {}
                self.requests.append((step.method, step.path, body))
                told = self.first.pop(0) if self.first else self.answer(step.path, body)
                if isinstance(told, Exception):
                    step = asking.throw(told)
                else:
                    step = asking.send(Reply(told[0], json.dumps(told[1]).encode()))
            except StopIteration as end:
                return end.value

    def answer(self, path, body):
        if path.endswith("/outcomes"):
            self.outcomes += body["outcomes"]
            return 200, {"accepted": 1, "ignored": [], "ignoredCount": 0, "stop": []}
        if "/leases/" in path:
            return 200, {"leaseId": path.split("/")[5], "used": 0, "returned": 0}
        left = [url for url in self.proxies if url not in body.get("exclude", [])]
        if not left:
            return 429, {"code": "pool-exhausted", "message": "none", "retryAfterMs": 1500, "limitedBy": {"rest": 1}}
        if "count" in body:
            return 201, {"leases": [self.lease(url, body) for url in left[: body["count"]]]}
        return 201, self.lease(left[0], body)

    def lease(self, url, body):
        scheme, _, place = url.partition("://")
        host, _, port = place.rpartition("@")[2].partition(":")
        self.granted += 1
        return {
            "leaseId": f"l_{self.granted}",
            "pool": "default",
            "proxyId": url,
            "url": url,
            "scheme": scheme,
            "host": host,
            "port": int(port),
            "uses": body.get("uses", 1),
            "leftMs": self.lease_s * 1000,
            "labels": {},
        }

    def close(self):
        pass


class AsyncStandIn(StandIn):
    async def run(self, asking):
        return super().run(asking)
