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
from jointdit.comfyui import client
from jointdit.comfyui.client import ComfyClient

pytest.importorskip("websocket")
WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "image_to_sounding_video.json"
SAMPLER = next(key for key, node in json.loads(WORKFLOW.read_text()).items() if node["class_type"] == "JointDiTSample")
SAVED = {
    "9": {"images": [{"filename": "clip_00001_.mp4", "subfolder": "jointdit", "type": "output"}], "animated": [True]}
}


GIVE_UP = 6.0  # seconds after which a server ends what a client would wait for for ever


class Server(ThreadingHTTPServer):
    """Plays a job: the messages of its run, whether it is in the queue, and what its history says `late` seconds later.

    hang: the messages do not end.    chatter: those of other jobs go on meanwhile.    page: what it answers instead.
    """

    daemon_threads = True

    def __init__(
        self,
        events=(),
        messages=(),
        outputs=SAVED,
        refusal=None,
        node_errors=None,
        hang=False,
        chatter=False,
        running=False,
        late=0.0,
        page=None,
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events, self.hang, self.chatter, self.running, self.page = events, hang, chatter, running, page
        self.history = {"job": {"outputs": outputs, "status": {"messages": list(messages)}}}
        self.refusal, self.node_errors = refusal, node_errors or {}
        self.posted, self.asked, self.queued = [], [], threading.Event()
        self.ended = time.monotonic() + late
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
        self.server.asked.append(self.path)
        if self.path.startswith("/ws"):
            self.play()
        elif self.path.startswith("/history"):
            self.reply(self.server.history if time.monotonic() >= self.server.ended else {})
        elif self.path == "/queue":
            entries = [[7, "job", {}, {}, []]]
            self.reply({"queue_running": entries * self.server.running, "queue_pending": [[8, "other", {}, {}, []]]})
        elif "subfolder=jointdit&" in self.path:
            self.reply(b"a video")
        else:
            self.reply(self.path.encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, body))
        if self.server.page:
            self.reply(self.server.page)
        elif self.path == "/upload/image":
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
        for event in self.server.events:
            self.send(*event)
        end = time.monotonic() + GIVE_UP
        while self.server.hang and time.monotonic() < end:
            if self.server.chatter:
                self.send("progress", {"prompt_id": "other"})
            time.sleep(0.05)

    def send(self, kind, data):
        text = json.dumps({"type": kind, "data": {"prompt_id": "job"} | data}).encode()
        self.wfile.write(b"\x81\x7e" + struct.pack(">H", len(text)) + text)


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


@pytest.mark.parametrize("chatter", [False, True])
def test_a_job_that_was_deleted_while_it_waited_is_not_waited_for(tmp_path, capsys, monkeypatch, chatter):
    monkeypatch.setattr(client, "QUIET", 0.3)
    assert run(Server(hang=True, chatter=chatter, late=10 * GIVE_UP), tmp_path) == 2
    assert "the job job is gone" in capsys.readouterr().err


def test_a_job_in_the_queue_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "QUIET", 0.1)
    server = Server(hang=True, running=True, late=1.0)
    threading.Timer(1.0, lambda: setattr(server, "running", False)).start()
    assert run(server, tmp_path) == 0
    assert 3 < server.asked.count("/queue") < 20


def test_results_that_come_late_are_asked_for_at_intervals_and_not_for_ever(tmp_path, capsys, monkeypatch):
    late = Server(DONE, running=True, late=1.0)
    assert run(late, tmp_path) == 0
    assert late.asked.count("/history/job") < 12
    monkeypatch.setattr(client, "BUSY", 0.5)
    assert run(Server(DONE, running=True, late=GIVE_UP), tmp_path) == 2
    assert "no result" in capsys.readouterr().err


def test_a_job_that_takes_too_long_is_cancelled(tmp_path, capsys):
    server = Server(
        [("progress", {"node": SAMPLER, "value": 1, "max": 25})], hang=True, running=True, late=10 * GIVE_UP
    )
    assert run(server, tmp_path, "--timeout", "0.5") == 2
    assert "--timeout 0.5: " in capsys.readouterr().err
    assert [path for path, _ in server.posted] == ["/prompt", "/queue", "/interrupt"]
    assert run(server, tmp_path, "--timeout", "0") == 2
    assert "--timeout 0" in capsys.readouterr().err


def test_files_of_one_name_in_several_folders_are_all_kept(tmp_path, capsys):
    places = ["a", "b/c", "../d", "", "a"]
    images = [{"filename": "clip.png", "subfolder": place, "type": "output"} for place in places]
    outputs = SAVED | {"12": {"images": images}, "13": {"images": images[:1]}}
    server, out = Server(DONE, outputs=outputs), tmp_path / "out"
    assert run(server, tmp_path) == 0
    written = [out / name for name in ("clip_00001_.mp4", "a/clip.png", "b/c/clip.png", "d/clip.png", "clip.png")]
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    assert [path.read_text().partition("subfolder=")[2] for path in written[1:]] == [
        f"{place}&type=output" for place in ("a", "b%2Fc", "..%2Fd", "")
    ]
    assert len([path for path in server.asked if path.startswith("/view")]) == 5


@pytest.mark.parametrize("page", [b"<html>", b"[]", b"\xff", b"{}"])
def test_another_kind_of_server_is_told_from_comfyui(tmp_path, capsys, page):
    server = Server(page=page)
    assert run(server, tmp_path) == 2
    assert f"{server.url}/prompt: does not answer as ComfyUI does" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "127.0.0.1:8188", "http://127.0.0.1:port", "http://[::1", "http://", "http://a..b"]
)
def test_a_server_that_is_not_there_is_named(tmp_path, capsys, url):
    assert main(["run-workflow", str(WORKFLOW), "--server", url, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert url in err and err.count("\n") == 1


@pytest.mark.parametrize("text", ['{"nodes": []}', '{"1": {"class_type": "SaveVideo"}}', "[]", "{"])
def test_a_file_that_is_no_workflow_is_refused(tmp_path, capsys, text):
    (tmp_path / "workflow.json").write_text(text)
    assert main(["run-workflow", str(tmp_path / "workflow.json"), "--set", "prompt=rain"]) == 2
    assert f"{tmp_path / 'workflow.json'}: not " in capsys.readouterr().err


def test_bad_files_are_refused_before_anything_is_sent(tmp_path):
    server = Server(DONE)
    assert run(server, tmp_path, "--image", str(tmp_path / "none.jpg")) == 2
    assert run(server, tmp_path, "--set", "colour=red") == 2
    assert run(server, tmp_path, "--video", str(WORKFLOW)) == 2
    assert server.posted == []
