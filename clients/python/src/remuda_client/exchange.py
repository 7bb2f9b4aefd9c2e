"""One request through one proxy, with blocking sockets: http, socks5 and socks5h proxies, http and https targets.

It knows in which phase a request failed, and the phase decides whose fault it was (docs/outcomes.md of the project):
dial, handshake, tls, head, body. Each request has its own connection. The body is read whole, because only its end
shows a success.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Optional, Tuple, Union
from urllib.parse import unquote, urlsplit

from .errors import RequestFailed
from .outcome import verdict_of

SCHEMES = ("http", "socks5", "socks5h")
HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 256 << 20
#: A body drips if it comes more slowly than this.
DRIP_BYTES_PER_S = 4096


class Headers:
    """The lines of a head, in order. Names are compared without case."""

    def __init__(self, pairs: List[Tuple[str, str]]) -> None:
        self.pairs = pairs

    def get(self, name: str, default: Optional[str] = None) -> Optional[str]:
        """The first value."""
        return next((value for each, value in self.pairs if each.lower() == name.lower()), default)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None


@dataclass
class Order:
    """What to send. `deadline`: an instant of `time.monotonic()`, from the lease's end and the caller's limit."""

    proxy: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: Optional[bytes]
    deadline: float
    connect_timeout: float = 10.0
    headers_timeout: float = 30.0
    body_timeout: float = 30.0
    tunnel_http: bool = False
    context: Optional[ssl.SSLContext] = None
    cut: "Cut" = field(default_factory=lambda: Cut())


class Cut:
    """Ends an exchange from another thread. Nothing of a request is sent after that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket] = None
        self.is_made = False

    def now(self) -> None:
        with self._lock:
            self.is_made = True
            self._shut()

    def watch(self, one: Optional[socket.socket]) -> None:
        """@param one: the socket of the exchange, or None before it is closed: its number may be given to another."""
        with self._lock:
            self._socket = one
            if self.is_made:
                self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # It is not connected any more, or TLS has taken it over.
                # An SSLSocket's own `shutdown` drops its TLS first, and the other thread might write plain text.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@dataclass
class Answer:
    status: int
    headers: Headers
    body: bytes
    forwarded: bool
    latency: float
    #: Where the answer came from.
    url: str = field(default="")


def exchange(order: Order) -> Answer:
    """@raises RequestFailed."""
    target = urlsplit(order.url)
    proxy = urlsplit(order.proxy)
    secure = target.scheme == "https"
    if target.scheme not in ("http", "https") or not target.hostname:
        raise RequestFailed(f"{order.url} is not an http or https URL.", reason="client-abort")
    forwarded = not secure and proxy.scheme == "http" and not order.tunnel_http
    port = target.port or (443 if secure else 80)
    started = time.monotonic()
    wire = _Wire(order.deadline, started + order.connect_timeout, order.cut)
    try:
        wire.dial(proxy.hostname or "", proxy.port or (1080 if proxy.scheme != "http" else 80))
        if not forwarded:
            login = (unquote(proxy.username or ""), unquote(proxy.password or ""))
            if proxy.scheme == "http":
                _connect(wire, target.hostname, port, login)
            else:
                _socks(wire, target.hostname, port, login, by_name=proxy.scheme == "socks5h")
        if secure:
            wire.secure(order.context or ssl.create_default_context(), target.hostname)
        wire.end_phase(order.headers_timeout)
        wire.send(_request(order, forwarded))
        status, headers = _head(wire, secure=secure)
        latency = time.monotonic() - started
        if forwarded and status == 407:
            text = "The proxy does not accept its login."
            raise RequestFailed(text, reason="proxy-auth", status=407, another=True, unsent=True)
        body = _body(wire, order, status, headers, secure=secure)
        return Answer(status, headers, body, forwarded, latency, order.url)
    finally:
        wire.close()


