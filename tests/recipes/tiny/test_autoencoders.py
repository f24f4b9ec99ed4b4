"""The autoencoders and the vocoder: a linear start, exact resume, components that load again."""

import json
import math

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from jointdit.encoders.autoencoders import write_clock
from jointdit.encoders.mel import log_mel
from jointdit.recipes.tiny.architecture import TinyModel
from jointdit.recipes.tiny.autoencoders import (
    AudioVAEObjective,
    VideoVAEObjective,
    decode,
    encode,
    psnr,
    train_audio_vae,
)
from jointdit.recipes.tiny.linear_start import start_as_mixture
from jointdit.recipes.tiny.oscillator_bank import CLOCK
from jointdit.recipes.tiny.recipe import AudioVAEStage, Budget, TinyRecipe, VideoVAEStage, VocoderStage
from jointdit.recipes.tiny.scenes import picture_pool, random_frames
from jointdit.recipes.tiny.training_loop import Stage, fit
from jointdit.recipes.tiny.vocoder import VocoderObjective

SIZE = 64


@pytest.fixture(scope="module")
def pictures():
    return picture_pool(0, 24, SIZE)


@pytest.fixture(scope="module")
def sounds():
    noise = torch.randn(6, 8000, generator=torch.Generator().manual_seed(0))
    return noise.cumsum(1) * torch.linspace(0, 2e-3, 8000)


def objective_of(kind, pictures, sounds):
    torch.manual_seed(0)
    if kind == "video-vae":
        return VideoVAEObjective(VideoVAEStage(batch=2), (pictures,), pictures[:2], SIZE)
    if kind == "audio-vae":
        return AudioVAEObjective(AudioVAEStage(batch=1), log_mel(sounds[:, :7680]), log_mel(sounds[:2, :7680]))
    return VocoderObjective(VocoderStage(batch=1), sounds, sounds[:2])


KINDS = ("video-vae", "audio-vae", "vocoder")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_and_resumed_equals_one_undisturbed(kind, pictures, sounds, tmp_path):
    stage = Stage(budget=Budget(steps=4), rate=1e-4, seed=3, save_seconds=0)
    straight = objective_of(kind, pictures, sounds)
    fit(straight, tmp_path / "straight", stage)

    stopped = objective_of(kind, pictures, sounds)
    loss = stopped.loss

    def interrupted(generator, progress):
        if progress >= 0.5:
            raise KeyboardInterrupt
        return loss(generator, progress)

    stopped.loss = interrupted
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, tmp_path / "stopped", stage)
    assert not list((tmp_path / "stopped").glob("*.partial"))
    resumed = objective_of(kind, pictures, sounds)
    fit(resumed, tmp_path / "stopped", stage)

    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    ours, theirs = (load_file(tmp_path / run / "state.safetensors") for run in ("straight", "stopped"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_training_changes_the_model_and_lowers_the_loss(kind, pictures, sounds, tmp_path):
    objective = objective_of(kind, pictures, sounds)
    fit(objective, tmp_path, Stage(budget=Budget(steps=12), rate=1e-5, log_every=1, evaluate_every=12))
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 13))
    assert objective.evaluate().items() <= records[-1].items()
    fresh = objective_of(kind, pictures, sounds)

    def judged(which):
        with torch.no_grad():
            return sum(which.loss(torch.Generator().manual_seed(seed), 0.0).item() for seed in range(4))

    assert judged(objective) < judged(fresh)


def test_the_linear_start_is_as_good_as_principal_components(pictures):
    objective = VideoVAEObjective(VideoVAEStage(), (pictures,), pictures[:2], SIZE)
    pixels = pictures[:, 0].float() / 127.5 - 1
    patches = objective.codec.fold(pixels).movedim(1, -1).reshape(-1, 192).double().numpy()
    mean = patches.mean(0)
    basis = np.linalg.svd(np.cov((patches - mean).T))[0][:, :16]
    error = ((patches - mean) - (patches - mean) @ basis @ basis.T) / 2
    reference = -10 * math.log10((error**2).mean())
    with torch.no_grad():
        mode = encode(objective.model, objective.codec.fold(pixels))
        decoded = objective.codec.unfold(decode(objective.model, mode, num_frames=len(pixels)))
    ours = -10 * math.log10(((decoded - pixels) / 2).pow(2).mean())
    assert abs(ours - reference) < 1.0


