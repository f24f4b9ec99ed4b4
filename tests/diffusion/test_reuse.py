"""Reuse between steps: exact where nothing changed, as rare as asked, and the audio expert never rests."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gaussian_model import clock
from tiny_models import LATENT, conditioning, joint_model

from jointdit.diffusion.denoiser import JointDenoiser, Pass
from jointdit.diffusion.guidance import GuidedDenoiser, JointCFG
from jointdit.diffusion.reuse import Reuse
from jointdit.diffusion.samplers import euler, heun
from jointdit.errors import InputError
from jointdit.latents import JointLatents

LEVELS = [
    clock().levels(torch.tensor([sigma], dtype=torch.float64), torch.tensor([timestep], dtype=torch.float64))
    for sigma, timestep in ((3.0, 700), (1.5, 400), (0.5, 200))
]


def noise(seed: int = 0) -> JointLatents:
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, 3, LATENT, 8, 8), (2, LATENT, 12, 16)
    return JointLatents(*(torch.randn(shape, generator=generator) for shape in shapes))


@pytest.fixture(scope="module")
def model():
    return joint_model(open_gates=True)


class Calls:
    """How often the middle and the last block of the video, and the middle of the audio, are called."""

    def __init__(self, model) -> None:
        self.found = {"middle": 0, "last": 0, "audio": 0}
        parts = (model.video_unet.mid_block, model.video_unet.up_blocks[-1], model.audio_unet.mid_block)
        self.hooks = [
            part.register_forward_hook(self.counter(name)) for name, part in zip(self.found, parts, strict=True)
        ]

    def counter(self, name):
        def count(*_) -> None:
            self.found[name] += 1

        return count

    def __enter__(self):
        return self.found

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()


def passes():
    cond = conditioning(2)
    return [Pass(cond), Pass(conditioning(2, seed=9)), Pass(cond, isolated=True)]


def equal(ours: list[JointLatents], theirs: list[JointLatents]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(a.video, b.video) and torch.equal(a.audio, b.audio) for a, b in pairs)


@torch.no_grad()
def test_every_evaluation_in_full_is_the_plain_denoiser_bit_for_bit(model):
    plain, ours, asked = JointDenoiser(model, clock()), JointDenoiser(model, clock(), reuse=Reuse(1)), passes()
    for level in LEVELS:
        assert equal(ours.denoise(noise(), level, asked)[0], plain.denoise(noise(), level, asked)[0])


@pytest.mark.parametrize("max_batch", [None, 1, 4])
@torch.no_grad()
def test_an_evaluation_of_the_same_input_reuses_without_an_error(model, max_batch):
    """Also in a split batch, with isolated passes, and for the audio's sub-steps."""
    joint, asked = JointDenoiser(model, clock(), max_batch, Reuse(3)), passes()
    full, full_again = joint.denoise(noise(), LEVELS[1], asked, keep=True)
    with Calls(model) as calls:
        reused, reused_again = joint.denoise(noise(), LEVELS[1], asked, keep=True)
    assert calls["middle"] == 0 < calls["last"] == calls["audio"]
    for ours, theirs in zip(reused, full, strict=True):
        assert torch.equal(ours.video, theirs.video)
        torch.testing.assert_close(ours.audio, theirs.audio, atol=1e-5, rtol=1e-5)
    sound = noise(seed=5).audio
    assert all(map(torch.equal, reused_again(sound, LEVELS[2]), full_again(sound, LEVELS[2])))


@torch.no_grad()
def test_a_reused_evaluation_sees_the_new_input_of_both_and_the_old_depth_of_the_video(model):
    asked = [Pass(conditioning(2))]
    joint = JointDenoiser(model, clock(), reuse=Reuse(2))
    joint.denoise(noise(), LEVELS[0], asked)
    x = noise(seed=1)
    reused, true = (each.denoise(x, LEVELS[1], asked)[0][0] for each in (joint, JointDenoiser(model, clock())))
    other = JointDenoiser(model, clock(), reuse=Reuse(2))
    other.denoise(noise(seed=3), LEVELS[0], asked)
    elsewhere = other.denoise(x, LEVELS[1], asked)[0][0]
    for name in ("video", "audio"):
        errors = [(getattr(each, name) - getattr(true, name)).abs().max() for each in (reused, elsewhere)]
        assert min(errors) > 1e-4, "the depth is the old one"
        assert (getattr(reused, name) - getattr(elsewhere, name)).abs().max() > 1e-4
    changed = replace(x, video=noise(seed=4).video)
    joint.denoise(noise(), LEVELS[0], asked)
    assert (joint.denoise(changed, LEVELS[1], asked)[0][0].video - reused.video).abs().max() > 1e-2, "In runs anew"


@pytest.mark.parametrize(("sampler", "every", "full"), [(euler, 2, 3), (euler, 4, 2), (heun, 2, 6)])
@torch.no_grad()
def test_of_every_n_evaluations_one_is_full_and_the_audio_always_runs(model, sampler, every, full):
    grid = clock().grid(sigmas=torch.tensor([4.0, 3.0, 2.0, 1.5, 1.0, 0.6, 0.5]), audio_substeps=2)
    guided = GuidedDenoiser(JointDenoiser(model, clock(), reuse=Reuse(every)), JointCFG(mode="none"), conditioning(2))
    with Calls(model) as calls:
        sampler(guided, noise(), grid)
    evaluations = 6 if sampler is euler else 12
    substeps = 6 if sampler is euler else 12
    assert calls == {"middle": full, "last": evaluations, "audio": evaluations + substeps}


@torch.no_grad()
def test_when_guidance_needs_other_predictions_the_evaluation_is_full(model):
    guidance = JointCFG(mode="joint-cfg", joint_scale=2.0, interval=(1.0, 10.0))
    joint = JointDenoiser(model, clock(), reuse=Reuse(10))
    guided = GuidedDenoiser(joint, guidance, conditioning(2), conditioning(2, seed=9))
    seen = []
    for level in (*LEVELS, LEVELS[2], LEVELS[0]):
        with Calls(model) as calls:
            guided(noise(), level)
        seen.append(calls["middle"])
    assert seen == [1, 0, 1, 0, 1]


@torch.no_grad()
def test_an_input_that_moved_far_is_evaluated_in_full(model):
    joint, asked = JointDenoiser(model, clock(), reuse=Reuse(100, moved=0.2)), [Pass(conditioning(2))]
    x, moved = noise(), noise(seed=1)
    near = x.map(lambda part: part * 1.01)
    seen = []
    for state in (x, near, moved, moved, near):
        with Calls(model) as calls:
            joint.denoise(state, LEVELS[1], asked)
        seen.append(calls["middle"])
    assert seen == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("values", [{"every": 0}, {"every": 1001}, {"moved": -0.1}, {"moved": float("nan")}])
def test_a_schedule_out_of_range_is_refused(values):
    with pytest.raises(InputError, match=str(next(iter(values.values())))):
        Reuse(**values)
