"""A model hub on 127.0.0.1: the answers that huggingface_hub asks of the Hugging Face Hub, and their failures.

As there, small files come from the hub itself, and large ones by a redirect to a storage that knows only checksums.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import socket
import struct
import sys
import termios
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".model", ".gif")  # in large file storage


class Request(NamedTuple):
    method: str
    path: str
    range: str | None
    token: str | None
    sent: int  # bytes of the answer's body


@dataclass
class Break:
    """How a connection to the storage ends: after so many bytes of the file's rest, closed, reset, not at all, or with
    more bytes for ever."""

    after: int
    kind: str = "close"  # close, reset, stall, endless


@dataclass
class Hub:
    """repositories: their files, path to content.    cards, gated: what the hub says of them, gated ones by token.
    others: their files at commits that are not the newest, by repository and commit.

    breaks: one for each of the next connections to the storage.    refusals: status by path on the hub.
    sizes: other sizes than the true ones that the hub announces.    served: other contents than the true ones.
    """

    repositories: dict[str, dict[str, bytes]]
    cards: dict[str, dict[str, str]] = field(default_factory=dict)
    gated: dict[str, str] = field(default_factory=dict)
    breaks: list[Break] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    page: bytes | None = None  # answers every question instead
    endless: str | None = None  # answers to paths with this in them do not end
    others: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Hub:
        self._servers = [_Server(self, _HubHandler), _Server(self, _StorageHandler)]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        return self

    def __exit__(self, *error: object) -> None:
        self.stalled.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def at(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit and its files."""
        if revision in ("main", self.commit(repository)):
            return self.commit(repository), self.repositories[repository]
        return (revision, self.others[repository, revision]) if (repository, revision) in self.others else None

    def commit(self, repository: str) -> str:
        files = self.repositories[repository]
        listing = sorted((path, digest(path, body)) for path, body in files.items())
        return hashlib.sha1(repr(listing).encode()).hexdigest()

    def received(self) -> list[Request]:
        """The requests that brought a file's content."""
        return [request for request in self.requests if request.method == "GET" and "/api/" not in request.path]


@cache
def digest(path: str, body: bytes) -> str:
    """SHA-256 of a large file, Git's checksum of another."""
    if path.endswith(LARGE):
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the other side is gone, as tests want it
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def answer(self, status: int, body: bytes = b"", end: Break | None = None, **headers: str) -> None:
        sent = len(body) if end is None else min(end.after, len(body))
        sent = 0 if self.command == "HEAD" else sent
        token = self.headers.get("Authorization")
        self.hub.requests.append(Request(self.command, self.path, self.headers.get("Range"), token, sent))
        self.send_response(status)
        length = {} if end is not None and end.kind == "endless" else {"Content-Length": str(len(body))}
        for name, value in {**length, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:sent])
        while not length:  # until the client hangs up
            self.wfile.write(bytes(1 << 16))
        if end is not None:
            self.finish_early(end.kind)

    def finish_early(self, kind: str) -> None:
        if kind == "stall":
            self.hub.stalled.wait(60)
        if kind == "reset":
            while fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4)) != bytes(4):
                time.sleep(0.01)  # what was sent is still to arrive
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()

    def ranged(self, body: bytes, **headers: str) -> None:
        end = self.hub.breaks.pop(0) if self.hub.breaks and len(body) > 1 << 20 else None
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if not start:
            return self.answer(200, body, end, **headers)
        if start >= len(body):
            return self.answer(416, Content_Range=f"bytes */{len(body)}")
        headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.answer(206, body[start:], end, **headers)

    def do_HEAD(self) -> None:
        self.do_GET()


class _HubHandler(_Handler):
    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.hub.page is not None:
            return self.answer(200, self.hub.page)
        if self.hub.endless is not None and self.hub.endless in path:
            return self.answer(200, b"{", Break(1, "endless"))
        for part, status in self.hub.refusals.items():
            if part in path:
                return self.answer(status)
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            repository, listing, _ = name.partition("/tree/")
            return self.list_files(repository) if listing else self.describe(repository, revision or "main")
        repository, resolve, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if not resolve or repository not in self.hub.repositories:
            return self.answer(404, X_Error_Code="RepoNotFound")
        if (token := self.hub.gated.get(repository)) and self.headers.get("Authorization") != f"Bearer {token}":
            return self.answer(401 if self.headers.get("Authorization") is None else 403, X_Error_Code="GatedRepo")
        if (found := self.hub.at(repository, revision)) is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, files = found
        body = files.get(name)
        if body is None:
            return self.answer(404, X_Error_Code="EntryNotFound")
        checksum = digest(name, body)
        if not name.endswith(LARGE):
            return self.ranged(self.hub.served.get(name, body), ETag=f'"{checksum}"', X_Repo_Commit=commit)
        self.answer(
            302,
            Location=f"{self.hub.storage}/{checksum}",
            X_Repo_Commit=commit,
            X_Linked_ETag=f'"{checksum}"',
            X_Linked_Size=str(len(body)),
        )

    def list_files(self, repository: str) -> None:
        files = [
            {"type": "file", "path": path, "size": len(body), "oid": digest(path, body)}
            for path, body in self.hub.repositories.get(repository, {}).items()
        ]
        self.answer(200, json.dumps(files).encode(), Content_Type="application/json")

    def describe(self, repository: str, revision: str) -> None:
        if repository not in self.hub.repositories:
            return self.answer(404, X_Error_Code="RepoNotFound")
        if (found := self.hub.at(repository, revision)) is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, files = found
        siblings = []
        for path, body in files.items():
            size = self.hub.sizes.get(path, len(body))
            entry = {"rfilename": path, "size": size, "blobId": digest(path.replace(".", "/"), body)}
            if path.endswith(LARGE):
                entry["lfs"] = {"sha256": digest(path, body), "size": size, "pointerSize": 135}
            siblings.append(entry)
        reply = {
            "id": repository,
            "sha": commit,
            "gated": "auto" if repository in self.hub.gated else False,
            "cardData": self.hub.cards.get(repository),
            "siblings": siblings,
        }
        self.answer(200, json.dumps(reply).encode(), Content_Type="application/json")


class _StorageHandler(_Handler):
    def do_GET(self) -> None:
        for files in (*self.hub.repositories.values(), *self.hub.others.values()):
            for path, body in files.items():
                if self.path == "/" + digest(path, body):
                    return self.ranged(self.hub.served.get(path, body))
        self.answer(404)
