"""A server that answers as ComfyUI does, but for what a test has it do instead.

`Hostile({"/view": endless})` misbehaves for paths that begin so. A behaviour is what is sent: bytes as the body of a
reply, or a function that is given the handler of the request.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import struct
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GIVE_UP = 30.0  # seconds after which a behaviour without an end ends all the same
DONE = {"type": "execution_success", "data": {"prompt_id": "job"}}
SAVED = {"9": {"images": [{"filename": "clip.mp4", "subfolder": "", "type": "output"}]}}

Behaviour = bytes | Callable[["Handler"], None]


class Hostile(ThreadingHTTPServer):
    """behaviours: by the beginning of a path.    outputs: of the job, in its history."""

    daemon_threads = True

    def __init__(self, behaviours: Mapping[str, Behaviour] = {}, outputs: object = SAVED) -> None:  # noqa: B006, read only
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.outputs, self.asked = behaviours, outputs, []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client hung up, as it should


class Handler(BaseHTTPRequestHandler):
    server: Hostile

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        for path, behaviour in self.server.behaviours.items():
            if self.path.startswith(path):
                return self.reply(behaviour) if isinstance(behaviour, bytes) else behaviour(self)
        if self.path.startswith("/ws"):
            self.upgrade()
            return self.message(json.dumps(DONE).encode())
        if self.path.startswith("/view"):
            return self.reply(b"a video")
        history = {"job": {"outputs": self.server.outputs, "status": {"messages": []}}}
        replies = {"/prompt": {"prompt_id": "job"}, "/history/job": history, "/queue": {}}
        self.reply(json.dumps(replies[self.path]).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def upgrade(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()

    def message(self, content: bytes, kind: int = 1) -> None:
        self.wfile.write(struct.pack(">BBH", 0x80 | kind, 126, len(content)) + content)

    def without_end(self, piece: bytes, pause: float = 0.0) -> None:
        """Sends a piece again and again, until the client hangs up."""
        end = time.monotonic() + GIVE_UP
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                self.wfile.write(piece)
                time.sleep(pause)


def says(*messages: object) -> Behaviour:
    """These messages, as they are or as JSON, and then that the job is done."""

    def play(handler: Handler) -> None:
        handler.upgrade()
        for message in (*messages, DONE):
            handler.message(message if isinstance(message, bytes) else json.dumps(message).encode())

    return play


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.without_end(b" " * 2**16)


def dripping(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.without_end(b" ", 0.05)


def dripping_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    handler.without_end(b"x", 0.05)


def silent(handler: Handler) -> None:
    handler.without_end(b"", 0.05)


def cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(b"only the beginning")


def elsewhere(handler: Handler) -> None:
    handler.reply(b"", 302, Location="http://127.0.0.1:1/admin")


def failing(handler: Handler) -> None:
    handler.reply(b"\x1b[31m", 500)


def no_http(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


def huge_message(handler: Handler) -> None:
    handler.upgrade()
    handler.wfile.write(struct.pack(">BBQ", 0x81, 127, 2**62))
    handler.without_end(b" " * 2**16)


def dripping_message(handler: Handler) -> None:
    handler.upgrade()
    handler.wfile.write(struct.pack(">BBQ", 0x81, 127, 2**20))
    handler.without_end(b" ", 0.05)


def endless_fragments(handler: Handler) -> None:
    handler.upgrade()
    handler.wfile.write(b"\x01\x00")
    handler.without_end(struct.pack(">BBH", 0x00, 126, 60_000) + b" " * 60_000)


def closing(handler: Handler) -> None:
    handler.upgrade()
    handler.message(b"", kind=8)


def not_upgraded(handler: Handler) -> None:
    handler.reply(b"{}")


TRANSPORT = (endless, dripping, dripping_headers, silent, cut, elsewhere, failing, no_http)
MESSAGES = (huge_message, dripping_message, endless_fragments, closing, not_upgraded, dripping_headers, silent)
JSONS = (b"[]", b"null", b"3", b'"text"', b"{", b"\xff", b"[" * 100_000, b"<html>", b'{"a": ' * 500 + b"1" + b"}" * 500)
