"""A ComfyUI server over its API: upload, queue, follow, cancel, download."""

from __future__ import annotations

import json
import math
import mimetypes
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path, PureWindowsPath
from typing import Any

from ..errors import InputError
from ..media.files import source_file, whole_file
from .workflow import Graph, title

Report = Callable[[str, int, int], None]
TIMEOUT = 30.0  # seconds for a reply
BUSY = 120.0  # the same while a job runs: loading a model may keep the server from answering
QUIET = 10.0  # seconds without a message about the job, after which the server is asked whether it still has it
PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between two questions about its result; each pause is twice the one before
ENDS = ("execution_success", "execution_error", "execution_interrupted")
UNREACHABLE = (OSError, HTTPException, UnicodeError)  # the last one: an invalid host name


class ComfyClient:
    """One user of one server. url: as in the browser, for example http://127.0.0.1:8188."""

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise InputError(f"--server {url}: give an address such as http://127.0.0.1:8188")
        self.url = url.rstrip("/")
        self.identity = uuid.uuid4().hex

    def upload(self, path: Path) -> str:
        """Sends a picture, a video or a sound; returns the name that its stock loader takes."""
        source = source_file(path)
        boundary = uuid.uuid4().hex
        kind = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
        name = urllib.parse.quote(source.name)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        )
        body = head.encode() + source.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        reply = self._json("/upload/image", body, f"multipart/form-data; boundary={boundary}")
        return f"{reply['subfolder']}/{reply['name']}" if reply.get("subfolder") else reply["name"]

    def run(self, graph: Graph, report: Report, timeout: float | None = None) -> tuple[dict[str, Any], list[str]]:
        """Queues the graph and waits for its end. An interrupt by the keyboard cancels the job on the server.

        timeout: seconds after which the job is cancelled; None waits for as long as the server answers.
        Returns the outputs by node, and what the server refused of an otherwise valid graph. Raises InputError with
        the server's validation or execution error, or if the job was cancelled or deleted there or took too long.
        """
        with self._listen() as socket:
            reply = self._queue(graph)
            job = reply["prompt_id"]
            try:
                self._follow(socket, job, graph, report, _Deadline(timeout))
            except KeyboardInterrupt:
                self._abandon(job)
                raise
            except _Late:
                self._abandon(job)
                raise InputError(f"--timeout {timeout}: the job took longer; it was cancelled") from None
        return _outputs(self._result(job), graph), _refusals(reply.get("node_errors") or {}, graph)

    def cancel(self, job: str) -> None:
        """Takes the job from the queue, or stops it where it runs."""
        self._post("/queue", {"delete": [job]})
        self._post("/interrupt", {"prompt_id": job})

    def _abandon(self, job: str) -> None:
        with suppress(InputError):  # a server that does not answer cannot be told
            self.cancel(job)

    def download(self, outputs: Mapping[str, Any], folder: Path) -> list[Path]:
        """Writes the saved files of all outputs to the folder; each appears when it is complete.

        Files with the same name go into the subfolders that they have on the server.
        """
        files = {(Path(file["filename"]).name, file.get("subfolder", "")): file for file in _saved_files(outputs)}
        names = Counter(name for name, _ in files)
        written = []
        for (name, subfolder), file in files.items():
            target = folder / (_relative(subfolder) if names[name] > 1 else "") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            query = urllib.parse.urlencode({key: file.get(key, "") for key in ("filename", "subfolder", "type")})
            with whole_file(target) as partial:
                partial.write_bytes(self._request(f"/view?{query}"))
            written.append(target)
        return written

    def _queue(self, graph: Graph) -> dict[str, Any]:
        try:
            reply = self._post("/prompt", {"prompt": graph, "client_id": self.identity})
        except _Refused as refused:
            reasons = _refusals(refused.body.get("node_errors") or {}, graph)
            error = refused.body.get("error") or {}
            general = error.get("message", str(error)) if isinstance(error, dict) else str(error)
            details = error.get("details") if isinstance(error, dict) else None
            raise InputError("; ".join(reasons) or f"{general} {details or ''}".strip()) from refused
        if "prompt_id" not in reply:
            raise InputError(f"{self.url}/prompt: does not answer as ComfyUI does; is another server there?")
        return reply

    def _listen(self) -> Any:
        try:
            import websocket
        except ModuleNotFoundError as error:
            raise InputError(
                f'websocket-client is missing; get it with: "{sys.executable}" -m pip install websocket-client'
            ) from error
        address = self.url.replace("http", "ws", 1) + f"/ws?clientId={self.identity}"
        try:
            return closing(websocket.create_connection(address, timeout=QUIET))
        except (*UNREACHABLE, websocket.WebSocketException) as error:
            raise InputError(f"{self.url}: no ComfyUI answers there ({error}); is it running?") from error

    def _follow(self, socket: Any, job: str, graph: Graph, report: Report, deadline: _Deadline) -> None:
        """Reads messages until the job ends, well or not, or is no longer in the queue."""
        import websocket

        heard = time.monotonic()
        while True:
            if time.monotonic() - heard >= QUIET:
                if not self._has(job, deadline.left(BUSY)):
                    return
                heard = time.monotonic()
            socket.settimeout(deadline.left(QUIET))
            try:
                message = socket.recv()
            except websocket.WebSocketTimeoutException:
                continue
            except (OSError, websocket.WebSocketException) as error:
                raise InputError(f"{self.url}: the connection broke ({error}); the job {job} may still run") from error
            if not isinstance(message, str) or not message:
                continue  # a preview picture
            event = json.loads(message)
            data = event.get("data") or {}
            if data.get("prompt_id") != job:
                continue
            heard = time.monotonic()
            if event["type"] == "progress" and data.get("node"):
                report(title(graph, data["node"]), int(data["value"]), int(data["max"]))
            if event["type"] in ENDS:
                return

    def _has(self, job: str, patience: float) -> bool:
        """Whether the job waits or runs."""
        queue = self._json("/queue", patience=patience)
        return any(entry[1] == job for name in ("queue_running", "queue_pending") for entry in queue.get(name, ()))

    def _result(self, job: str) -> dict[str, Any]:
        """What the history has of a job that ended; it is written a moment after the last message."""
        pause, end = PAUSE, time.monotonic() + BUSY
        while True:
            there = self._has(job, BUSY)  # asked first: a job that leaves the queue is in the history then
            entry = self._json(f"/history/{job}", patience=BUSY).get(job)
            if entry is not None:
                return entry
            if not there:
                raise InputError(
                    f"{self.url}: the job {job} is gone: it was deleted there or the server was restarted; run it again"
                )
            if time.monotonic() >= end:
                raise InputError(
                    f"{self.url}: the job {job} ended, but the server has no result of it; look at its log"
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _post(self, path: str, data: Mapping[str, Any]) -> dict[str, Any]:
        return self._json(path, json.dumps(data).encode(), "application/json")

    def _json(self, path: str, body: bytes | None = None, kind: str = "", patience: float = TIMEOUT) -> dict[str, Any]:
        reply = self._request(path, body, kind, patience)
        try:
            found = json.loads(reply or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InputError(f"{self.url}{path}: does not answer as ComfyUI does; is another server there?")
        return found

    def _request(self, path: str, body: bytes | None = None, kind: str = "", patience: float = TIMEOUT) -> bytes:
        """patience: seconds to wait for the reply."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind} if kind else {})
        try:
            with urllib.request.urlopen(request, timeout=patience) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            body = error.read()
            if path == "/prompt" and error.code == 400 and body.lstrip().startswith(b"{"):
                raise _Refused(json.loads(body)) from error
            raise InputError(f"{self.url}{path}: the server says {error.code} {error.reason}") from error
        except UNREACHABLE as error:
            raise InputError(f"{self.url}: no ComfyUI answers there ({error}); is it running?") from error


class _Refused(Exception):
    """The server's answer to a graph that it does not run."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.body = body


class _Late(Exception):
    """A deadline has passed."""


class _Deadline:
    """A moment this many seconds from now; None means never."""

    def __init__(self, seconds: float | None) -> None:
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def left(self, most: float) -> float:
        """Seconds to wait now, `most` at most. Raises _Late if there are none left."""
        left = min(most, self._end - time.monotonic())
        if left <= 0:
            raise _Late
        return left


def _outputs(entry: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    """The outputs by node of a job in the history. Raises InputError if it did not succeed."""
    for event, data in entry["status"]["messages"]:
        if event == "execution_interrupted":
            raise InputError("the job was cancelled on the server")
        if event == "execution_error":
            reason = " ".join(str(data["exception_message"]).split())
            kind = data["exception_type"].rpartition(".")[2]
            raise InputError(f"{title(graph, str(data['node_id']))}: {kind}: {reason}")
    return entry["outputs"]


def _refusals(errors: Mapping[str, Any], graph: Graph) -> list[str]:
    """One line for each node that the server refused."""
    lines = []
    for identity, node in errors.items():
        reasons = dict.fromkeys(f"{each['message']}: {each['details']}".rstrip(": ") for each in node["errors"])
        lines.append(f"{title(graph, identity)}: {', '.join(reasons)}")
    return lines


def shown_texts(outputs: Mapping[str, Any]) -> list[str]:
    """What nodes such as Preview as Text show."""
    return [str(text) for node in outputs.values() for text in node.get("text", ())]


def _relative(subfolder: str) -> Path:
    """A subfolder of a server, which may run on Windows, as a path that stays inside a folder here."""
    path = PureWindowsPath(subfolder)
    return Path(*[part for part in path.parts if part not in (path.anchor, "..")])


def _saved_files(outputs: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    for node in outputs.values():
        for entries in node.values():
            for entry in entries:
                if isinstance(entry, dict) and entry.get("type") == "output" and "filename" in entry:
                    yield entry
