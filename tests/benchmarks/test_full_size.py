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


def test_a_step_that_reuses_takes_the_last_layers_and_what_they_take_of_in(count):
    step, ends = count.joint(SMALL, "joint-cfg"), count.outer_layers(SMALL)
    audio = sum(flops for name, flops in step.items() if name.startswith("audio"))
    again = [count.reused(SMALL, "joint-cfg", layers) for layers in (1, 2, 3)]
    for layers, found in enumerate(again, 1):
        video = ends["conv_in"] + ends["norm and conv_out"]
        video += sum(ends[f"down 0, layer {layer}"] for layer in range(layers - 1))
        video += sum(ends[f"up 3, layer {layer}"] for layer in range(3 - layers, 3))
        assert found["whole"] == pytest.approx(2 * video + audio, rel=0.02)
        assert sum(flops for name, flops in found.items() if "down" in name and "video" in name) == 0
    assert ends["down 0, downsampler"] + ends["conv_in"] < 0.02 * step["video In"]
    assert full_size.clip_of(step["whole"], again[0]["whole"], 2) < 0.55 * sum(count.diffusers(SMALL, rows=2))


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
