"""What the page asks for: the same clip as the command that it shows, and the same graph as the shipped workflow."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from jointdit.cli import main
from jointdit.cli.generate import SAMPLE
from jointdit.errors import InputError
from jointdit.media import read_clip
from jointdit.ui.clips import Studio, check_files, command_line, workflow
from jointdit.ui.work import Step

ROOT = Path(__file__).parents[2]
OPTIONS = {"image": str(SAMPLE), "model": "tiny", "prompt": "a hammer strikes", "seed": 3, "steps": 2, "frames": 6}


@pytest.fixture(scope="module")
def studio():
    return Studio("cpu")


def test_the_command_that_is_shown_makes_the_clip_of_the_page(studio, tmp_path):
    options = {**OPTIONS, "guidance": "joint-cfg", "joint_scale": 2.0, "fit": "stretch", "size": (64, 96)}
    steps: list[Step] = []
    clip = studio.make(options, steps.append)
    assert clip.frames.shape == (6, 96, 64, 3)
    assert {step.stage for step in steps} >= {"load", "sample", "decode"}
    assert any(step.frames is not None for step in steps), "the clip can be seen while it is made"
    words = shlex.split(command_line(options, {"image": str(SAMPLE)}, str(tmp_path / "clip.mp4")))
    assert words[:4] == [sys.executable, "-m", "jointdit", "generate"]
    assert main([*words[3:], "--quiet"]) == 0
    clip.save(tmp_path / "page.mp4")
    assert np.array_equal(read_clip(tmp_path / "clip.mp4").frames, read_clip(tmp_path / "page.mp4").frames)


def test_a_model_stays_loaded_until_another_is_asked_for(studio):
    first = studio.pipe(OPTIONS)
    assert studio.pipe({**OPTIONS, "seed": 5}) is first
    assert studio.pipe({**OPTIONS, "memory": "low"}) is not first


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no picture is there"),
        ({"image": "a.png", "video": "b.mp4"}, "both a picture and a video"),
        ({"video": "b.mp4", "audio": "c.wav"}, "nothing is left to make"),
    ],
)
def test_inputs_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        check_files(given)


def test_the_graph_is_that_of_the_shipped_workflow_with_what_was_asked():
    graph = json.loads(workflow(OPTIONS, {"image": "photo.jpg"}))
    shipped = json.loads((ROOT / "workflows" / "api" / "image_to_sounding_video.json").read_text())
    ours, theirs = ({node["class_type"]: node["inputs"] for node in each.values()} for each in (graph, shipped))
    assert ours.keys() == theirs.keys()
    for kind, inputs in ours.items():
        assert inputs.keys() <= theirs[kind].keys(), kind
    assert ours["JointDiTSample"]["seed"] == ours["JointDiTCondition"]["picture_seed"] == 3
    assert ours["LoadImage"] == {"image": "photo.jpg"} and ours["JointDiTCondition"]["prompt"] == "a hammer strikes"
