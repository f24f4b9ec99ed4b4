"""`jointdit run-workflow` against a server that answers as ComfyUI does; a real one is in test_comfyui_server.py."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jointdit.cli import main
from jointdit.comfyui.client import ComfyClient

pytest.importorskip("websocket")
WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "image_to_sounding_video.json"
SAMPLER = next(key for key, node in json.loads(WORKFLOW.read_text()).items() if node["class_type"] == "JointDiTSample")
SAVED = {
    "9": {"images": [{"filename": "clip_00001_.mp4", "subfolder": "jointdit", "type": "output"}], "animated": [True]}
}


class Server(ThreadingHTTPServer):
    """Plays a job: the messages of its run, and what its history says."""

    daemon_threads = True

    def __init__(self, events=(), messages=(), outputs=SAVED, refusal=None, node_errors=None, hang=False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events, self.hang = events, hang
        self.history = {"job": {"outputs": outputs, "status": {"messages": list(messages)}}}
        self.refusal, self.node_errors = refusal, node_errors or {}
        self.posted, self.queued = [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def reply(self, data, status=200):
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/ws"):
            self.play()
        elif self.path.startswith("/history"):
            self.reply(self.server.history)
        else:
            self.reply(b"a video" if "filename=clip_00001_.mp4&subfolder=jointdit&type=output" in self.path else b"?")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, body))
        if self.path == "/upload/image":
            self.reply({"name": "photo (1).jpg", "subfolder": "", "type": "input"})
        elif self.path == "/prompt" and self.server.refusal:
            self.reply(self.server.refusal, 400)
        elif self.path == "/prompt":
            self.reply({"prompt_id": "job", "number": 1, "node_errors": self.server.node_errors})
            self.server.queued.set()
        else:
            self.reply(b"")

    def play(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.server.queued.wait(10)
        for kind, data in self.server.events:
            text = json.dumps({"type": kind, "data": {"prompt_id": "job"} | data}).encode()
            self.wfile.write(b"\x81\x7e" + struct.pack(">H", len(text)) + text)
        while self.server.hang:
            time.sleep(0.05)


DONE = [("progress", {"node": SAMPLER, "value": 25, "max": 25}), ("execution_success", {})]


def run(server, tmp_path, *options):
    return main(["run-workflow", str(WORKFLOW), "--server", server.url, "--out", str(tmp_path / "out"), *options])


def test_a_run_uploads_sets_follows_and_downloads(tmp_path, capsys):
    (tmp_path / "photo.jpg").write_bytes(b"jpeg")
    server = Server(DONE)
    assert (
        run(server, tmp_path, "--image", str(tmp_path / "photo.jpg"), "--set", "prompt=rain", "--set", "steps=3") == 0
    )
    path = tmp_path / "out" / "clip_00001_.mp4"
    assert path.read_bytes() == b"a video" and capsys.readouterr().out == f"{path}\n"
    sent = dict(server.posted)
    assert b'name="image"; filename="photo.jpg"' in sent["/upload/image"] and b"jpeg" in sent["/upload/image"]
    graph = json.loads(sent["/prompt"])["prompt"].values()
    inputs = {node["class_type"]: node["inputs"] for node in graph}
    assert inputs["LoadImage"]["image"] == "photo (1).jpg"
    assert inputs["JointDiTCondition"]["prompt"] == "rain" and inputs["JointDiTSample"]["steps"] == 3


def test_a_video_is_uploaded_for_its_loader_and_texts_are_printed(tmp_path, capsys):
    (tmp_path / "drums.mp4").write_bytes(b"mp4")
    server = Server(DONE, outputs=SAVED | {"7": {"text": ["3 events seen"]}})
    workflow = WORKFLOW.with_name("sound_a_video.json")
    options = ["--server", server.url, "--out", str(tmp_path / "out"), "--video", str(tmp_path / "drums.mp4")]
    assert main(["run-workflow", str(workflow), *options]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "3 events seen"
    sent = dict(server.posted)
    assert b'filename="drums.mp4"' in sent["/upload/image"]
    inputs = {node["class_type"]: node["inputs"] for node in json.loads(sent["/prompt"])["prompt"].values()}
    assert inputs["LoadVideo"]["file"] == "photo (1).jpg"


def test_messages_of_other_jobs_are_not_ours(tmp_path):
    server = Server([("execution_error", {"prompt_id": "other"}), *DONE])
    assert run(server, tmp_path) == 0


def refused(details):
    errors = [{"message": "Custom validation failed for node", "details": details}]
    return {SAMPLER: {"class_type": "JointDiTSample", "errors": errors}}


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            {
                "refusal": {
                    "error": {"message": "Prompt outputs failed validation"},
                    "node_errors": refused("steps - 0"),
                }
            },
            f"JointDiTSample (node {SAMPLER}): Custom validation failed for node: steps - 0",
        ),
        (
            {"refusal": {"error": {"message": "Cannot execute", "details": "no such node"}}},
            "Cannot execute no such node",
        ),
        (
            {
                "events": [("execution_error", {})],
                "messages": [
                    (
                        "execution_error",
                        {
                            "node_id": SAMPLER,
                            "exception_type": "pack.errors.InputError",
                            "exception_message": "steps\nis 0",
                        },
                    )
                ],
            },
            f"JointDiTSample (node {SAMPLER}): InputError: steps is 0",
        ),
        (
            {"events": [("execution_interrupted", {})], "messages": [("execution_interrupted", {})]},
            "the job was cancelled on the server",
        ),
        ({"events": DONE, "outputs": {}}, "saved nothing"),
    ],
    ids=["validation", "graph", "execution", "cancelled", "nothing"],
)
def test_errors_are_said_in_one_line(tmp_path, capsys, server, message):
    assert run(Server(**server), tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))


def test_a_partial_failure_is_a_failure_but_keeps_what_was_made(tmp_path, capsys):
    assert run(Server(DONE, node_errors=refused("fps")), tmp_path) == 2
    captured = capsys.readouterr()
    assert "left a part" in captured.err and "clip_00001_.mp4" in captured.out


def test_the_keyboard_cancels_the_job(tmp_path):
    server = Server([("progress", {"node": SAMPLER, "value": 1, "max": 25})], hang=True)

    def stop(*progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ComfyClient(server.url).run(json.loads(WORKFLOW.read_text()), stop)
    server.hang = False
    assert [(path, json.loads(body)) for path, body in server.posted[1:]] == [
        ("/queue", {"delete": ["job"]}),
        ("/interrupt", {"prompt_id": "job"}),
    ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "127.0.0.1:8188"])
def test_a_server_that_is_not_there_is_named(tmp_path, capsys, url):
    assert main(["run-workflow", str(WORKFLOW), "--server", url, "--out", str(tmp_path)]) == 2
    assert url in capsys.readouterr().err


def test_bad_files_are_refused_before_anything_is_sent(tmp_path):
    server = Server(DONE)
    assert run(server, tmp_path, "--image", str(tmp_path / "none.jpg")) == 2
    assert run(server, tmp_path, "--set", "colour=red") == 2
    assert run(server, tmp_path, "--video", str(WORKFLOW)) == 2
    assert server.posted == []