class _Wire:
    """The socket, what was read ahead, and the phase. All waiting ends at the deadline or at the phase's own end."""

    def __init__(self, deadline: float, phase_end: float, cut: Cut) -> None:
        self._cut = cut
        self.phase = "dial"
        self.ahead = b""
        self._deadline = deadline
        self._phase_end = phase_end
        self._socket: Optional[Union[socket.socket, ssl.SSLSocket]] = None

    def dial(self, host: str, port: int) -> None:
        with self._watched():
            self._socket = socket.create_connection((host, port), timeout=self._left())
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cut.watch(self._socket)
        self.phase = "handshake"

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        assert self._socket is not None
        self.phase = "tls"
        with self._watched():
            self._socket.settimeout(self._left())
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self._cut.watch(self._socket)

    def end_phase(self, seconds: float) -> None:
        self.phase = "head"
        self._phase_end = time.monotonic() + seconds

    def next_piece(self, seconds: float) -> None:
        self._phase_end = time.monotonic() + seconds

    def send(self, data: bytes) -> None:
        assert self._socket is not None
        with self._watched():
            self._socket.settimeout(self._left())
            self._socket.sendall(data)

    def read(self, most: int = 65536) -> bytes:
        """At least a byte; empty at the end of the stream."""
        assert self._socket is not None
        if self.ahead:
            data, self.ahead = self.ahead[:most], self.ahead[most:]
            return data
        with self._watched():
            self._socket.settimeout(self._left())
            return self._socket.recv(most)

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.read(count - len(data))
            if more == b"":
                raise self.closed()
            data += more
        return data

    def until(self, mark: bytes, most: int) -> bytes:
        """Up to and with the mark. Shorter if the stream ends or `most` is reached first."""
        data = b""
        while mark not in data and len(data) < most:
            more = self.read()
            if more == b"":
                return data
            data += more
        at = data.find(mark)
        if at < 0 or at + len(mark) > most:
            return data[:most]
        at += len(mark)
        self.ahead = data[at:] + self.ahead
        return data[:at]

    def closed(self) -> RequestFailed:
        return self.failed("The connection was closed.", error="ECONNRESET", another=self.phase != "body")

    def failed(self, text: str, **told: object) -> RequestFailed:
        unsent = self.phase in ("dial", "handshake", "tls")
        return RequestFailed(f"{text} (phase: {self.phase})", unsent=unsent, **told)  # type: ignore[arg-type]

    def close(self) -> None:
        self._cut.watch(None)
        if self._socket is not None:
            self._socket.close()

    def _left(self) -> float:
        if self._cut.is_made:
            raise RequestFailed("The caller cancelled the request.", reason="client-abort")
        left = min(self._deadline, self._phase_end) - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        return left

    def _watched(self) -> "_Watch":
        return _Watch(self)

    def of(self, error: OSError) -> RequestFailed:
        """The failure that this error of the socket means in the present phase."""
        if isinstance(error, socket.timeout):
            cut = time.monotonic() >= self._deadline
            another = self.phase != "body" and not cut
            return self.failed("No answer in time.", error="ETIMEDOUT", another=another, cut=cut)
        if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            told = verdict_of(error)
            another = told.another and self.phase == "tls"
            return self.failed(str(error), another=another, **told.fields)
        if isinstance(error, socket.gaierror):
            return self.failed(str(error), error="ENOTFOUND", another=True)
        code = errno.errorcode.get(error.errno or 0)
        if code is None or isinstance(error, ssl.SSLError):
            return self.closed()
        return self.failed(str(error), error=code, another=self.phase != "body")


class _Watch:
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: Optional[BaseException], _trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, RequestFailed):
            raise self._wire.of(error) from error


