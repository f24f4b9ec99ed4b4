"""The recipes of the autoencoders: a linear start, exact resume, components that load again."""

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
from jointdit.recipes.tiny.autoencoders import SIZE, AudioVAETask, VideoVAETask, VocoderTask, main, psnr
from jointdit.recipes.tiny.linear_start import start_as_mixture
from jointdit.recipes.tiny.oscillator_bank import CLOCK, KNOTS, OscillatorBank, as_vocoder, exponential_hinges
from jointdit.recipes.tiny.pools import picture_pool, random_run
from jointdit.train.loop import Budget, fit


@pytest.fixture(scope="module")
def pictures():
    return picture_pool(0, 24, SIZE)


@pytest.fixture(scope="module")
def sounds():
    noise = torch.randn(6, 8000, generator=torch.Generator().manual_seed(0))
    return noise.cumsum(1) * torch.linspace(0, 2e-3, 8000)


def task_of(kind, pictures, sounds):
    torch.manual_seed(0)
    if kind == "video-vae":
        return VideoVAETask((pictures,), pictures[:2], batch=2)
    if kind == "audio-vae":
        return AudioVAETask(log_mel(sounds[:, :7680]), log_mel(sounds[:2, :7680]), batch=1)
    return VocoderTask(sounds, sounds[:2], batch=1)


KINDS = ("video-vae", "audio-vae", "vocoder")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_and_resumed_equals_one_undisturbed(kind, pictures, sounds, tmp_path):
    straight = task_of(kind, pictures, sounds)
    fit(straight, tmp_path / "straight", Budget(steps=4), 1e-4, seed=3)

    stopped = task_of(kind, pictures, sounds)
    loss = stopped.loss

    def interrupted(generator, progress):
        if progress >= 0.5:
            raise KeyboardInterrupt
        return loss(generator, progress)

    stopped.loss = interrupted
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, tmp_path / "stopped", Budget(steps=4), 1e-4, seed=3, save_seconds=0)
    assert not list((tmp_path / "stopped").glob("*.partial"))
    resumed = task_of(kind, pictures, sounds)
    fit(resumed, tmp_path / "stopped", Budget(steps=4), 1e-4, seed=3)

    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    ours, theirs = (load_file(tmp_path / run / "state.safetensors") for run in ("straight", "stopped"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_training_changes_the_model_and_lowers_the_loss(kind, pictures, sounds, tmp_path):
    task = task_of(kind, pictures, sounds)
    fit(task, tmp_path, Budget(steps=12), 1e-5, seed=0, log_every=1, evaluate_every=12)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 13))
    assert task.evaluate().items() <= records[-1].items()
    fresh = task_of(kind, pictures, sounds)

    def judged(which):
        with torch.no_grad():
            return sum(which.loss(torch.Generator().manual_seed(seed), 0.0).item() for seed in range(4))

    assert judged(task) < judged(fresh)


def test_the_linear_start_is_as_good_as_principal_components(pictures):
    task = VideoVAETask((pictures,), pictures[:2])
    pixels = pictures[:, 0].float() / 127.5 - 1
    patches = task.codec.fold(pixels).movedim(1, -1).reshape(-1, 192).double().numpy()
    mean = patches.mean(0)
    basis = np.linalg.svd(np.cov((patches - mean).T))[0][:, :16]
    error = ((patches - mean) - (patches - mean) @ basis @ basis.T) / 2
    reference = -10 * math.log10((error**2).mean())
    with torch.no_grad():
        mode = task.model.encode(task.codec.fold(pixels)).latent_dist.mode()
        decoded = task.codec.unfold(task.model.decode(mode, num_frames=len(pixels)).sample)
    ours = -10 * math.log10(((decoded - pixels) / 2).pow(2).mean())
    assert abs(ours - reference) < 1.0


@torch.no_grad()
def test_both_unets_start_as_a_mixture_of_their_inputs_with_their_brightness():
    torch.manual_seed(0)
    model = TinyModel(600, 64, 8)
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


def test_the_vocoder_starts_with_the_right_spectrum_at_the_right_time(pictures):
    time = torch.arange(16000) / 16000
    noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    tone = 0.3 * sum(torch.sin(2 * torch.pi * f * time) for f in (300, 1200, 3000)) / 3
    bursts = 0.1 * noise * ((time % 0.5) < 0.2)
    sounds = torch.stack([tone, bursts])
    vocoder = as_vocoder(task_of("vocoder", pictures, sounds).model)
    with torch.no_grad():
        mel = log_mel(sounds)
        clocked = write_clock(mel, CLOCK)
        heard = log_mel(vocoder(clocked))
    loud = mel > -4
    assert loud.float().mean() > 0.2
    assert (heard - mel)[loud].abs().mean() < 0.6
    loudness, reference = heard[1].mean(1), mel[1].mean(1)
    assert np.corrcoef(loudness, reference)[0, 1] > 0.9
    silence = log_mel(torch.zeros(1, 16000))
    vocoder.half().float()  # weights are shipped in half precision
    with torch.no_grad():
        assert vocoder(write_clock(silence, CLOCK)).abs().max() < 1e-3
        assert (log_mel(vocoder(clocked)) - mel)[loud].abs().mean() < 0.6
        assert (log_mel(vocoder(mel)) - mel)[loud].abs().mean() < 1.2  # roughly, without a clock


