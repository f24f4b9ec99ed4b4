"""Noise levels along a sampling run, beside a clean video, and where noise hides what happens."""

from __future__ import annotations

import itertools

import pytest
import torch
from gaussian_model import clock

from jointdit.train.noise_levels import draw_audio_levels, draw_nearly_clean_video, levels_along


def test_levels_along_a_run_are_those_of_its_grid_and_between_them():
    grid = clock().grid(4, audio=torch.linspace(900, 0, 9), audio_substeps=2)
    steps = levels_along(grid, torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))
    for name, step in itertools.product(("video_sigma", "audio_timestep", "audio_sigma"), range(4)):
        torch.testing.assert_close(getattr(steps, name)[step], getattr(grid.levels(step), name)[0])
    middle = levels_along(grid, torch.tensor([0.5]))
    assert grid.video_sigmas[1] > middle.video_sigma > grid.video_sigmas[2]
    assert middle.audio_timestep.item() == pytest.approx(562.5)


def test_draws_for_the_audio_alone_prefer_strong_noise_and_leave_the_video_clean():
    levels = draw_audio_levels(clock(), 4000, torch.Generator().manual_seed(0), power=0.6)
    assert (levels.audio_timestep >= 700).float().mean() == pytest.approx(0.45, abs=0.03)
    assert levels.audio_timestep.min() < 50 and levels.audio_timestep.max() > 990
    torch.testing.assert_close(levels.video_sigma, torch.full((4000,), clock().sigma_min))
    even = draw_audio_levels(clock(), 4000, torch.Generator().manual_seed(0), power=1.0)
    assert (even.audio_timestep >= 700).float().mean() == pytest.approx(0.3, abs=0.03)


def test_half_of_the_nearly_clean_videos_are_clean():
    noise = clock()
    levels = draw_nearly_clean_video(noise, 4000, torch.Generator().manual_seed(0), power=0.6)
    assert (levels.video_sigma == noise.sigma_min).float().mean() == pytest.approx(0.5, abs=0.03)
    assert noise.video_u(levels.video_sigma).max() <= 0.5
