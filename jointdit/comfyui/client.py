"""A ComfyUI server over its API: upload, queue, follow, cancel, download."""

from __future__ import annotations

import json
import mimetypes
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..media.files import source_file, whole_file
from .workflow import Graph, title

Report = Callable[[str, int, int], None]
TIMEOUT = 30.0  # seconds for a reply
QUIET = 10.0  # seconds without a message, after which the history is asked


class ComfyClient:
    """One user of one server. url: as in the browser, for example http://127.0.0.1:8188."""

    def __init__(self, url: str) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
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

    def run(self, graph: Graph, report: Report) -> tuple[dict[str, Any], list[str]]:
        """Queues the graph and waits for its end. An interrupt by the keyboard cancels the job on the server.

        Returns the outputs by node, and what the server refused of an otherwise valid graph. Raises InputError with
        the server's validation or execution error, or if the job was cancelled there.
        """
        with self._listen() as socket:
            reply = self._queue(graph)
            job = reply["prompt_id"]
            try:
                self._follow(socket, job, graph, report)
            except KeyboardInterrupt:
                self.cancel(job)
                raise
        return self._outputs(job, graph), _refusals(reply.get("node_errors") or {}, graph)

    def cancel(self, job: str) -> None:
        """Takes the job from the queue, or stops it where it runs."""
        self._post("/queue", {"delete": [job]})
        self._post("/interrupt", {"prompt_id": job})

    def download(self, outputs: Mapping[str, Any], folder: Path) -> list[Path]:
        """Writes the saved files of all outputs to the folder; each appears when it is complete."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for file in _saved_files(outputs):
            target = folder / Path(file["filename"]).name
            query = urllib.parse.urlencode({key: file.get(key, "") for key in ("filename", "subfolder", "type")})
            with whole_file(target) as partial:
                partial.write_bytes(self._request(f"/view?{query}"))
            written.append(target)
        return written

    def _queue(self, graph: Graph) -> dict[str, Any]:
        try:
            return self._post("/prompt", {"prompt": graph, "client_id": self.identity})
        except _Refused as refused:
            reasons = _refusals(refused.body.get("node_errors") or {}, graph)
            error = refused.body.get("error") or {}
            general = error.get("message", str(error)) if isinstance(error, dict) else str(error)
            details = error.get("details") if isinstance(error, dict) else None
            raise InputError("; ".join(reasons) or f"{general} {details or ''}".strip()) from refused

    def _listen(self) -> Any:
        try:
            import websocket
        except ModuleNotFoundError as error:
            raise InputError('websocket-client is missing; install it with: pip install "jointdit[client]"') from error
        address = self.url.replace("http", "ws", 1) + f"/ws?clientId={self.identity}"
        try:
            return closing(websocket.create_connection(address, timeout=QUIET))
        except (OSError, websocket.WebSocketException) as error:
            raise InputError(f"{self.url}: no ComfyUI answers there ({error}); is it running?") from error

    def _follow(self, socket: Any, job: str, graph: Graph, report: Report) -> None:
        """Reads messages until the job ends, well or not; the history says which."""
        import websocket

        while True:
            try:
                message = socket.recv()
            except websocket.WebSocketTimeoutException:
                if self._history(job):
                    return
                continue
            except (OSError, websocket.WebSocketException) as error:
                raise InputError(f"{self.url}: the connection broke ({error}); the job {job} may still run") from error
            if not isinstance(message, str) or not message:
                continue  # a preview picture
            event = json.loads(message)
            data = event.get("data") or {}
            if data.get("prompt_id") != job:
                continue
            if event["type"] == "progress" and data.get("node"):
                report(title(graph, data["node"]), int(data["value"]), int(data["max"]))
            if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
                return

    def _history(self, job: str) -> dict[str, Any] | None:
        return self._json(f"/history/{job}").get(job)

    def _outputs(self, job: str, graph: Graph) -> dict[str, Any]:
        entry = self._history(job)
        while entry is None:  # it is written a moment after the last message
            entry = self._history(job)
        for event, data in entry["status"]["messages"]:
            if event == "execution_interrupted":
                raise InputError("the job was cancelled on the server")
            if event == "execution_error":
                reason = " ".join(str(data["exception_message"]).split())
                kind = data["exception_type"].rpartition(".")[2]
                raise InputError(f"{title(graph, str(data['node_id']))}: {kind}: {reason}")
        return entry["outputs"]

    def _post(self, path: str, data: Mapping[str, Any]) -> dict[str, Any]:
        return self._json(path, json.dumps(data).encode(), "application/json")

    def _json(self, path: str, body: bytes | None = None, kind: str = "") -> dict[str, Any]:
        return json.loads(self._request(path, body, kind) or b"{}")

    def _request(self, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind} if kind else {})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            body = error.read()
            if error.code == 400 and body.lstrip().startswith(b"{"):
                raise _Refused(json.loads(body)) from error
            raise InputError(f"{self.url}{path}: the server says {error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            raise InputError(f"{self.url}: no ComfyUI answers there ({error}); is it running?") from error


class _Refused(Exception):
    """The server's answer to a graph that it does not run."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.body = body


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


def _saved_files(outputs: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    for node in outputs.values():
        for entries in node.values():
            for entry in entries:
                if isinstance(entry, dict) and entry.get("type") == "output" and "filename" in entry:
                    yield entry
