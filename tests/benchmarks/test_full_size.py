"""The benchmark of the real experts' size: its counts are those known of them, and its parts run at small size."""

from __future__ import annotations

import json
import sys

import full_size
import pytest
from full_size import LARGE, SIZES, SMALL, Operations


@pytest.fixture(scope="module")
def count():
    return Operations(SIZES["full"])


@pytest.mark.parametrize(("shape", "known"), [(SMALL, 12.14), (LARGE, 79.95)])
def test_operations_of_the_experts_are_the_known_ones(count, shape, known):
    video, audio = count.diffusers(shape, rows=1)
    assert video == pytest.approx(known, abs=0.01)
    assert 0.02 < audio < 0.07


def test_a_step_of_joint_cfg_takes_fewer_operations_than_the_two_pipelines(count):
    theirs = sum(count.diffusers(SMALL, rows=2))
    step = count.joint(SMALL, "joint-cfg")
    assert 0.9 < step["whole"] / theirs < 1
    assert step["Joint Blocks"] < 0.02 * step["whole"]
    blocks = sum(flops for name, flops in step.items() if name != "whole")
    assert blocks == pytest.approx(step["whole"], rel=0.01), "the split leaves nothing of weight out"


def test_a_step_that_reuses_takes_in_and_the_last_up_block(count):
    step = count.joint(SMALL, "joint-cfg")
    audio = sum(flops for name, flops in step.items() if name.startswith("audio"))
    again = count.reused(SMALL, "joint-cfg")
    assert again == pytest.approx(step["video In"] + step["video up 3"] + audio, rel=0.02)
    assert again < 0.36 * step["whole"]


def test_a_step_that_reuses_with_fewer_layers_takes_those_and_their_skips_alone(count):
    layers, step = count.outer_layers(SMALL), count.joint(SMALL, "none")
    audio = sum(flops for name, flops in step.items() if name.startswith("audio"))
    ends = layers["conv_in"] + layers["norm and conv_out"]
    last = count.reused(SMALL, "none", 1)
    assert last == pytest.approx(ends + layers["up 3, layer 2"] + audio, rel=0.02)
    two = count.reused(SMALL, "none", 2)
    assert two - last == pytest.approx(layers["down 0, layer 0"] + layers["up 3, layer 1"], rel=0.001)


@pytest.mark.parametrize(("shape", "from_seconds"), [(LARGE, 4), (SMALL, 16)])
def test_a_second_of_a_long_clip_takes_as_many_windows_whatever_its_length(shape, from_seconds):
    rates = {seconds: full_size.windows_of(shape, seconds) / seconds for seconds in full_size.LENGTHS}
    assert max(rates.values()) == pytest.approx(rates[60], rel=0.01), "none is dearer than in the longest"
    assert min(rate for seconds, rate in rates.items() if seconds >= from_seconds) > rates[60] / 1.05


def test_every_part_that_runs_runs_at_small_size(tmp_path, monkeypatch):
    path = tmp_path / "log.json"
    parts = ["steps", "split", "memory", "training"]
    arguments = ["--device", "cpu", "--size", "small", "--steps", "2", "--parts", *parts, "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["full_size.py", *arguments])
    full_size.main()
    log = json.loads(path.read_text())
    assert set(parts) < set(log) and "small model" in log["what"]
    assert log["steps"]["joint-cfg"]["ratio to diffusers"] > 0 and log["steps"]["joint-cfg"]["peak memory GB"] is None
    assert set(log["steps"]["joint-cfg with reuse"]) == {"every 2", "every 3", "every 4"}
    assert log["training"]["stage b"]["clips per second"] > 0
