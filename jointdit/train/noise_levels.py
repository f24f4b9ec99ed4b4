"""Noise levels that training draws in addition to those of `NoiseClock.sample_levels`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.schedules import Levels, NoiseClock, SamplingGrid


def levels_along(grid: SamplingGrid, position: Tensor) -> Levels:
    """Levels [B] along a sampling run: `position` [B] is 0 at its first step and 1 at its last. Between steps the
    audio's timestep and the logarithms of both sigmas are linear."""
    steps = position.double() * (grid.steps - 1)
    low = steps.floor().long().clamp(max=max(grid.steps - 2, 0))
    high = (low + 1).clamp(max=grid.steps - 1)
    audio, log_audio, log_video = grid.audio_timesteps, grid.audio_sigmas.log(), grid.video_sigmas[:-1].log()
    n = grid.substeps
    found = (
        torch.lerp(log_video[low], log_video[high], steps - low).exp(),
        torch.lerp(audio[n * low], audio[n * high], steps - low),
        torch.lerp(log_audio[n * low], log_audio[n * high], steps - low).exp(),
    )
    return Levels(*(level.float() for level in found))


def draw_audio_levels(clock: NoiseClock, batch: int, generator: torch.Generator, power: float) -> Levels:
    """Levels [B] for the audio alone, with a clean video. power: 1 draws all timesteps alike; below 1, strong noise,
    where it is decided what sounds when, is drawn more often."""
    u = torch.rand(batch, generator=generator, dtype=torch.float64) ** power
    return clock.levels(torch.full_like(u, clock.sigma_min), clock.audio_timestep(u))


def draw_nearly_clean_video(clock: NoiseClock, batch: int, generator: torch.Generator, power: float) -> Levels:
    """Levels [B] of a video that is clean, as a given one is, in half of the draws and nearly finished in the others,
    with audio levels of `draw_audio_levels`."""
    u = (torch.rand(batch, generator=generator, dtype=torch.float64) - 0.5).clamp(min=0)
    return clock.levels(clock.video_sigma(u), draw_audio_levels(clock, batch, generator, power).audio_timestep)
