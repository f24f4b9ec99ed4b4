"""`jointdit run-workflow` against a server that wants to harm: one line, in time, and nothing left or overwritten."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hostile_server import (
    JSONS,
    MESSAGES,
    TRANSPORT,
    Behaviour,
    Hostile,
    cut,
    dripping,
    elsewhere,
    endless,
    says,
)

from jointdit.cli import main
from jointdit.comfyui import client, transport

pytest.importorskip("websocket")
WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "image_to_sounding_video.json"


@pytest.fixture(autouse=True)
def short_patience(monkeypatch, tmp_path):
    """All that is waited for takes a second, and the folder to write in is a new one."""
    for module, name, seconds in ((client, "TIMEOUT", 1.0), (client, "BUSY", 1.0), (client, "QUIET", 0.3)):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(transport, "MESSAGE_SECONDS", 1.0)
    monkeypatch.chdir(tmp_path)


def run(server: Hostile, *options: str, workflow: Path = WORKFLOW) -> int:
    return main(["run-workflow", str(workflow), "--server", server.url, "--quiet", *options])


def refused(capsys, server: Hostile, *options: str) -> str:
    """A run that ends with status 2 and one line of printable text, soon, without a file; returns the line."""
    start = time.monotonic()
    assert run(server, *options) == 2
    error = capsys.readouterr().err
    server.shutdown()
    assert time.monotonic() - start < 10
    assert error.startswith("jointdit: error: ") and error.count("\n") == 1 and error.strip().isprintable()
    assert not [path for path in Path().rglob("*") if path.is_file()]
    return error


@pytest.mark.parametrize("behaviour", TRANSPORT, ids=lambda each: each.__name__)
@pytest.mark.parametrize("path", ["/prompt", "/history", "/view"])
def test_replies_that_do_not_end_or_go_elsewhere(path, behaviour, capsys):
    server = Hostile({path: behaviour})
    assert server.url in refused(capsys, server, "--max-seconds", "1", "--max-megabytes", "1")
    assert len([asked for asked in server.asked if asked.startswith(path)]) == 1


@pytest.mark.parametrize("behaviour", MESSAGES, ids=lambda each: each.__name__)
def test_messages_that_do_not_end(behaviour, capsys):
    assert "http://127.0.0.1" in refused(capsys, Hostile({"/ws": behaviour}))


@pytest.mark.parametrize("path", ["/prompt", "/history", "/queue"])
def test_replies_that_are_no_object(path, capsys):
    for body in JSONS:
        server = Hostile({path: body})
        assert f"{server.url}{path}" in refused(capsys, server)


def message(kind: object = "progress", **data: object) -> dict[str, object]:
    return {"type": kind, "data": {"prompt_id": "job"} | data}


@pytest.mark.parametrize(
    ("path", "behaviour"),
    [
        ("/prompt", b'{"prompt_id": 3}'),
        ("/prompt", b'{"prompt_id": null}'),
        ("/prompt", b'{"prompt_id": ""}'),
        ("/prompt", b'{"prompt_id": "' + b"x" * 1000 + b'"}'),
        ("/prompt", b'{"prompt_id": "\\ud800"}'),
        ("/prompt", b'{"prompt_id": "job", "node_errors": 3}'),
        ("/prompt", b'{"prompt_id": "job", "node_errors": {"3": {"errors": [3]}}}'),
        ("/prompt", lambda handler: handler.reply(b'{"error": [], "node_errors": 3}', 400)),
        ("/prompt", lambda handler: handler.reply(b'{"error": {"message": "\\u001b[31m red"}}', 400)),
        ("/prompt", lambda handler: handler.reply(b'{"error', 400)),
        ("/queue", b'{"queue_running": 3}'),
        ("/queue", b'{"queue_pending": [3]}'),
        ("/history", b'{"job": []}'),
        ("/history", b'{"job": {"status": {}, "outputs": {}}}'),
        ("/history", b'{"job": {"status": {"messages": 3}, "outputs": {}}}'),
        ("/history", b'{"job": {"status": {"messages": [["execution_error"]]}, "outputs": {}}}'),
        ("/history", b'{"job": {"status": {"messages": [["execution_error", {"node_id": []}]]}, "outputs": {}}}'),
        ("/history", b'{"job": {"status": {"messages": [["execution_error", {}]]}, "outputs": {}}}'),
        ("/history", b'{"job": {"status": {"messages": []}, "outputs": [1]}}'),
        ("/history", b'{"job": {"status": {"messages": []}, "outputs": {"9": [1]}}}'),
        ("/ws", says(b"{")),
        ("/ws", says([1])),
        ("/ws", says(message(node="4", value="much", max=3))),
        ("/ws", says(message(node="4", value=1e300, max=3))),
        ("/ws", says(b'{"type": "progress", "data": {"prompt_id": "job", "node": "4", "value": NaN}}')),
        ("/ws", says(message(node=[3], value=1, max=3))),
    ],
)
def test_malformed_replies(path: str, behaviour: Behaviour, capsys):
    refused(capsys, Hostile({path: behaviour}))


def file(name: object, subfolder: object = "", kind: object = "output") -> dict[str, object]:
    return {"9": {"images": [{"filename": name, "subfolder": subfolder, "type": kind}]}}


@pytest.mark.parametrize(
    "outputs",
    [
        file("../clip.mp4"),
        file("/etc/clip.mp4"),
        file("C:\\clip.mp4"),
        file("..\\clip.mp4"),
        file(".."),
        file(""),
        file(".profile"),
        file("-rf"),
        file("NUL.mp4"),
        file("com1"),
        file("clip.mp4\0.txt"),
        file("clip\x1b[31m.mp4"),
        file("clip.mp4."),
        file("x" * 300),
        file("\ud800.mp4"),
        file(["clip.mp4"]),
        file("clip.mp4", 3),
        {"9": {"images": [file("clip.mp4", f"{n}")["9"]["images"][0] for n in range(1001)]}},
        {"9": {"images": [file("clip.mp4", place)["9"]["images"][0] for place in ("a", "../a")]}},
        {"9": {"images": [file("clip.mp4", place)["9"]["images"][0] for place in ("a", "nul")]}},
    ],
    ids=lambda outputs: repr(outputs)[:60],
)
def test_names_that_are_more_than_the_name_of_a_file_are_refused(outputs, capsys):
    refused(capsys, Hostile(outputs=outputs))


@pytest.mark.parametrize("text", [3, "abc", [None], [{"a": 1}], [["b"]], {"c": "d"}, ["\x1b[31m red \x07"]])
def test_texts_of_any_shape_are_shown_or_left_out(text, capsys):
    server = Hostile(outputs={"7": {"text": text, "odd": 3, "animated": [True]}, "9": file("clip.mp4")["9"]})
    assert run(server) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_results_go_into_a_new_folder_of_their_own(capsys):
    for number in ("", "-2", "-3"):
        server = Hostile()
        assert run(server) == 0
        path = Path(f"image_to_sounding_video{number}") / "clip.mp4"
        assert capsys.readouterr().out == f"{path}\n" and path.read_bytes() == b"a video"


def test_what_is_there_is_overwritten_only_if_asked(capsys):
    Path("out").mkdir()
    target, kept = Path("out", "clip.mp4"), Path("kept.mp4")
    target.write_bytes(b"mine")
    server = Hostile()
    assert run(server, "--out", "out") == 2
    assert "out/clip.mp4: the file exists; add --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"mine" and not [path for path in server.asked if path.startswith("/view")]
    assert run(server, "--out", "out", "--overwrite") == 0
    assert target.read_bytes() == b"a video"
    target.unlink()
    target.symlink_to(kept.absolute())
    assert run(server, "--out", "out") == 2
    assert not kept.exists() and target.is_symlink()


@pytest.mark.parametrize("behaviour", [endless, dripping, cut, elsewhere], ids=lambda each: each.__name__)
def test_a_file_that_does_not_arrive_whole_leaves_what_was_there(behaviour, capsys):
    Path("out").mkdir()
    Path("out", "clip.mp4").write_bytes(b"mine")
    server = Hostile({"/view": behaviour})
    assert run(server, "--out", "out", "--overwrite", "--max-seconds", "1", "--max-megabytes", "1") == 2
    assert [path.name for path in Path("out").iterdir()] == ["clip.mp4"]
    assert Path("out", "clip.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize("option", ["--max-megabytes", "--max-seconds", "--timeout"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e99", "", "many"])
def test_limits_have_limits(option, value, capsys):
    try:
        assert main(["run-workflow", str(WORKFLOW), option, value]) == 2
    except SystemExit as error:
        assert error.code == 2
    assert option in capsys.readouterr().err


PAGE = {"nodes": [{"id": 1, "type": "A", "inputs": [{"name": "x", "type": "INT", "widget": {}}]}], "links": []}


@pytest.mark.parametrize(
    "workflow",
    [
        {"1": None},
        {"1": {"class_type": 3, "inputs": {}}},
        {"1": {"class_type": "A", "inputs": {}, "_meta": [1]}},
        {"1": {"class_type": "A", "inputs": {}, "_meta": {"title": 3}}},
        {"nodes": [None], "links": []},
        {"nodes": [[]], "links": []},
        {"nodes": [{}], "links": []},
        {"nodes": [{"id": [1], "type": "A"}], "links": []},
        {"nodes": [{"id": 1, "type": {"A": 1}}], "links": []},
        {"nodes": [{"id": 1, "type": "A", "inputs": [None]}], "links": []},
        {"nodes": [{"id": 1, "type": "A", "inputs": [{"name": [1]}]}], "links": []},
        {"nodes": [{"id": 1, "type": "A", "inputs": [{"name": "x", "link": 7}]}], "links": []},
        {"nodes": [{"id": 1, "type": "A", "inputs": [{"name": "x", "link": {}}]}], "links": []},
        {"nodes": [{"id": 1, "type": "A", "widgets_values": {"x": 1}}], "links": []},
        {"nodes": [{"id": 1, "type": "A", "widgets_values": 3}], "links": []},
        {"nodes": [{"id": 1, "type": "A", "title": [3]}], "links": []},
        {"nodes": [{"id": 1, "type": "A", "mode": "muted"}], "links": []},
        {"nodes": [], "links": [None]},
        {"nodes": [], "links": [[]]},
        {"nodes": [], "links": [[{}, {}, {}]]},
        {"nodes": [], "links": [3]},
    ],
    ids=lambda workflow: json.dumps(workflow)[:70],
)
def test_workflows_of_another_shape_are_refused(workflow, capsys, offline):
    Path("odd.json").write_text(json.dumps(workflow))
    assert main(["run-workflow", "odd.json", "--set", "x=1"]) == 2
    error = capsys.readouterr().err
    assert "odd.json: " in error and error.count("\n") == 1 and offline == []


def test_values_of_any_kind_stand_beside_widgets(capsys):
    values = [[1], {"a": None}, None, "fixed", 3]
    page = PAGE | {"nodes": [PAGE["nodes"][0] | {"widgets_values": values, "id": one} for one in ("b", 2, 1)]}
    Path("odd.json").write_text(json.dumps(page))
    assert main(["run-workflow", "odd.json", "--save-api", "api.json"]) == 0
    assert [node["inputs"] for node in json.loads(Path("api.json").read_text()).values()] == [{"x": [1]}] * 3


def test_a_text_without_end_is_not_repeated_in_a_message(capsys):
    assert main(["run-workflow", str(WORKFLOW), "--set", "x" * 70_000]) == 2
    assert len(capsys.readouterr().err) < 2000
