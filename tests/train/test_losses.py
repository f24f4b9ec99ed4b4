"""Losses of audio sub-steps: what they equal, and what learns from them."""

from __future__ import annotations

import pytest
import torch
from gaussian_model import clock
from tiny_models import LATENT, conditioning, joint_model
from torch import Tensor

from jointdit.diffusion.denoiser import JointDenoiser, model_inputs
from jointdit.diffusion.schedules import Levels
from jointdit.latents import JointLatents
from jointdit.models.model import JointDiTModel
from jointdit.train.losses import AudioDraws, PairErrors, PairLosses, noise_like, video_keys


def latents(seed: int) -> JointLatents:
    generator = torch.Generator().manual_seed(seed)
    return JointLatents(
        torch.randn(2, 3, LATENT, 8, 8, generator=generator), torch.randn(2, LATENT, 12, 16, generator=generator)
    )


def levels(*pairs: tuple[float, float]) -> Levels:
    sigma, timestep = torch.tensor(pairs, dtype=torch.float64).T
    return clock().levels(sigma, timestep)


def losses_of(model: JointDiTModel, heaviest: float = 1.0) -> PairLosses:
    return PairLosses(JointDenoiser(model, clock()), heaviest)


def draws(audio: Tensor, count: int, generator: torch.Generator) -> AudioDraws:
    return AudioDraws.draw(clock(), audio.repeat(count, 1, 1, 1), generator, power=0.6)


def joint(model: JointDiTModel, isolated: Tensor, level: Levels, heaviest: float = 1.0) -> PairErrors:
    """With three sub-steps of each sample that is not isolated."""
    clean, generator = latents(1), torch.Generator().manual_seed(3)
    noise = noise_like(clean, generator)
    substeps = draws(clean.audio[~isolated], 3, generator)
    return losses_of(model, heaviest).joint(clean, noise, level, conditioning(2), isolated, substeps)


@torch.no_grad()
def test_joint_losses_are_the_denoisers_and_the_audios_weigh_more_in_noise():
    model, clean, isolated = joint_model(open_gates=True), latents(1), torch.tensor([False, True])
    level = levels((1.5, 300), (0.4, 999))
    plain = JointDenoiser(model, clock()).losses(
        clean, conditioning(2), isolated, torch.Generator().manual_seed(3), level
    )
    found = joint(model, isolated, level, heaviest=50.0)
    assert torch.equal(found.video, plain[0])
    weight = torch.stack([1 + level.audio_sigma[0] ** 2, torch.tensor(50.0)])
    torch.testing.assert_close(found.audio, plain[1] * weight)
    assert found.substeps.shape == (3,), "of the sample that is not isolated"


@torch.no_grad()
def test_without_a_joint_sample_there_is_no_substep():
    found = joint(joint_model(), torch.tensor([True, True]), levels((1.5, 300)))
    assert len(found.substeps) == 0 and len(found.audio) == 2


def test_the_sound_learns_from_a_given_video_and_the_video_expert_does_not():
    model = joint_model(open_gates=True)
    level = levels((0.01, 500), (0.5, 700))
    clean, generator = latents(1), torch.Generator().manual_seed(3)
    noise, substeps = noise_like(clean, generator), draws(clean.audio, 3, generator)
    found = losses_of(model).given_video(clean, noise, level, conditioning(2), substeps)
    assert found.shape == (6,)
    found.mean().backward()
    block = model.joint_blocks.blocks[0]
    for part in (model.audio_unet, block.audio, block.video.to_k, block.video.to_v):
        assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in part.parameters())
    assert all(each.grad is None for each in model.video_unet.parameters())


def test_sounds_alone_teach_the_audio_expert_alone():
    model = joint_model(open_gates=True)
    audio = latents(1).audio
    found = losses_of(model).audio_alone(audio, draws(audio, 1, torch.Generator().manual_seed(3)), conditioning(2))
    assert found.shape == (2,)
    found.mean().backward()
    assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in model.audio_unet.parameters())
    assert all(each.grad is None for each in model.video_unet.parameters())


@pytest.mark.parametrize("sigma", [0.3, 20.0])
@torch.no_grad()
def test_video_keys_are_those_that_a_joint_evaluation_keeps(sigma):
    model, cond = joint_model(open_gates=True), conditioning(2)
    stem = model.stem(*model_inputs(latents(0), levels((sigma, 300), (0.4, 700)), cond), cond)
    _, kept = model.trunk(stem, False, keep=True)
    for ours, theirs in zip(video_keys(model, stem).blocks, kept.blocks, strict=True):
        assert torch.equal(ours.key, theirs.key) and torch.equal(ours.value, theirs.value)
