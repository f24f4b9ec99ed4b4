"""What Joint Blocks gain: nothing at the identity, something in the bundled model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jointdit import JointDiTPipeline
from jointdit.cli import main
from jointdit.train.cache import LatentCache
from jointdit.train.engine import Engine
from jointdit.train.gain import Gain
from jointdit.train.precision import make_accelerator
from jointdit.train.stages import TEMPLATES, read_config


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> LatentCache:
    """Six scenes, as the bundled model has learned them."""
    folder = tmp_path_factory.mktemp("scenes")
    assert main(["synth", str(folder / "clips"), "--clips", "6", "--seed", "800000000", "--quiet"]) == 0
    assert main(["cache", str(folder / "clips"), str(folder / "cache"), "--layout", "synth", "--quiet"]) == 0
    return LatentCache(folder / "cache")


def gain(cache: LatentCache, output: Path, joint: str) -> Gain:
    options = {"cache": str(cache.folder), "output": str(output), "samples": 0, "tensorboard": False, "held_out": 5}
    options |= {"precision": "float32", "joint": joint, "batch": 1}
    config = read_config(TEMPLATES["a"], {name: json.dumps(value) for name, value in options.items()})
    pipe = JointDiTPipeline.from_pretrained("tiny", joint=joint or None)
    engine = Engine(pipe, cache, config, make_accelerator(cpu=True))
    engine.model.eval()
    return engine.validation.gain(config.steps, 5)


def test_joint_blocks_that_have_learned_gain_and_those_at_the_identity_do_not(cache, tmp_path, caplog):
    learned = gain(cache, tmp_path / "own", "")
    assert learned.of("audio")[0] > 0.15 and not learned.nothing and not caplog.records
    numbers = learned.numbers
    assert numbers["audio_joint_0.85"] < numbers["audio_isolated_0.85"]
    identity = gain(cache, tmp_path / "identity", "identity")
    torch.testing.assert_close(identity.errors["audio"][..., 0], identity.errors["audio"][..., 1])
    assert identity.mean == pytest.approx(0, abs=1e-5) and identity.nothing
    assert "gains nothing from its picture" in caplog.text


def test_each_level_counts_the_same():
    errors = torch.tensor([[[1.0, 2.0], [100.0, 100.0]], [[1.0, 2.0], [100.0, 100.0]]])
    assert Gain({"audio": errors}).of("audio") == (0.25, 0.0)
    assert replace(Gain({"audio": errors}), errors={"audio": errors[:1]}).nothing, "one clip proves nothing"
