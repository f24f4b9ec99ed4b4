"""How to sample: one object for every caller, checked once, with the model's own where nothing is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import SHAPE, seeded, write_experts

from jointdit import InputError, JointCFG, JointDiTPipeline, Reuse, SamplingSettings, SyncGuidance
from jointdit.diffusion.schedules import resample
from jointdit.media import Clip
from jointdit.pipeline import Defaults


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return JointDiTPipeline.from_experts(*write_experts(tmp_path_factory.mktemp("experts")))


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps 0: give at least 1"),
        ({"steps": 2, "sigmas": torch.tensor([3.0, 1.0, 0.0])}, "steps 2 and sigmas are both given"),
        ({"sampler": "magic"}, "sampler 'magic': give one of euler, heun, dpmpp_2m, lcm"),
        ({"audio_grid": "odd"}, "audio grid 'odd': give one of even, coupled, trailing"),
        ({"audio_substeps": 0}, "audio sub-steps 0"),
        ({"video_temperature": -0.1}, "video_temperature -0.1: give a number from 0 to 2"),
        ({"video_temperature": float("nan")}, "video_temperature nan"),
        ({"fresh_noise": 1.5}, "fresh_noise 1.5: give a number from 0"),
        ({"fresh_noise": 0.5, "sampler": "lcm"}, "fresh_noise 0.5: the sampler lcm replaces all noise"),
    ],
)
def test_a_value_out_of_range_is_refused_before_a_model_is_there(given, message):
    with pytest.raises(InputError, match=message):
        SamplingSettings(**given)
    with pytest.raises(InputError, match=message):
        SamplingSettings().changed(**given)


def test_where_nothing_is_asked_the_grid_is_the_models_own(pipe):
    clock = pipe.clock
    own = Defaults(steps=3, sigmas=[9.0, 3.0, 1.0, 0.0], audio_start=700.0, audio_substeps=2)
    grid = SamplingSettings().grid(own, clock)
    assert grid.video_sigmas.tolist() == own.sigmas and grid.substeps == 2 and grid.audio_timesteps[0] == 700
    assert SamplingSettings(sigmas=[5.0, 0.0]).grid(own, clock).video_sigmas.tolist() == [5, 0]
    asked = SamplingSettings(steps=5, audio_grid="even", audio_substeps=1).grid(own, clock)
    assert (asked.steps, asked.substeps) == (5, 1) and asked.audio_timesteps[0] != 700
    assert torch.equal(asked.video_sigmas, resample(torch.tensor(own.sigmas), 5).double())
    assert torch.equal(SamplingSettings(steps=5).grid(Defaults(), clock).video_sigmas, clock.grid(5).video_sigmas)


def test_a_consistency_model_takes_few_video_steps_and_as_many_audio_steps_as_ever(pipe):
    clock = pipe.clock
    for own in (Defaults(), Defaults(steps=13, sigmas=[9.0, 3.0, 0.0], audio_substeps=2)):
        grid = SamplingSettings(sampler="lcm").grid(own, clock)
        assert grid.steps == 4 and torch.equal(grid.video_sigmas, clock.consistency_sigmas(4))
        audio = own.steps * own.audio_substeps
        assert audio <= grid.steps * grid.substeps < audio + 4
        assert SamplingSettings(sampler="lcm", steps=8, audio_substeps=1).grid(own, clock).substeps == 1
    assert SamplingSettings(sampler="lcm", sigmas=[5.0, 0.0]).grid(Defaults(), clock).video_sigmas.tolist() == [5, 0]


@pytest.mark.parametrize("start", [5000, 1000, 0, -3, float("nan")])
@pytest.mark.parametrize("kind", ["even", "trailing"])
def test_an_audio_grid_starts_within_the_table(pipe, kind, start):
    with pytest.raises(InputError, match=f"audio_start {start}: give a timestep above 0 and at most 999"):
        SamplingSettings().grid(Defaults(audio_start=start, audio_grid=kind), pipe.clock)


def test_settings_and_single_keywords_make_the_same_clip(pipe, picture):
    fields = {
        "steps": 16,  # fewer are too long for the second order
        "sampler": "dpmpp_2m",
        "guidance": JointCFG(mode="cfg", video_scale=2.0, audio_scale=2.0),
        "audio_grid": "trailing",
        "audio_substeps": 2,
        "video_temperature": 0.5,
        "fresh_noise": 0.5,
        "isolated": True,
        "sync": SyncGuidance(0.5),
        "reuse": Reuse(2, layers=1),
    }
    one_by_one = pipe(picture, generator=seeded(), **fields, **SHAPE)
    at_once = pipe(picture, settings=SamplingSettings(**fields), generator=seeded(), **SHAPE)
    won = pipe(picture, settings=SamplingSettings(**fields | {"steps": 5}), steps=16, generator=seeded(), **SHAPE)
    for clip in (at_once, won):
        assert np.array_equal(clip.frames, one_by_one.frames) and np.array_equal(clip.audio, one_by_one.audio)
    for name in fields:
        other = {key: value for key, value in fields.items() if key != name} | {"steps": 3 if name == "steps" else 16}
        clip = pipe(picture, settings=SamplingSettings(**other), generator=seeded(), **SHAPE)
        if name != "isolated":  # untrained Joint Blocks do nothing
            same = np.array_equal(clip.frames, one_by_one.frames) and np.array_equal(clip.audio, one_by_one.audio)
            assert not same, name


@pytest.mark.parametrize("pictures", [1, 2])
def test_one_seed_makes_one_clip_at_once_or_in_two_steps(pipe, picture, pictures):
    images = [picture] * pictures
    clips = pipe(images, steps=2, generator=seeded(5), **SHAPE)
    conditions = pipe.condition(images, [None] * pictures, [None] * pictures, pipe.shape(**SHAPE), seeded(5))
    for _ in range(2):  # conditions may be sampled from again
        latents = pipe.sample(conditions, SamplingSettings(steps=2), generator=conditions.generator(5))
        frames, sounds = pipe.decode_video(latents.video), pipe.decode_audio(latents.audio, conditions.shape)
        assert all(np.array_equal(*pair) for pair in zip(frames, [clip.frames for clip in clips], strict=True))
        assert all(np.array_equal(*pair) for pair in zip(sounds, [clip.audio for clip in clips], strict=True))


def test_the_first_report_knows_how_many_steps_there_are(pipe, monkeypatch):
    """Of a trailing grid, a given video needs those alone in which the audio moves."""
    own = replace(pipe.defaults, sigmas=[90.0, 30.0, 3.0, 0.5, 0.0], audio_grid="trailing", steps=4)
    monkeypatch.setattr(pipe, "defaults", own)
    frames, stages = np.zeros((4, 40, 48, 3), np.uint8), []
    video = Clip(frames, 8, np.zeros((1, 0), np.float32), 16000)
    pipe(video=video, callback=lambda *stage: stages.append(stage), **SHAPE)
    assert stages == [("sample", 0, 1), ("sample", 1, 1)]
