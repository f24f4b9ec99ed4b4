"""Replies of a server that is not trusted: none is larger, or takes longer, than is asked for."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from threading import Timer
from typing import Any

from ..errors import InputError, in_one_line

REPLY_BYTES = 64 * 2**20  # of a reply in JSON, and of a message
MESSAGE_SECONDS = 30.0  # from the first byte of a message to its last
PIECE = 1 << 20
UNREACHABLE = (OSError, HTTPException, UnicodeError)  # the last one: an invalid host name


class Refusal(Exception):
    """A reply with an error status. body: the beginning of it."""

    def __init__(self, status: int, reason: str, body: bytes) -> None:
        super().__init__(status, reason)
        self.status, self.reason, self.body = status, reason, body


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A server that sends its client elsewhere could send it anywhere: its reply is an error then."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _opener(opened: Callable[[socket.socket], None]) -> urllib.request.OpenerDirector:
    """opened: is told of each connection."""

    def told(kind: type[HTTPConnection]) -> type[HTTPConnection]:
        class Connection(kind):
            def connect(self) -> None:
                super().connect()
                opened(self.sock)

        return Connection

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(told(HTTPConnection), req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(told(HTTPSConnection), req)

    return urllib.request.build_opener(Plain, Secure, _NoRedirects)


@contextmanager
def hung_up_after(seconds: float, connections: Callable[[], Iterable[socket.socket | None]]) -> Iterator[None]:
    """Ends connections after so long, whatever they do: a timeout of a socket is only the longest wait for the next
    byte. Raises TimeoutError at the end of the block then."""
    late = False

    def hang_up() -> None:
        nonlocal late
        late = True
        for connection in connections():
            with suppress(OSError, AttributeError):  # closed, or not there yet
                connection.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    timer = Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late:
            raise TimeoutError(f"no whole answer in {seconds:g} s")


@contextmanager
def reply_to(request: urllib.request.Request, seconds: float) -> Iterator[HTTPResponse]:
    """The reply to a request, all of which has come within `seconds` when the block ends.

    Raises Refusal for an error status and for a redirect, and one of `UNREACHABLE`.
    """
    connections: list[socket.socket] = []
    with hung_up_after(seconds, lambda: connections):
        try:
            with _opener(connections.append).open(request, timeout=seconds) as reply:
                yield reply
                if reply.length:
                    raise ConnectionError(f"the last {reply.length} bytes did not come")
        except urllib.error.HTTPError as error:
            with error:
                raise Refusal(error.code, in_one_line(error.reason or "", 100), error.read(REPLY_BYTES)) from error


def read_reply(request: urllib.request.Request, seconds: float, most: int = REPLY_BYTES) -> bytes:
    """The body of a reply. Raises as `reply_to`, and InputError if it has more than `most` bytes."""
    with reply_to(request, seconds) as reply:
        body = reply.read(most + 1)
        if len(body) > most:
            raise InputError(f"{request.full_url}: answers with more than {most} bytes; is ComfyUI there?")
    return body


def save_reply(request: urllib.request.Request, seconds: float, path: Path, most: int) -> int:
    """Writes the body of a reply to a file, and returns its size. Raises as `read_reply`."""
    size = 0
    with reply_to(request, seconds) as reply, path.open("wb") as file:
        while piece := reply.read(PIECE):
            if (size := size + len(piece)) > most:
                raise InputError(f"{request.full_url}: sends more than the {most} bytes that are taken")
            file.write(piece)
    return size


class Messages:
    """Messages of a connection of websocket-client's, each of bounded size and time."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._socket = connection, connection.sock
        self._bytes, self._start = 0, None
        connection.sock = self  # it reads by `recv`

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self, size: int) -> bytes:
        """What has come. Raises ConnectionError where a message becomes too large or takes too long."""
        piece = self._socket.recv(size)
        now = time.monotonic()
        self._bytes, self._start = self._bytes + len(piece), self._start or now
        if self._bytes > REPLY_BYTES or now - self._start > MESSAGE_SECONDS:
            raise ConnectionError(f"a message of more than {REPLY_BYTES} bytes or {MESSAGE_SECONDS:g} s")
        return piece

    def next(self, seconds: float) -> bytes:
        """The next message if it is a text, else nothing.

        Raises WebSocketTimeoutException where nothing comes for `seconds`, and ConnectionError at the end.
        """
        import websocket

        self._socket.settimeout(seconds)
        kind, content = self._connection.recv_data(control_frame=True)
        self._bytes, self._start = 0, None
        if kind == websocket.ABNF.OPCODE_CLOSE:
            raise ConnectionError("the server closed it")
        return content if kind == websocket.ABNF.OPCODE_TEXT else b""
