"""A ComfyUI server over its API: upload, queue, follow, cancel, download."""

from __future__ import annotations

import json
import math
import mimetypes
import os
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, in_one_line
from ..media.files import source_file, whole_file
from .replies import Failure, Finished, Progress, Queue, Queued, RefusedNode, Uploaded, fitting, read, read_object
from .results import remove_if_empty, saved_files, targets
from .transport import UNREACHABLE, Messages, Refusal, hung_up_after, read_reply, save_reply
from .workflow import Graph, title

Report = Callable[[str, int, int], None]
TIMEOUT = 30.0  # seconds for a reply
BUSY = 120.0  # the same while a job runs: loading a model may keep the server from answering
QUIET = 10.0  # seconds without a message about the job, after which the server is asked whether it still has it
PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between two questions about its result; each pause is twice the one before
ENDS = ("execution_success", "execution_error", "execution_interrupted")


@dataclass(frozen=True)
class Limits:
    """What a server may send at most.

    megabytes: of all files that a job saved.    seconds: until one of them is here.
    """

    megabytes: float = 4096
    seconds: float = 600.0


class ComfyClient:
    """One user of one server, which is not trusted. url: as in the browser, for example http://127.0.0.1:8188."""

    def __init__(self, url: str, limits: Limits = Limits()) -> None:  # noqa: B008, frozen
        try:
            parts = urllib.parse.urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise InputError(f"--server {url}: give an address such as http://127.0.0.1:8188")
        self.url = url.rstrip("/")
        self.identity = uuid.uuid4().hex
        self.limits = limits

    def upload(self, path: Path) -> str:
        """Sends a picture, a video or a sound; returns the name that its stock loader takes."""
        source = source_file(path)
        boundary = uuid.uuid4().hex
        kind = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
        name = urllib.parse.quote(os.fsencode(source.name))
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        )
        body = head.encode() + source.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        path_there = "/upload/image"
        kind = f"multipart/form-data; boundary={boundary}"
        return read(Uploaded, self._request(path_there, body, kind), self.url + path_there).path

    def run(self, graph: Graph, report: Report, timeout: float | None = None) -> tuple[dict[str, Any], list[str]]:
        """Queues the graph and waits for its end. An interrupt by the keyboard cancels the job on the server.

        timeout: seconds after which the job is cancelled; None waits for as long as the server answers.
        Returns the outputs by node, and what the server refused of an otherwise valid graph. Raises InputError with
        the server's validation or execution error, or if the job was cancelled or deleted there or took too long.
        """
        with self._listen() as messages:
            job, refused = self._queue(graph)
            try:
                self._follow(messages, job, graph, report, _Deadline(timeout))
            except KeyboardInterrupt:
                self._abandon(job)
                raise
            except _Late:
                self._abandon(job)
                raise InputError(f"--timeout {timeout}: the job took longer; it was cancelled") from None
        return self._outputs(self._result(job), graph), _refusals(refused, graph)

    def cancel(self, job: str) -> None:
        """Takes the job from the queue, or stops it where it runs."""
        self._post("/queue", {"delete": [job]})
        self._post("/interrupt", {"prompt_id": job})

    def _abandon(self, job: str) -> None:
        with suppress(InputError):  # a server that does not answer cannot be told
            self.cancel(job)

    def download(self, outputs: Mapping[str, Any], folder: Path, overwrite: bool = False) -> list[Path]:
        """Writes the saved files of all outputs to the folder (`results.targets`); each appears when it is complete.

        Raises InputError before anything is written for what cannot go there, and for files beyond the limits.
        """
        written, left = [], int(self.limits.megabytes * 1e6)
        places = targets(saved_files(outputs, f"{self.url}/history"), folder, overwrite)
        for target, file in places.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            query = urllib.parse.urlencode({"filename": file.filename, "subfolder": file.subfolder, "type": file.type})
            try:
                with whole_file(target, overwrite) as partial, self._explained(f"/view?{query}"):
                    request = urllib.request.Request(f"{self.url}/view?{query}")
                    left -= save_reply(request, self.limits.seconds, partial, left)
            finally:
                for parent in (target.parent, folder):
                    remove_if_empty(parent)
            written.append(target)
        return written

    def _queue(self, graph: Graph) -> tuple[str, dict[str, RefusedNode]]:
        """The name of the job, and the nodes that are left out. Raises InputError for a graph that is refused."""
        place = f"{self.url}/prompt"
        body = json.dumps({"prompt": graph, "client_id": self.identity}).encode()
        try:
            reply = read(Queued, self._request("/prompt", body, "application/json", may_refuse=True), place)
        except Refusal as refusal:
            reply = read(Queued, refusal.body, place)
            reasons = _refusals(reply.refused_nodes, graph)
            error = reply.error
            general = f"{error.message} {error.details or ''}" if not isinstance(error, str | None) else error or ""
            raise InputError("; ".join(reasons) or in_one_line(general) or f"{place}: refuses the graph") from refusal
        if reply.prompt_id is None:
            raise InputError(f"{place}: does not answer as ComfyUI does; is another server there?")
        return reply.prompt_id, reply.refused_nodes

    @contextmanager
    def _listen(self) -> Iterator[Messages]:
        try:
            import websocket
        except ModuleNotFoundError as error:
            raise InputError(
                f'websocket-client is missing; get it with: "{sys.executable}" -m pip install websocket-client'
            ) from error
        address = self.url.replace("http", "ws", 1) + f"/ws?clientId={self.identity}"
        connection = websocket.WebSocket()
        try:
            try:
                # Its own timeout is for each byte alone.
                with hung_up_after(TIMEOUT, lambda: [connection.sock]):
                    connection.connect(address, timeout=QUIET, redirect_limit=0)
                if connection.getstatus() != 101:
                    raise ConnectionError(f"it answers {connection.getstatus()}")
            except (*UNREACHABLE, ValueError, websocket.WebSocketException) as error:
                told = in_one_line(error)
                raise InputError(f"{self.url}: no ComfyUI answers there ({told}); is it running?") from error
            yield Messages(connection)
        finally:
            with suppress(*UNREACHABLE, websocket.WebSocketException):
                connection.close(timeout=1)

    def _follow(self, messages: Messages, job: str, graph: Graph, report: Report, deadline: _Deadline) -> None:
        """Reads messages until the job ends, well or not, or is no longer in the queue."""
        import websocket

        place = f"{self.url}/ws"
        heard = time.monotonic()
        while True:
            if time.monotonic() - heard >= QUIET:
                if not self._has(job, deadline.left(BUSY)):
                    return
                heard = time.monotonic()
            try:
                message = messages.next(deadline.left(QUIET))
            except websocket.WebSocketTimeoutException:
                continue
            except (OSError, websocket.WebSocketException) as error:
                raise InputError(
                    f"{self.url}: the connection broke ({in_one_line(error)}); the job {job} may still run"
                ) from error
            if not message:
                continue  # a preview picture
            event = read_object(message, place)
            data, kind = event.get("data"), event.get("type")
            if not isinstance(data, dict) or data.get("prompt_id") != job:
                continue
            heard = time.monotonic()
            if kind == "progress" and data.get("node"):
                progress = fitting(Progress, data, place)
                report(title(graph, progress.node or ""), int(progress.value), int(progress.max))
            if kind in ENDS:
                return

    def _has(self, job: str, patience: float) -> bool:
        """Whether the job waits or runs."""
        return read(Queue, self._request("/queue", patience=patience), f"{self.url}/queue").has(job)

    def _result(self, job: str) -> Finished:
        """What the history has of a job that ended; it is written a moment after the last message."""
        pause, end = PAUSE, time.monotonic() + BUSY
        path = f"/history/{urllib.parse.quote(job, safe='')}"
        while True:
            there = self._has(job, BUSY)  # asked first: a job that leaves the queue is in the history then
            entry = read_object(self._request(path, patience=BUSY), self.url + path).get(job)
            if entry is not None:
                return fitting(Finished, entry, self.url + path)
            if not there:
                raise InputError(
                    f"{self.url}: the job {in_one_line(job)} is gone: it was deleted there or the server was "
                    "restarted; run it again"
                )
            if time.monotonic() >= end:
                raise InputError(
                    f"{self.url}: the job {in_one_line(job)} ended, but the server has no result of it; look at its log"
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _outputs(self, entry: Finished, graph: Graph) -> dict[str, dict[str, Any]]:
        """The outputs by node of a job in the history. Raises InputError if it did not succeed."""
        for event, data in entry.status.messages:
            if event == "execution_interrupted":
                raise InputError("the job was cancelled on the server")
            if event == "execution_error":
                failure = fitting(Failure, data, f"{self.url}/history")
                kind = failure.exception_type.rpartition(".")[2]
                told = in_one_line(f"{kind}: {failure.exception_message}", 1000)
                raise InputError(f"{title(graph, str(failure.node_id))}: {told}")
        return entry.outputs

    def _post(self, path: str, data: Mapping[str, Any]) -> None:
        self._request(path, json.dumps(data).encode(), "application/json")

    def _request(
        self,
        path: str,
        body: bytes | None = None,
        kind: str = "",
        patience: float | None = None,
        may_refuse: bool = False,
    ) -> bytes:
        """The body of a reply. patience: seconds to wait for all of it (`TIMEOUT`). may_refuse: raises Refusal for a
        graph that is not run."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind} if kind else {})
        with self._explained(path, may_refuse):
            return read_reply(request, TIMEOUT if patience is None else patience)

    @contextmanager
    def _explained(self, path: str, may_refuse: bool = False) -> Iterator[None]:
        """Turns what a request raises into one line."""
        try:
            yield
        except Refusal as refusal:
            if may_refuse and refusal.status == 400 and refusal.body.lstrip().startswith(b"{"):
                raise
            raise InputError(f"{self.url}{path}: the server says {refusal.status} {refusal.reason}") from refusal
        except UNREACHABLE as error:
            raise InputError(f"{self.url}: no ComfyUI answers there ({in_one_line(error)}); is it running?") from error


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


def _refusals(nodes: Mapping[str, RefusedNode], graph: Graph) -> list[str]:
    """One line for each node that the server refused."""
    lines = []
    for identity, node in nodes.items():
        reasons = dict.fromkeys(in_one_line(f"{each.message}: {each.details}").rstrip(": ") for each in node.errors)
        lines.append(f"{title(graph, identity)}: {', '.join(reasons)}")
    return lines
