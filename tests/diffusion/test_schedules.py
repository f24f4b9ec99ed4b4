"""One clock for two schedules; grids are those of diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from gaussian_model import audio_scheduler, clock, video_scheduler

from jointdit.diffusion.schedules import NoiseClock, resample
from jointdit.errors import InputError


def test_levels_of_the_pretrained_models():
    noise = clock()
    ends = noise.audio_sigma(torch.tensor([0.0, 999.0]))
    torch.testing.assert_close(ends, torch.tensor([0.0388, 83.8], dtype=torch.float64), atol=0, rtol=2e-3)
    u = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert noise.video_sigma(u).tolist() == pytest.approx([0.002, math.exp(0.7), 700.0])
    assert noise.audio_timestep(u).tolist() == [0, 500, 999]
    assert noise.audio_position(u).tolist() == [0, 499.5, 999]


def test_round_trips_through_u():
    noise = clock()
    u = torch.linspace(1e-5, 1 - 2e-4, 10001, dtype=torch.float64)
    assert (noise.video_u(noise.video_sigma(u)) - u).abs().max() < 1e-9
    inner = u[(u > 5e-4) & (u < 1 - 5e-4)]
    assert (noise.audio_u(noise.audio_position(inner)) - inner).abs().max() < 1e-9
    every = torch.arange(1000, dtype=torch.float64)
    assert torch.equal(noise.audio_timestep(noise.audio_u(every)), every)


def test_audio_sigma_is_the_table_and_log_linear_between():
    noise, alphas = clock(), audio_scheduler().alphas_cumprod.double()
    table = ((1 - alphas) / alphas).sqrt()
    torch.testing.assert_close(noise.audio_sigma(torch.arange(1000)), table, atol=0, rtol=1e-12)
    middle = noise.audio_sigma(torch.arange(999) + 0.5)
    torch.testing.assert_close(middle, (table[:-1] * table[1:]).sqrt(), atol=0, rtol=1e-12)


def test_training_draws_shared_independent_and_clean_levels():
    noise = clock()
    levels = noise.sample_levels(20000, torch.Generator().manual_seed(0))
    u = noise.video_u(levels.video_sigma)
    video_clean, audio_clean = levels.video_sigma <= 0.002001, levels.audio_timestep == 0
    shared = (noise.audio_timestep(u) - levels.audio_timestep).abs() <= 1
    clean = (video_clean | audio_clean) & ~shared
    assert 0.47 < shared.double().mean() < 0.53
    assert (~shared & ~clean).double().mean() > 0.3
    assert 0.05 < (video_clean & clean).double().mean() < 0.1
    assert 0.05 < (audio_clean & clean).double().mean() < 0.1
    logs = levels.video_sigma[~video_clean].log()
    assert logs.mean().item() == pytest.approx(0.7, abs=0.05) and logs.std().item() == pytest.approx(1.6, abs=0.05)
    assert levels.video_sigma.isfinite().all() and levels.video_sigma.min() >= 0.002


def test_grids_are_those_of_diffusers():
    grid = clock().grid(25)
    video, audio = video_scheduler(), audio_scheduler()
    video.set_timesteps(25)
    audio.set_timesteps(25)
    assert torch.equal(grid.video_sigmas.float(), video.sigmas)
    assert grid.audio_timesteps.tolist() == audio.timesteps.tolist() + [0] == [*range(961, 0, -40), 0]
    assert grid.audio_sigmas[-1].item() == pytest.approx(0.0388, rel=2e-3)
    assert (grid.steps, grid.substeps) == (25, 1)
    levels = grid.levels(3)
    assert levels.video_sigma.dtype == torch.float32 and levels.audio_timestep.item() == 841


def test_coupled_audio_follows_the_video():
    noise = clock()
    plain, finer = noise.grid(25, audio="coupled"), noise.grid(25, audio="coupled", audio_substeps=3)
    u = noise.video_u(plain.video_sigmas[1:20])
    torch.testing.assert_close(plain.audio_timesteps[1:20], noise.audio_position(u), atol=0, rtol=0)
    assert plain.audio_timesteps[0] == 999 and plain.audio_timesteps[-1] == 0
    assert plain.audio_timesteps[10].item() == pytest.approx(960, abs=3)  # ten of 25 steps hardly move the audio
    assert torch.equal(finer.audio_timesteps[::3], plain.audio_timesteps)
    assert finer.substeps == 3


def test_any_sigmas_and_timesteps():
    noise = clock()
    grid = noise.grid(sigmas=torch.tensor([10.0, 1.0, 0.1]), audio=torch.tensor([800.0, 333.3, 200.0, 100.0, 5.0]))
    assert (grid.steps, grid.substeps) == (2, 2)
    assert grid.levels(1, 1).audio_timestep.item() == 100 and grid.levels(1, 1).video_sigma.item() == 1
    assert len(noise.grid(sigmas=torch.tensor([10.0, 1.0, 0.0]), audio_substeps=4).audio_timesteps) == 9


def test_trailing_audio_waits_for_the_video_and_then_falls():
    sigmas = torch.tensor([100.0, 10.0, 2.0, 0.5, 0.1, 0.0])
    grid = clock().grid(sigmas=sigmas, audio="trailing", audio_substeps=3, audio_start=970)
    assert (grid.steps, grid.substeps) == (5, 3)
    assert (grid.audio_timesteps[:10] == 970).all() and grid.audio_timesteps[-1] == 0
    torch.testing.assert_close(grid.audio_timesteps[9:].diff(), torch.full((6,), -970 / 6).double(), atol=1e-4, rtol=0)
    noisy = clock().grid(sigmas=sigmas[:3], audio="trailing")
    assert noisy.audio_timesteps.tolist() == [999, 999, 0], "the last step is the latest"
    given = clock().grid(sigmas=sigmas, audio="trailing", audio_substeps=3, audio_start=970, hold="video")
    assert torch.equal(given.audio_timesteps, grid.audio_timesteps[9:]), "a given video is not waited for"
    assert (given.video_sigmas == clock().sigma_min).all() and given.steps == 2


# Those of the bundled model, and AlignYourSteps for Stable Video Diffusion.
OWN = torch.tensor([200.0, 130.0, 83.0, 52.0, 32.0, 19.0, 11.0, 6.5, 4.0, 2.0, 0.02, 0.01, 0.005, 0.0])
ALIGNED = torch.tensor([700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002, 0.0])


@pytest.mark.parametrize("own", [OWN, ALIGNED])
@pytest.mark.parametrize("steps", [*range(1, 30), 50, 999])
def test_own_levels_at_another_number_of_steps_fall_between_the_same_ends(own, steps):
    levels = resample(own, steps)
    assert levels.shape == (steps + 1,) and (levels.diff() < 0).all()
    assert (levels[0], levels[-1]) == (own[0], 0)
    if steps == len(own) - 1:
        assert torch.equal(levels, own)
    if steps >= len(own):
        assert levels[-2] == own[-2], "the step to 0 stays one"


@pytest.mark.parametrize("steps", [3, 4, 8, 13, 25, 50])
def test_a_jump_of_the_own_levels_stays_one_step_and_the_others_are_shared_out(steps):
    levels = resample(OWN, steps)
    jump = (levels == 2).nonzero().item()
    assert levels[jump + 1] == OWN[10]
    before, after = jump, len(levels) - 1 - (jump + 1) - 1  # without the jump and the step to 0
    assert before == pytest.approx((steps - 2) * 9 / 11, abs=0.5) and before + after == steps - 2


def test_new_levels_are_even_in_ln_sigma_between_the_models():
    levels = resample(OWN, 2 + 2 * 11).double()
    torch.testing.assert_close(levels[1:18:2], (levels[0:17:2] * levels[2:19:2]).sqrt(), atol=0, rtol=1e-6)
    assert torch.equal(levels[0:19:2].float(), OWN[:10])


def test_no_steps_are_refused():
    with pytest.raises(InputError, match="steps 0"):
        resample(OWN, 0)


def test_making_a_grid_leaves_the_given_schedulers_alone():
    video, audio = video_scheduler(), audio_scheduler()
    before = video.sigmas.clone(), audio.timesteps.clone()
    NoiseClock(video, audio).grid(5)
    assert torch.equal(video.sigmas, before[0]) and torch.equal(audio.timesteps, before[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps 0"),
        ({"steps": 3, "audio_substeps": 0}, "audio sub-steps 0"),
        ({"steps": 100, "audio_substeps": 10}, "1000 audio steps"),
        ({"sigmas": torch.tensor([1.0, float("nan")])}, "nan"),
        ({"sigmas": torch.tensor([1.0, 2.0])}, r"\[1.0, 2.0\]"),
        ({"sigmas": torch.tensor([1.0, -1.0])}, "-1.0"),
        ({"sigmas": torch.tensor([1.0])}, r"shape \[1\]"),
        ({"steps": 2, "audio": torch.tensor([1000.0, 3.0, 0.0])}, "1000.0"),
        ({"steps": 2, "audio": torch.tensor([900.0, 3.0])}, "give 3"),
        ({"steps": 2, "audio": torch.tensor([900.0, 950.0, 3.0])}, "950.0"),
        ({"steps": 2, "audio": torch.tensor([900.0, 900.0, 900.0])}, "900.0"),
        ({"steps": 2, "audio": "evne"}, "'evne'"),
    ],
)
def test_bad_grids_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        clock().grid(**arguments)


def test_schedulers_of_other_models_are_refused():
    with pytest.raises(ValueError, match="prediction_type is 'epsilon'"):
        NoiseClock(video_scheduler(prediction_type="epsilon"), audio_scheduler())
    with pytest.raises(ValueError, match="clip_sample is True"):
        NoiseClock(video_scheduler(), audio_scheduler(clip_sample=True))
    with pytest.raises(ValueError, match="sigma_min None"):
        NoiseClock(video_scheduler(sigma_min=None), audio_scheduler())
