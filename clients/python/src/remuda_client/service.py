"""The two ways to the service over HTTP: one that blocks, and one for asyncio. Neither uses a proxy."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
import time
from typing import Any, Optional
from urllib.parse import urlsplit

from .ask import Asking, Broken, Pause, Reply, Send, Settings, headers_of

CONNECT_S = 5.0
#: Connections that are kept between requests.
KEPT_MAX = 16
#: Replies are small: a lease, or the results of a thousand outcomes.
REPLY_BYTES_MAX = 16 << 20


class Service:
    """Blocking, for any number of threads."""

    def __init__(self, settings: Settings, context: Optional[ssl.SSLContext]) -> None:
        self.settings = settings
        self._context = context
        self._kept: "list[http.client.HTTPConnection]" = []
        self._lock = threading.Lock()

    def run(self, asking: Asking) -> Any:
        """Drives the generator to its end, and returns its value."""
        step = next(asking)
        while True:
            try:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = asking.send(None)
                    continue
                try:
                    reply = self._send(step)
                except Broken as broken:
                    step = asking.throw(broken)
                else:
                    step = asking.send(reply)
            except StopIteration as end:
                return end.value

    def close(self) -> None:
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def _send(self, send: Send) -> Reply:
        with self._lock:
            connection = self._kept.pop() if self._kept else None
        if connection is not None:
            try:
                return self._exchange(connection, send)
            except socket.timeout:
                connection.close()
                raise Broken("no-answer") from None
            except (OSError, http.client.HTTPException):
                connection.close()  # A kept connection may be old: once more on a new one.
        connection = self._connected()
        try:
            return self._exchange(connection, send)
        except (OSError, http.client.HTTPException):
            connection.close()
            raise Broken("no-answer") from None
        except BaseException:
            connection.close()  # Interrupted: this hangs up, which cancels a waiting lease request.
            raise

    def _connected(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.settings.url)
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, parts.port, timeout=CONNECT_S, context=self._context)
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=CONNECT_S)
        try:
            connection.connect()
        except OSError:
            raise Broken("no-connection") from None
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, send: Send) -> Reply:
        path = urlsplit(self.settings.url).path + send.path
        if connection.sock is not None:
            connection.sock.settimeout(send.timeout)
        connection.request(send.method, path, send.body, headers_of(self.settings))
        response = connection.getresponse()
        text = response.read(REPLY_BYTES_MAX)
        if response.isclosed() and not response.will_close:
            with self._lock:
                if len(self._kept) < KEPT_MAX:
                    self._kept.append(connection)
                    return Reply(response.status, text)
        connection.close()
        return Reply(response.status, text)


class AsyncService:
    """For asyncio. Each request has its own connection, so a cancelled task hangs up, which cancels its request."""

    def __init__(self, settings: Settings, context: Optional[ssl.SSLContext]) -> None:
        self.settings = settings
        self._context = context

    async def run(self, asking: Asking) -> Any:
        """Drives the generator to its end, and returns its value."""
        step = next(asking)
        while True:
            try:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = asking.send(None)
                    continue
                try:
                    reply = await self._send(step)
                except Broken as broken:
                    step = asking.throw(broken)
                else:
                    step = asking.send(reply)
            except StopIteration as end:
                return end.value

    async def _send(self, send: Send) -> Reply:
        parts = urlsplit(self.settings.url)
        secure = parts.scheme == "https"
        context = (self._context or ssl.create_default_context()) if secure else None
        port = parts.port or (443 if secure else 80)
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(parts.hostname, port, ssl=context, limit=1 << 16), CONNECT_S
            )
        except (OSError, asyncio.TimeoutError):
            raise Broken("no-connection") from None
        try:
            lines = {**headers_of(self.settings), "Host": parts.netloc, "Connection": "close"}
            body = send.body or b""
            if send.body is not None or send.method != "GET":
                lines["Content-Length"] = str(len(body))
            head = f"{send.method} {parts.path}{send.path} HTTP/1.1\r\n"
            head += "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            writer.write(head.encode("latin-1") + b"\r\n" + body)
            return await asyncio.wait_for(_reply_from(reader), send.timeout)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            raise Broken("no-answer") from None
        finally:
            writer.close()


async def _reply_from(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ")[1])
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if fields.get("transfer-encoding", "").lower() == "chunked":
        text = b""
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                return Reply(status, text)
            text += await reader.readexactly(size)
            await reader.readexactly(2)
            if len(text) > REPLY_BYTES_MAX:
                raise ValueError("the reply is too large")
    if "content-length" in fields:
        size = int(fields["content-length"])
        if size > REPLY_BYTES_MAX:
            raise ValueError("the reply is too large")
        return Reply(status, await reader.readexactly(size))
    return Reply(status, await reader.read(REPLY_BYTES_MAX))
