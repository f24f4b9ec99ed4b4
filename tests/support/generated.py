"""Strategies of Hypothesis for what comes from outside: mutants of good input, and what it must not do to us."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

import damage
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import joint_blocks

from jointdit.checked import read_object
from jointdit.checkpoints.components import COMPONENTS
from jointdit.checkpoints.folders import BUNDLED, load_component, read_index
from jointdit.checkpoints.joint_files import joint_block_settings, load_joint_blocks, save_joint_blocks
from jointdit.cli.generate import OPTIONS
from jointdit.cli.options import read_config as read_options_file
from jointdit.comfyui.workflow import read_workflow, set_input
from jointdit.errors import InputError
from jointdit.train.stages import TEMPLATES, read_config

TINY = BUNDLED["tiny"]
WORKFLOWS = sorted((Path(__file__).parents[2] / "workflows").rglob("*.json"))
SECONDS = 60.0  # that a case may take on a busy machine

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2, 10**6, 10**9, 2**63, 10**30, -(10**9), 1e99, 1e-99, 0.5, float("nan"), float("inf")]),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "tiny", "some/model", "../..", "\0", "\x1b[31m", "\ud800", "x" * 70_000, "NaN", "1", "é"]),
    st.text(max_size=8),
    st.sampled_from([[], {}, [None], [[]], [{}], {"a": {}}, [1] * 2000, ["a", "b", "c"]]),
)
ENDS = st.sampled_from([b"", b"[" * 100_000, b'{"a":' * 1000, b"\xff\xfe", b"null", b"[]", b'"some/model"', b"{", b"3"])


@st.composite
def mutants(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with up to three of its parts, at any depth, replaced, left out, doubled or new."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        inner = value
        while isinstance(inner, dict | list) and inner:
            keys = sorted(inner) if isinstance(inner, dict) else list(range(len(inner)))
            key = draw(st.sampled_from(keys))
            if not isinstance(inner[key], dict | list) or not inner[key] or draw(st.booleans()):
                kind = draw(st.sampled_from(["replace", "replace", "leave out", "new"]))
                if kind == "leave out":
                    del inner[key]
                else:
                    place = draw(st.text(max_size=4)) if kind == "new" and isinstance(inner, dict) else key
                    inner[place] = deepcopy(draw(ODD))  # which the next change may change inside
                break
            inner = inner[key]
    return value


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file that was cut, or in which bytes are others."""
    cut = st.integers(0, len(content)).map(lambda end: content[:end])
    flips = st.lists(
        st.tuples(st.integers(0, min(len(content) - 1, 5000)), st.integers(0, 255)), min_size=1, max_size=4
    )

    def flipped(changes: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content)
        for place, byte in changes:
            changed[place] = byte
        return bytes(changed)

    return cut | flips.map(flipped)


def mutated_text(value: Any) -> st.SearchStrategy[bytes]:
    """A JSON file, mutated as a value or as bytes."""
    return mutants(value).map(as_json) | ENDS | damaged(as_json(value))


def fails_well(run: Callable[[], object]) -> None:
    """Runs; raises AssertionError unless it comes back in time, with a result or with InputError in one line."""
    start = time.monotonic()
    try:
        run()
    except InputError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 5000, text
        text.encode()
    assert time.monotonic() - start < SECONDS


@st.composite
def model_folders(draw: st.DrawFn, folder: Path) -> Callable[[], object]:
    """One component of a copy of the bundled model, or its index, with one file mutated."""
    name = draw(st.sampled_from(sorted(each.name for each in TINY.iterdir() if each.is_dir()) + ["index"]))
    place = folder / name
    shutil.rmtree(place, ignore_errors=True)
    if name == "index":
        place.mkdir(parents=True)
        own = json.loads((TINY / "model_index.json").read_text())
        (place / "model_index.json").write_bytes(draw(mutated_text(own)))
        return lambda: _whole(place)
    shutil.copytree(TINY / name, place)
    path = place / draw(st.sampled_from(sorted(each.name for each in place.iterdir())))
    content = path.read_bytes()
    small = path.suffix == ".json" and len(content) < 20_000
    path.write_bytes(draw(mutated_text(json.loads(content)) if small else damaged(content)))
    cls = COMPONENTS[name].load_class(COMPONENTS[name].names[0])
    return lambda: load_component(cls, place, torch.float32)


def _whole(folder: Path) -> None:
    """Reads an index as `from_pretrained` does; its components are those of the bundled model."""
    from jointdit import JointDiTPipeline

    read_index(folder)
    for name in COMPONENTS:
        if (TINY / name).is_dir() and not (folder / name).exists():
            (folder / name).symlink_to(TINY / name)
    JointDiTPipeline.from_pretrained(folder)


@cache
def _good_joint_file() -> tuple[bytes, dict[str, Any]]:
    """A Joint Block file, the same bytes each time, and its settings."""
    blocks = joint_blocks()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "joint.safetensors")
        save_joint_blocks(blocks, path)
        return path.read_bytes(), joint_block_settings(blocks)