@torch.no_grad()
def test_the_vocoder_sounds_what_the_bank_says():
    generator = torch.Generator().manual_seed(0)
    bank = OscillatorBank()
    bank.second.normal_(std=0.1, generator=generator)
    bank.mix.normal_(std=2e-3, generator=generator)
    mel = write_clock(torch.randn(2, 43, 64, generator=generator) - 4, CLOCK)
    wanted, got = bank(mel), as_vocoder(bank)(mel)
    assert got.shape == wanted.shape == (2, 43 * 160)
    # The lapped transform lacks half a block at each end.
    torch.testing.assert_close(got[:, 32:-32], wanted[:, 32:-32], atol=2e-5, rtol=0)


def strongest(waveform):
    """Hz, the strongest partial of [samples] at 16 kHz."""
    spectrum = torch.fft.rfft(waveform[2000:-2000] * torch.hann_window(len(waveform) - 4000), 2**18).abs()
    return spectrum.argmax().item() * 16000 / 2**18


@torch.no_grad()
@pytest.mark.parametrize("pitch", [440.0, 560.0, 737.0])
def test_steady_tones_keep_their_pitch_between_multiples_of_the_frame_rate(pitch):
    """Within a band's width before any training; the nearest multiples of 100 Hz are 165, 119 and 89 cents away."""
    torch.manual_seed(0)
    vocoder = as_vocoder(OscillatorBank())
    tone = 0.2 * torch.sin(2 * torch.pi * pitch * torch.arange(16000) / 16000)[None]
    heard = vocoder(write_clock(log_mel(tone), CLOCK))[0]
    assert abs(1200 * math.log2(strongest(heard) / pitch)) < 65


def test_the_clock_is_written_where_a_vocoder_asks_for_it():
    mel = torch.randn(2, 11, 64, generator=torch.Generator().manual_seed(0))
    assert write_clock(mel, ()) is mel
    written = write_clock(mel, (-12.0, -13.0, -14.0))
    assert torch.equal(written[..., :-1], mel[..., :-1])
    assert written[1, :5, -1].tolist() == [-12.0, -13.0, -14.0, -12.0, -13.0]


def test_hinges_add_up_to_an_exponential():
    weights, bias = exponential_hinges()
    level = torch.linspace(-10, 1.5, 50)[:, None]
    sums = torch.relu(level - torch.tensor(KNOTS)) @ weights + bias
    assert torch.allclose(sums / level[:, 0].exp(), torch.ones(50), atol=0.35)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_loads_again_and_scales_latents_to_one(kind, pictures, sounds, tmp_path):
    task = task_of(kind, pictures, sounds)
    task.save(tmp_path)
    model = as_vocoder(task.model) if kind == "vocoder" else task.model
    loaded = type(model).from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        if (kind, name) != ("vocoder", "conv_post.weight"):
            assert torch.equal(tensor, loaded.state_dict()[name]), name
    if kind == "vocoder":  # saved as loud as its sounds
        with torch.no_grad():
            loudness = loaded(write_clock(task.mels, CLOCK)).norm() / task.sounds.norm()
        assert loudness.item() == pytest.approx(1, abs=0.1)
    else:
        pixels = pictures[:, 0].float() / 127.5 - 1 if kind == "video-vae" else task.mels
        latents = loaded.encode(task.codec.fold(pixels)).latent_dist
        assert latents.mode().std().item() * loaded.config.scaling_factor == pytest.approx(1, abs=1e-3)
        assert torch.allclose(latents.std, torch.full_like(latents.std, 0.05))


def test_the_command_trains_and_saves(tmp_path):
    arguments = ["audio-vae", "--output", str(tmp_path / "vae"), "--steps", "1", "--scenes", "4"]
    main(arguments)
    main(arguments)  # finished already: saves again
    assert AutoencoderKL.from_pretrained(tmp_path / "vae").config.in_channels == 16


@pytest.mark.parametrize(
    "budget", [{}, {"steps": 3, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}, {"minutes": math.nan}]
)
def test_a_budget_that_is_none_is_named(budget):
    with pytest.raises(ValueError, match="the budget is"):
        Budget(**budget)


def test_runs_are_consecutive_frames_and_stills_pan():
    clips = torch.arange(10, dtype=torch.uint8)[None, :, None, None, None].expand(1, 10, 3, 8, 8)
    run = random_run(clips, 4, 8, torch.Generator().manual_seed(1))
    assert torch.allclose(run.mean((1, 2, 3)).diff() * 127.5, torch.ones(3), atol=1e-4)
    still = torch.arange(12, dtype=torch.uint8).expand(1, 1, 3, 12, 12)
    pans = torch.stack([random_run(still, 3, 4, torch.Generator().manual_seed(seed)) for seed in range(20)])
    steps = pans.mean((2, 3, 4)).diff(dim=1).abs() * 127.5
    assert 0.9 < steps.max() < 3.1


def test_psnr_of_a_known_error():
    assert psnr(torch.full((1, 3, 4, 4), 0.2), torch.zeros(1, 3, 4, 4)).item() == pytest.approx(20)
