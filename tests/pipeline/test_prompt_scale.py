"""The prompt's scale in the pipeline: what it guides away from, where it acts, and what it leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import SHAPE, seeded, write_experts

from jointdit import JointCFG, JointDiTPipeline
from jointdit.models.joint_start import start_joint_blocks


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    pipe = JointDiTPipeline.from_experts(*write_experts(tmp_path_factory.mktemp("experts")))
    start_joint_blocks(pipe.joint_blocks, gate=0.5)  # else no prompt reaches the video
    return pipe


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def run(pipe, picture, scale, **options):
    guidance = JointCFG("cfg", video_scale=1, audio_scale=1, video_prompt_scale=scale)
    given = {"prompt": "a ball", "steps": 2, "generator": seeded(), "guidance": guidance} | SHAPE | options
    return pipe(picture, **given)


def test_the_other_side_of_the_prompt_keeps_the_picture(pipe, picture):
    shape = pipe.shape(**SHAPE)
    found = pipe.condition([picture] * 2, ["a ball bounces", None], ["noise", None], shape, seeded())
    for name in ("image_latents", "video_embeds", "context_image"):
        assert torch.equal(getattr(found.pictured, name), getattr(found.conditional, name))
    assert torch.equal(found.pictured.audio_embeds, found.unconditional.audio_embeds)
    assert not torch.equal(found.pictured.audio_embeds[0], found.conditional.audio_embeds[0])
    assert pipe.condition([picture], [None], [" "], shape, seeded()).pictured is None
    assert torch.equal(found.repeated(2).pictured.fps, found.pictured.fps.repeat(2))


def test_it_changes_the_video_of_clips_that_have_a_prompt_alone(pipe, picture):
    plain, scaled = run(pipe, picture, 1), run(pipe, picture, 4)
    assert not np.array_equal(plain.frames, scaled.frames)
    silent, same = (run(pipe, picture, scale, prompt=None) for scale in (1, 4))
    assert np.array_equal(silent.frames, same.frames) and np.array_equal(silent.audio, same.audio)
    generators = [seeded(), seeded()]
    both = run(pipe, [picture] * 2, 4, prompt=["a ball", None], generator=generators)
    for clip, alone in zip(both, (scaled, silent), strict=True):
        assert np.abs(clip.frames.astype(int) - alone.frames).max() <= 1


def test_a_models_own_interval_is_read_from_its_file(pipe, picture, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    own = JointCFG("joint-cfg", video_joint_scale=1, audio_joint_scale=1, video_prompt_scale=4)
    index["defaults"]["guidance"] = {"mode": "joint-cfg", "video_joint_scale": 1, "audio_joint_scale": 1} | {
        "video_prompt_scale": 4,
        "prompt_interval": [1e-4, 1e-3],
    }
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    model = JointDiTPipeline.from_pretrained(tmp_path / "model")
    assert {model.guidance} == {replace(own, prompt_interval=(1e-4, 1e-3))}
    beyond = model(picture, prompt="a ball", steps=2, generator=seeded(), **SHAPE)
    assert np.array_equal(beyond.frames, run(model, picture, 1).frames), "no level lies in it"