def _connect(wire: _Wire, host: str, port: int, login: Tuple[str, str]) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    auth = f"Proxy-Authorization: {_basic(login)}\r\n" if login[0] else ""
    wire.send(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{auth}\r\n".encode("latin-1"))
    head = wire.until(b"\r\n\r\n", HEAD_BYTES_MAX)
    if head == b"":
        raise wire.closed()
    found = re.match(rb"HTTP/1\.\d (\d{3})\b", head)
    if found is None or not head.endswith(b"\r\n\r\n"):
        raise wire.failed("The proxy does not speak HTTP.", reason="proxy-error", another=True)
    status = int(found.group(1))
    if not 200 <= status < 300:
        reason = "proxy-auth" if status == 407 else "proxy-error"
        raise wire.failed(f"The proxy refused the tunnel with {status}.", reason=reason, status=status, another=True)


def _socks(wire: _Wire, host: str, port: int, login: Tuple[str, str], *, by_name: bool) -> None:
    """RFC 1928 and RFC 1929."""
    wire.send(b"\x05\x01\x02" if login[0] else b"\x05\x01\x00")
    version, way = wire.exactly(2)
    if version != 5:
        raise wire.failed("The proxy does not speak SOCKS 5.", reason="proxy-error", another=True)
    if way == 2:
        name, password = (each.encode() for each in login)
        if len(name) > 255 or len(password) > 255:
            raise wire.failed("A SOCKS login has at most 255 bytes each.", reason="proxy-auth", another=True)
        wire.send(b"\x01" + bytes([len(name)]) + name + bytes([len(password)]) + password)
        if wire.exactly(2)[1] != 0:
            raise wire.failed("The proxy does not accept its login.", reason="proxy-auth", another=True)
    elif way != 0:
        raise wire.failed("The proxy asks for another login.", reason="proxy-auth", another=True)
    wire.send(b"\x05\x01\x00" + _address(wire, host, by_name=by_name) + port.to_bytes(2, "big"))
    _, answer, _, kind = wire.exactly(4)
    if answer != 0:
        raise wire.failed(f"The proxy refused the tunnel (SOCKS {answer}).", reason="proxy-error", another=True)
    wire.exactly({1: 4, 4: 16}.get(kind) or wire.exactly(1)[0])
    wire.exactly(2)


def _address(wire: _Wire, host: str, *, by_name: bool) -> bytes:
    for family, kind in ((socket.AF_INET, 1), (socket.AF_INET6, 4)):
        try:
            return bytes([kind]) + socket.inet_pton(family, host)
        except OSError:
            pass
    if by_name:
        name = host.encode("idna")
        return bytes([3, len(name)]) + name
    try:
        family, _, _, _, where = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise wire.failed(str(error), reason="target-error", error="ENOTFOUND") from error
    return bytes([1 if family == socket.AF_INET else 4]) + socket.inet_pton(family, str(where[0]))


def _request(order: Order, forwarded: bool) -> bytes:
    target = urlsplit(order.url)
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    place = target.netloc.rpartition("@")[2]
    lines: Dict[str, str] = {"host": place, "accept": "*/*", "accept-encoding": "identity", "connection": "close"}
    if order.body is not None or order.method in ("POST", "PUT", "PATCH"):
        lines["content-length"] = str(len(order.body or b""))
    for name, value in order.headers.items():
        if re.search(r"[\r\n\0:]", name) or re.search(r"[\r\n\0]", str(value)):
            raise RequestFailed(f"The header {name!r} is not valid.", reason="client-abort")
        if name.lower() not in ("host", "connection", "content-length", "transfer-encoding"):
            lines[name.lower()] = str(value)
    where = urlsplit(order.proxy)
    if forwarded and where.username:
        lines["proxy-authorization"] = _basic((unquote(where.username), unquote(where.password or "")))
    line = f"http://{place}{path}" if forwarded else path
    if re.search(r"[\s\x00-\x1f]", line):
        raise RequestFailed("The URL has spaces or control characters. Percent-encode them.", reason="client-abort")
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{order.method} {line} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (order.body or b"")


def _basic(login: Tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


def _head(wire: _Wire, *, secure: bool) -> Tuple[int, Headers]:
    while True:
        head = wire.until(b"\r\n\r\n", HEAD_BYTES_MAX)
        if head == b"":
            raise wire.closed()
        found = re.match(rb"HTTP/1\.\d ([1-9]\d\d)(?: [^\r\n]*)?\r\n", head)
        if found is None:
            if b"HTTP/".startswith(head[:5]) and not head.endswith(b"\r\n\r\n"):
                raise wire.closed()
            reason = "target-error" if secure else "proxy-error"
            raise wire.failed("The answer is not HTTP.", reason=reason, another=not secure)
        if not head.endswith(b"\r\n\r\n"):
            if len(head) < HEAD_BYTES_MAX:
                raise wire.closed()
            raise wire.failed("The answer's head is too large.", reason="target-error")
        pairs = []
        for line in head[found.end() : -2].decode("latin-1").split("\r\n")[:-1]:
            name, colon, value = line.partition(":")
            if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise wire.failed("The answer has a header that is not valid.", reason="target-error")
            pairs.append((name, value.strip()))
        status = int(found.group(1))
        if status >= 200 or status == 101:
            return status, Headers(pairs)


def _body(wire: _Wire, order: Order, status: int, headers: Headers, *, secure: bool) -> bytes:
    wire.phase = "body"
    parts: List[bytes] = []
    started = time.monotonic()
    received = 0

    def take(most: int) -> bytes:
        nonlocal received
        wire.next_piece(order.body_timeout)
        data = wire.read(min(most, 65536))
        received += len(data)
        if received > BODY_BYTES_MAX:
            raise wire.failed(f"The body has over {BODY_BYTES_MAX} bytes.", reason="client-abort")
        return data

    def take_all(count: int) -> None:
        while count > 0:
            data = take(count)
            if data == b"":
                raise wire.closed()
            parts.append(data)
            count -= len(data)

    try:
        if order.method == "HEAD" or status in (204, 304):
            return b""
        if (headers.get("Transfer-Encoding") or "").lower().endswith("chunked"):
            _chunks(wire, order, take_all, secure=secure)
        elif "Content-Length" in headers:
            length = headers.get("Content-Length") or ""
            if not re.fullmatch(r"\d{1,18}", length):
                raise wire.failed("The answer's length is not valid.", reason="target-error")
            take_all(int(length))
        else:
            while parts[-1:] != [b""]:
                parts.append(take(65536))
        return b"".join(parts)
    except RequestFailed as failed:
        failed.status = status
        failed.received = received
        failed.another = False
        # The target was reached, so its status counts, unless the proxy let the body drip.
        if failed.cut and received >= DRIP_BYTES_PER_S * (time.monotonic() - started):
            failed.error = None
        raise


def _chunks(wire: _Wire, order: Order, take_all: Callable[[int], None], *, secure: bool) -> None:
    while True:
        wire.next_piece(order.body_timeout)
        line = wire.until(b"\r\n", 1024)
        found = re.match(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n$", line)
        if found is None:
            if line == b"":
                raise wire.closed()
            raise wire.failed("A chunk is not valid.", reason="target-error" if secure else "proxy-error")
        size = int(found.group(1), 16)
        if size == 0:
            while wire.until(b"\r\n", HEAD_BYTES_MAX) not in (b"\r\n", b""):
                pass
            return
        take_all(size)
        if wire.exactly(2) != b"\r\n":
            raise wire.failed("A chunk is not valid.", reason="target-error" if secure else "proxy-error")
