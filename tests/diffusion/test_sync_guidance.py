"""Sync without training: the closed form against automatic differentiation, what stays, and what a clip gains."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_models import LATENT, audio_vae, write_experts

from jointdit import InputError, JointDiTPipeline, SamplingSettings
from jointdit.cli import main
from jointdit.diffusion.sync_guidance import SyncGuidance, loudness_readout
from jointdit.encoders.autoencoders import AudioAutoencoder
from jointdit.evaluate import loudness
from jointdit.evaluate.sync import correlation
from jointdit.latents import JointLatents
from jointdit.media import Clip, read_clip
from jointdit.synthetic import render_scene

FRAMES, LENGTH = 6, 20
SHAPE = {"frames": 4, "fps": 8, "height": 40, "width": 48}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


READOUT = random(LATENT, 16, seed=3)


@pytest.fixture
def estimate() -> JointLatents:
    return JointLatents(random(2, FRAMES, LATENT, 5, 7), random(2, LATENT, LENGTH, 16, seed=1))


@pytest.fixture(scope="module")
def tiny() -> JointDiTPipeline:
    return JointDiTPipeline.from_pretrained("tiny")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> JointDiTPipeline:
    return JointDiTPipeline.from_experts(*write_experts(tmp_path_factory.mktemp("experts")))


def agreement(estimate: JointLatents) -> torch.Tensor:
    """Pearson's correlation [B] of how far each frame moves with how loud the sound is from the frame before on."""
    moved = [(after - before).square().mean((1, 2, 3)).sqrt() for before, after in pairwise(estimate.video.unbind(1))]
    edges = [(j * LENGTH // FRAMES, -(-(j + 1) * LENGTH // FRAMES)) for j in range(FRAMES - 1)]
    loud = [
        torch.stack([(estimate.audio[:, :, i] * READOUT).sum((1, 2)) for i in range(*edge)]).mean(0) for edge in edges
    ]
    both = zip(torch.stack(moved, 1), torch.stack(loud, 1), strict=True)
    return torch.stack([torch.corrcoef(torch.stack(curves))[0, 1] for curves in both])


def test_the_sound_moves_along_the_gradient_of_the_correlation(estimate):
    leaf = estimate.audio.clone().requires_grad_()
    before = agreement(JointLatents(estimate.video, leaf))
    (gradient,) = torch.autograd.grad(before.sum(), leaf)
    pulled = SyncGuidance(0.3).pull(estimate.audio, estimate.video, READOUT)
    size = 0.3 * (1 - before.detach())[:, None, None, None]
    expected = estimate.audio + size * gradient / gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(pulled, expected, atol=1e-5, rtol=1e-4)
    assert (agreement(JointLatents(estimate.video, pulled)) > before + 0.1).all()


@pytest.mark.parametrize("frames", [1, 2, FRAMES])
def test_a_picture_that_never_moves_leaves_the_sound_alone(estimate, frames):
    still = estimate.video[:, :1].expand(-1, frames, -1, -1, -1)
    assert torch.equal(SyncGuidance(0.5).pull(estimate.audio, still, READOUT), estimate.audio)


def test_an_even_sound_is_pulled_too(estimate):
    pulled = SyncGuidance(0.5).pull(torch.zeros_like(estimate.audio), estimate.video, READOUT)
    assert (agreement(JointLatents(estimate.video, pulled)) > 0.9).all()


def test_values_out_of_range_are_refused(small, picture):
    for strength in (-1.0, 11.0, float("nan")):
        with pytest.raises(InputError, match=f"strength {strength}"):
            SyncGuidance(strength)
    with pytest.raises(InputError, match="interval"):
        SyncGuidance(interval=(3.0, 2.0))
    sound = torch.zeros(small.layout.audio_shape(small.shape(**SHAPE), 1))
    with pytest.raises(InputError, match="the sound is given"):
        sample(small, picture, SyncGuidance(), audio_latents=sound)


def test_the_readout_is_the_slope_of_the_decoded_log_mel():
    codec = AudioAutoencoder(audio_vae().double())
    readout = loudness_readout(codec)
    latents = torch.randn(1, LATENT, 64, 16, generator=torch.Generator().manual_seed(0)).double()
    direction = random(LATENT, 16, seed=9).double()[:, None]
    with torch.no_grad():
        up, down = (codec.decode_mel(latents + step * direction).mean() for step in (1e-4, -1e-4))
    expected = (readout.double() * direction[:, 0]).sum()
    torch.testing.assert_close((up - down) / 2e-4, expected, rtol=1e-4, atol=1e-9)


def test_the_readout_of_the_bundled_model_hears_loudness(tiny):
    found = []
    for effect in ("hammer", "ball", "fireworks"):
        scene = render_scene(800, effect=effect)
        latents = tiny.encode_audio(scene.audio[None], scene.sample_rate, tiny.shape())[0]
        each = (latents * loudness_readout(tiny.audio_codec)[:, None]).sum((0, 2))
        curve = each.reshape(20, -1).mean(1)
        found.append(correlation(curve.numpy(), loudness(scene.audio[None], scene.sample_rate, scene.fps, 20, 0.5)))
    assert min(found) > 0.6


def sample(pipe: JointDiTPipeline, picture: np.ndarray, sync: SyncGuidance | None, **options) -> JointLatents:
    generator = torch.Generator().manual_seed(0)
    shape = options.pop("shape", None) or pipe.shape(**SHAPE)
    conditions = pipe.condition([picture], [options.pop("prompt", "a ball")], [None], shape, generator)
    held = {name: options.pop(name) for name in ("video_latents", "audio_latents") if name in options}
    settings = SamplingSettings(sync=sync, **{"steps": 2} | options)
    return pipe.sample(replace(conditions, **held), settings, generator=generator)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_strength_0_and_an_interval_that_no_level_is_in_change_no_bit(small, picture, sampler):
    plain, off, never, pulled = (
        sample(small, picture, sync, sampler=sampler, audio_substeps=2, isolated=True)
        for sync in (None, SyncGuidance(0), SyncGuidance(interval=(800, 900)), SyncGuidance())
    )
    for same in (off, never):
        assert torch.equal(same.video, plain.video) and torch.equal(same.audio, plain.audio)
    assert torch.equal(pulled.video, plain.video) and not torch.equal(pulled.audio, plain.audio)


def test_neutral_guidance_reads_no_autoencoder(small, picture, monkeypatch):
    def refuse(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(small.audio_vae, "decode", refuse)
    sample(small, picture, SyncGuidance(0))
    with pytest.raises(AssertionError, match="decoded"):
        sample(small, picture, SyncGuidance())


def test_it_runs_in_inference_mode_and_leaves_no_gradients(small, picture):
    with torch.inference_mode():
        inside = sample(small, picture, SyncGuidance())
    outside = sample(small, picture, SyncGuidance())
    assert torch.equal(inside.audio, outside.audio)
    assert all(parameter.grad is None for parameter in small.audio_vae.parameters())


def test_an_isolated_sound_comes_when_a_given_video_moves(tiny):
    scene = render_scene(801, effect="hammer")
    video = tiny.video_codec.encode_video(
        torch.from_numpy(scene.frames).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    ).detach()
    moving = np.abs(np.diff(scene.frames.astype(np.float32), axis=0)).mean((1, 2, 3))
    found = []
    for sync in (None, SyncGuidance()):
        asked = {"shape": tiny.shape(), "prompt": scene.caption, "steps": 6}
        latents = sample(tiny, scene.picture, sync, **asked, video_latents=video, isolated=True)
        torch.testing.assert_close(latents.video, video)
        heard = tiny.decode_audio(latents.audio, tiny.shape())[0]
        found.append(correlation(moving, loudness(heard, 16_000, scene.fps, 20, 0.5)[:19]))
    assert found[1] > 0.4 and found[1] > found[0] + 0.2


def test_the_command_line_pulls_if_it_is_told_to(tmp_path, capsys):
    def generate(*options: str) -> Clip:
        path = tmp_path / "clip.mp4"
        assert main(["generate", "-o", str(path), "--steps", "2", "--frames", "6", "--seed", "1", *options]) == 0
        return read_clip(path)

    plain, pulled = generate(), generate("--sync", "1")
    assert np.array_equal(pulled.frames, plain.frames)  # the last step alone is in the interval
    assert not np.array_equal(pulled.audio, plain.audio)
    assert main(["generate", "-o", str(tmp_path / "clip.mp4"), "--sync", "11"]) == 2
    assert "--sync 11: must be a number from 0 to 10" in capsys.readouterr().err