@st.composite
def joint_files(draw: st.DrawFn, folder: Path) -> Callable[[], object]:
    """A Joint Block file with other settings, or with other bytes."""
    path = folder / "joint.safetensors"
    content, settings = _good_joint_file()
    path.write_bytes(content)
    if draw(st.booleans()):
        path.write_bytes(draw(damaged(content)))
    else:
        text = draw(mutated_text(settings)).decode("utf-8", "replace")
        save_file(load_file(path), path, metadata={"class": "JointBlocks", "config": text})
    return lambda: load_joint_blocks(path)


TOML_VALUES = st.sampled_from(
    ["0", "-1", "1e99", "nan", "-inf", "inf", "true", '""', '"a"', "[]", "{}", "[[[]]]", "{a.b = 1}", "0x" + "f" * 5000]
    + ["1979-05-27", "'\u00e9'", "9" * 5000, "[" * 5000, '"' + "x" * 70_000 + '"', "0.5", "10", "1_000_000_000_000"]
)


@st.composite
def toml_files(draw: st.DrawFn, folder: Path) -> Callable[[], object]:
    """A training's or a clip's TOML file with other values."""
    path = folder / "options.toml"
    training = draw(st.booleans())
    if training:
        lines = TEMPLATES[draw(st.sampled_from(["a", "b"]))].read_text().splitlines()
    else:
        lines = ['prompt = "rain"', "steps = 3", 'size = "64x64"', "fps = 12.5", 'model = "tiny"', "joint-scale = 2"]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        key = lines[at].partition("=")[0].strip() or "steps"
        key = draw(
            st.sampled_from([key, key, key, "colour", "a." * 3000 + "b", '"\\u0000"', *(each.name for each in OPTIONS)])
        )
        lines[at] = f"{key} = {draw(TOML_VALUES)}"
    path.write_bytes(draw(st.just("\n".join(lines).encode()) | damaged("\n".join(lines).encode())))
    return lambda: read_config(path) if training else read_options_file(path, OPTIONS)


@st.composite
def workflows(draw: st.DrawFn, folder: Path) -> Callable[[], object]:
    """A shipped workflow, in either format, with parts of it mutated; then a value of it is set."""
    path = folder / "workflow.json"
    path.write_bytes(draw(mutated_text(read_object(draw(st.sampled_from(WORKFLOWS))))))
    assignment = draw(st.sampled_from(["prompt=rain", "steps=nan", "steps=3", "5.seed=7", "x", "=", "." * 300]))

    def run() -> None:
        graph = read_workflow(path)
        set_input(graph, assignment)
        json.dumps(graph)

    return run


@st.composite
def replies(draw: st.DrawFn, folder: Path) -> Callable[[], object]:
    """A server one of whose replies is mutated, and a run against it."""
    from hostile_server import DONE, SAVED, Hostile

    from jointdit.comfyui.client import ComfyClient, Limits

    history = {"job": {"outputs": SAVED | {"7": {"text": ["seen"]}}, "status": {"messages": [["execution_start", {}]]}}}
    queue = {"queue_running": [[1, "other"]], "queue_pending": []}
    path = draw(st.sampled_from(["/prompt", "/history", "/queue", "/ws"]))
    progress = {"type": "progress", "data": {"prompt_id": "job", "node": "4", "value": 1, "max": 3}}
    good = {"/prompt": {"prompt_id": "job", "node_errors": {}}, "/history": history, "/queue": queue, "/ws": progress}
    body = draw(mutated_text(good[path]))[:60_000]

    def play(handler: Any) -> None:
        handler.upgrade()
        handler.message(body)
        handler.message(json.dumps(DONE).encode())

    def run() -> None:
        graph = {"4": {"class_type": "JointDiTSample", "inputs": {}}}
        server = Hostile({path: play if path == "/ws" else body})
        try:
            client = ComfyClient(server.url, Limits(1, 1))
            outputs, _ = client.run(graph, lambda *progress: None)
            client.download(outputs, folder / "out", overwrite=True)
        finally:
            server.shutdown()
            server.server_close()

    return run


KINDS = {
    "model folders": model_folders,
    "Joint Block files": joint_files,
    "TOML files": toml_files,
    "workflows": workflows,
    "replies": replies,
}


@st.composite
def media_files(draw: st.DrawFn, folder: Path, kind: str) -> Callable[[], object]:
    """A damaged picture, sound or video."""
    name, content = draw(damage.damaged(_corpus()[kind]))
    path = folder / f"a.{name}"
    path.write_bytes(content)
    return lambda: damage.read(kind, path)


@cache
def _corpus() -> dict[str, dict[str, bytes]]:
    return damage.corpus()


# Which have tests of their own, in tests/media.
MEDIA = {f"{kind}s": partial(media_files, kind=kind) for kind in ("picture", "sound", "video")}