@torch.no_grad()
def test_both_unets_start_as_a_mixture_of_their_inputs_with_their_brightness():
    torch.manual_seed(0)
    model = TinyModel(TinyRecipe().on_coarse_grid().architecture, 600, 64, 8, 20)
    mixture = torch.stack([torch.linspace(0.2, 0.5, 64), torch.linspace(-1.0, -0.6, 64)])
    start_as_mixture(model.video_unet, mixture)
    start_as_mixture(model.audio_unet, torch.full((1, 8), 0.8))
    picture = torch.randn(1, 1, 64, 8, 8) + 2 * torch.randn(1, 1, 64, 1, 1)  # channels' means must not be forgotten
    noisy = torch.randn(1, 3, 64, 8, 8)
    wanted = mixture[0, :, None, None] * noisy + mixture[1, :, None, None] * picture
    inputs = torch.cat((noisy, picture.expand_as(noisy)), 2)
    got = model.video_unet(inputs, torch.zeros(1), torch.randn(1, 1, 64), added_time_ids=torch.randn(1, 3)).sample
    assert (got - wanted).std() < 0.15 * wanted.std()
    sound, text = torch.randn(1, 8, 40, 16), torch.randn(1, 24, 64)
    got = model.audio_unet(sound, 500, text, encoder_hidden_states_1=text).sample
    assert (got - 0.8 * sound).std() < 0.15 * 0.8


@pytest.mark.parametrize("kind", ["video-vae", "audio-vae"])
def test_an_autoencoder_that_is_saved_loads_again_and_scales_latents_to_one(kind, pictures, sounds, tmp_path):
    objective = objective_of(kind, pictures, sounds)
    objective.set_scaling()
    objective.model.save_pretrained(tmp_path)
    loaded = type(objective.model).from_pretrained(tmp_path)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in objective.model.state_dict().items())
    inputs = pictures[:, 0].float() / 127.5 - 1 if kind == "video-vae" else objective.mels
    latents = loaded.encode(objective.codec.fold(inputs)).latent_dist
    assert latents.mode().std().item() * loaded.config.scaling_factor == pytest.approx(1, abs=1e-3)
    assert torch.allclose(latents.std, torch.full_like(latents.std, 0.05))


@torch.no_grad()
def test_a_vocoder_is_saved_as_loud_as_its_sounds(pictures, sounds, tmp_path):
    objective = objective_of("vocoder", pictures, sounds)
    vocoder = objective.vocoder()
    vocoder.save_pretrained(tmp_path)
    loaded = type(vocoder).from_pretrained(tmp_path)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in vocoder.state_dict().items())
    loudness = loaded(write_clock(objective.mels, CLOCK)).norm() / objective.sounds.norm()
    assert loudness.item() == pytest.approx(1, abs=0.1)


def test_the_command_trains_and_saves_and_may_be_given_again(tmp_path):
    recipe = TinyRecipe(runs=tmp_path, audio_vae=AudioVAEStage(budget=Budget(steps=1), scenes=4))
    train_audio_vae(recipe)
    train_audio_vae(recipe)  # finished already: saves again
    assert AutoencoderKL.from_pretrained(tmp_path / "audio_vae").config.in_channels == 16


def test_runs_are_consecutive_frames_and_stills_pan():
    clips = torch.arange(10, dtype=torch.uint8)[None, :, None, None, None].expand(1, 10, 3, 8, 8)
    run = random_frames(clips, 4, 8, torch.Generator().manual_seed(1))
    assert torch.allclose(run.mean((1, 2, 3)).diff() * 127.5, torch.ones(3), atol=1e-4)
    still = torch.arange(12, dtype=torch.uint8).expand(1, 1, 3, 12, 12)
    pans = torch.stack([random_frames(still, 3, 4, torch.Generator().manual_seed(seed)) for seed in range(20)])
    steps = pans.mean((2, 3, 4)).diff(dim=1).abs() * 127.5
    assert 0.9 < steps.max() < 3.1


def test_psnr_of_a_known_error():
    assert psnr(torch.full((1, 3, 4, 4), 0.2), torch.zeros(1, 3, 4, 4)).item() == pytest.approx(20)
