"""What the page asks for: the same clip as the command that it shows, and the same as the graph that it shows."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from comfy_pack import load_pack, nodes

from jointdit.cli import main
from jointdit.cli.generate import SAMPLE
from jointdit.errors import InputError
from jointdit.media import Clip, read_clip, read_image
from jointdit.media.recipe import read_recipe

pytest.importorskip("gradio", reason="no gradio; pip install '.[test]'")
from jointdit.ui.clips import Studio, check, command_line  # noqa: E402
from jointdit.ui.fields import read_texts  # noqa: E402
from jointdit.ui.graph import left_out, workflow  # noqa: E402
from jointdit.ui.results import write  # noqa: E402

load_pack()
from comfy_api.v0_0_2 import InputImpl, Types  # noqa: E402

NODES = nodes()
TEXTS = {"image": str(SAMPLE), "model": "tiny", "prompt": "a hammer strikes", "seed": "3", "steps": "2", "frames": "6"}


@pytest.fixture(scope="module")
def studio():
    return Studio("cpu")


def make(studio, texts, report=lambda step: None):
    return studio.make(read_texts(texts), report)


@pytest.mark.parametrize(
    "more",
    [
        {"guidance": "joint-cfg", "audio-joint-scale": "2.0", "fit": "stretch", "size": "64x96", "gain": "-3"},
        {"frames": "10", "window": "6", "overlap": "2", "steps": "1", "size": "64x64"},
    ],
    ids=["options", "windows"],
)
def test_the_command_that_is_shown_and_the_clip_itself_make_the_clip_of_the_page(studio, tmp_path, more):
    texts, steps = {**TEXTS, **more}, []
    made = write(*make(studio, texts, steps.append), texts, tmp_path)
    assert {step.stage for step in steps} >= {"load", "sample"}
    assert any(step.frames is not None for step in steps), "the clip can be seen while it is made"
    words = shlex.split(made.command)
    assert words[:4] == [sys.executable, "-m", "jointdit", "generate"]
    assert main([*words[3:-1], str(tmp_path / "clip.mp4"), "--quiet"]) == 0
    assert main(["generate", "--like", made.video, "-o", str(tmp_path / "like.mp4"), "--quiet"]) == 0
    ours = read_clip(made.video)
    for path in ("clip.mp4", "like.mp4"):
        theirs = read_clip(tmp_path / path)
        assert np.array_equal(theirs.frames, ours.frames) and np.array_equal(theirs.audio, ours.audio), path
    assert read_recipe(made.video)["prompt"] == "a hammer strikes"


def test_a_model_stays_loaded_until_another_is_asked_for(studio):
    first = studio.pipe(read_texts(TEXTS))
    assert studio.pipe(read_texts({**TEXTS, "seed": "5"})) is first
    assert studio.pipe(read_texts({**TEXTS, "memory": "low"})) is not first


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no picture is there"),
        ({"image": "a.png", "video": "b.mp4"}, "both a picture and a video"),
        ({"video": "b.mp4", "audio": "c.wav"}, "nothing is left to make"),
        ({"image": "a.png", "gain": "1", "loudness": "-20"}, "both a gain and a loudness"),
        ({"image": "a.png", "retake": "0-1"}, "name the clip with --video"),
        ({"image": "a.png", "video-expert": "svd"}, "--audio-expert is missing"),
        ({"image": "a.png", "guidance": "none", "video-scale": "2"}, "guidance mode none has none"),
    ],
)
def test_inputs_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        check(read_texts(given))


def test_a_text_that_begins_with_a_hyphen_is_no_option():
    words = shlex.split(command_line({"prompt": "-o", "gain": "-3", "isolated": "true"}, "a.mp4"))
    assert words[4:] == ["--prompt=-o", "--gain=-3", "--isolated", "-o", "a.mp4"]


def run(graph, number, loaded):
    """What a node of a graph returns, as ComfyUI runs it; `loaded` is what its own loaders return."""
    kind, given = graph[number]["class_type"], graph[number]["inputs"]
    if kind in loaded:
        return loaded[kind]
    links = {name: isinstance(value, list) for name, value in given.items()}
    inputs = {name: run(graph, each[0], loaded)[each[1]] if links[name] else each for name, each in given.items()}
    if kind == "JointDiTJointCFG":  # ComfyUI nests the widgets of a mode
        inner = {name: inputs.pop(name) for name in list(inputs) if name.startswith("mode.")}
        inputs["mode"] = {"mode": inputs["mode"], **{name[5:]: value for name, value in inner.items()}}
    with torch.inference_mode():
        return NODES[kind].execute(**inputs).args


@pytest.mark.parametrize(
    "more",
    [
        {"size": "64x96", "fps": "25/2", "audio-substeps": "2", "noise-augmentation": "0.1", "decode-chunk": "3"},
        {"guidance": "cfg", "audio-scale": "2.0", "guidance-interval": "0:200", "guidance-rescale": "0.5"},
        {"guidance-rescale": "0.5", "fresh-noise": "0.2", "video-temperature": "0.9", "sync": "0.5"},
        {"frames": "10", "window": "6", "overlap": "2", "sampler": "heun", "audio-grid": "even", "reuse": "2"},
        {"reuse": "2", "reuse-layers": "1"},
    ],
    ids=["shape", "guidance", "noise", "windows", "reuse"],
)
def test_the_graph_that_is_shown_makes_the_clip_of_the_page(studio, more):
    texts = {**TEXTS, "size": "64x64", **more}
    assert not left_out(texts)
    clip, maker = make(studio, texts)
    graph = json.loads(workflow(maker.options, {"image": "sample.jpg"}, maker))
    picture = torch.from_numpy(read_image(SAMPLE)[None].astype(np.float32) / 255)
    loaded = {"LoadImage": [picture]}
    (frames,), (sound,) = run(graph, "4", loaded)[0], run(graph, "5", loaded)[0]
    # A pass that ComfyUI's memory takes apart is rounded in another order.
    assert np.abs((frames * 255).round().numpy() - clip.frames.astype(float)).max() <= 1
    np.testing.assert_allclose(sound["waveform"][0].numpy(), clip.audio, atol=2e-3)


def test_a_part_of_a_video_is_made_anew_on_the_page_and_by_its_graph(studio, tmp_path):
    Clip(np.full((20, 32, 32, 3), 99, np.uint8), 12.5, np.zeros((1, 25600), np.float32), 16000).save(tmp_path / "a.mp4")
    texts = {"video": str(tmp_path / "a.mp4"), "retake": "0.4-0.8", "retake-only": "sound", "seed": "1", "steps": "1"}
    clip, maker = make(studio, texts)
    made = write(clip, maker, texts, tmp_path)
    assert len(read_clip(made.video).frames) == 20
    assert "--retake 0.4-0.8" in made.command and "--video a.mp4" in made.command
    given = read_clip(tmp_path / "a.mp4")
    sound = {"waveform": torch.from_numpy(given.audio)[None], "sample_rate": given.sample_rate}
    images = torch.from_numpy(given.frames).float() / 255
    parts = Types.VideoComponents(images=images, frame_rate=given.fps, audio=sound)
    loaded = {"LoadVideo": [InputImpl.VideoFromComponents(parts)]}
    graph = json.loads(Path(made.graph).read_text(encoding="utf-8"))
    again = run(graph, "3", loaded)[0].get_components()
    np.testing.assert_allclose(again.audio["waveform"][0].numpy(), clip.audio, atol=2e-3)
    assert np.abs(clip.audio).max() > 0 and left_out(texts | {"reuse": "2"}) == ["reuse"]


def test_what_the_graph_gives_is_what_the_nodes_take(studio):
    maker = make(studio, {**TEXTS, "steps": "1", "frames": "4", "size": "32x32", "guidance": "joint-cfg"})[1]
    files = {"image": "a.png", "audio": "a.wav"}
    options = {**maker.options, "audio": Path("a.wav")}
    video = {**maker.options, "image": (), "video": Path("a.mp4"), "frames": 4}
    for given, names in ((options, files), (video, {"video": "a.mp4"})):
        graph = json.loads(workflow(given, names, maker))
        for node in graph.values():
            for value in node["inputs"].values():
                assert not isinstance(value, list) or value[0] in graph
            if node["class_type"] in NODES:
                schema = NODES[node["class_type"]].define_schema()
                known = {each.id: each for each in schema.inputs}
                assert {name.partition(".")[0] for name in node["inputs"]} <= known.keys()
                needed = {name for name, each in known.items() if not each.optional}
                assert needed <= node["inputs"].keys() | {"precision"}
    assert "GetVideoComponents" in {node["class_type"] for node in graph.values()}, "its frames stay as they are"


def test_the_graph_loads_experts_in_eight_bits_where_that_is_asked(studio):
    texts = {**TEXTS, "steps": "1", "frames": "4", "size": "32x32"}
    maker = make(studio, texts)[1]
    experts = {"video_expert": Path("there/svd"), "audio_expert": Path("there/audioldm2")}
    inputs = {each.id: each for each in NODES["JointDiTLoadExperts"].define_schema().inputs}
    for asked in (False, True):
        graph = json.loads(workflow({**maker.options, **experts, "float8": asked}, {"image": "a.png"}, maker))
        assert graph["1"]["class_type"] == "JointDiTLoadExperts" and graph["1"]["inputs"].keys() <= inputs.keys()
        assert graph["1"]["inputs"]["weights"] == inputs["weights"].options[asked]
    assert left_out({"float8": "true"}) == ["float8"] and not left_out({"float8": "true", "video-expert": "there/svd"})


def test_what_no_node_has_is_said(studio, tmp_path):
    texts = {**TEXTS, "steps": "1", "frames": "4", "size": "32x32", "isolated": "true", "gain": "1"}
    said = write(*make(studio, texts), texts, tmp_path).said
    assert "leaves out isolated, gain" in said
