"""Samplers of the pair: from noise to clean latents along a grid of each modality, in one loop.

State x = clean + sigma * noise, float32. In a video step the audio takes `grid.substeps` steps of its own, on the video
as it was at the joint evaluation, which counts as the first of them. A modality whose grid stands still is held.

Every sampler can replace a share of the video's noise by fresh noise at each step: what it took for structure by
mistake goes with the old noise. (All of it is the multistep sampling of consistency models, 2303.01469; a share that
depends on the step is an ancestral sampler.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..latents import JointLatents
from .schedules import Levels, SamplingGrid

LONGEST = 2.0  # of a step of second order: in ln sigma, and times the step before

AudioDenoise = Callable[[Tensor, Levels], Tensor]
Callback = Callable[[int, int, JointLatents], None]


@dataclass(frozen=True, eq=False)
class FreshNoise:
    """share: of the video's noise that is replaced in each step, 0 to 1, as a ratio of deviations.    draw: standard
    normal noise as large as the video."""

    share: float
    draw: Callable[[], Tensor]

    def step(self, start: float, end: float) -> tuple[float, float]:
        """The level that a step from `start` to `end` goes to, and how much noise is added there. At rest there is
        none."""
        if start == end or not self.share:
            return end, 0.0
        return end * math.sqrt(1 - self.share**2), end * self.share

    def add(self, video: Tensor, level: float) -> Tensor:
        """The video with so much fresh noise."""
        return video + level * self.draw() if level else video


def _no_noise() -> Tensor:
    raise AssertionError("a share of 0 draws nothing")


NO_FRESH_NOISE = FreshNoise(0.0, _no_noise)


class Denoise(Protocol):
    """The clean estimates of a pair, and with `keep` (only then) a function that estimates the audio again on the same
    video."""

    def __call__(
        self, x: JointLatents, levels: Levels, keep: bool = False
    ) -> tuple[JointLatents, AudioDenoise | None]: ...


def initial_noise(noise: JointLatents, grid: SamplingGrid, video_temperature: float = 1.0) -> JointLatents:
    """Standard normal noise -> the state at the start of the grid, as both pretrained pipelines begin:
    sqrt(sigma^2 + 1) times the noise.

    video_temperature: multiplies the video's noise. Below 1 a sampler stays nearer to the likeliest video: less grain
    where a small model leaves some, and less motion. (The likeliest sound is near silence, so it has no such factor.)
    """
    video, audio = (float(sigmas[0]) for sigmas in (grid.video_sigmas, grid.audio_sigmas))
    return JointLatents(noise.video * (math.hypot(video, 1) * video_temperature), noise.audio * math.hypot(audio, 1))


def hold_video(x: JointLatents, video: Tensor) -> JointLatents:
    """The state with the clean latents `video` [B, F, C, h, w], for a grid that holds the video."""
    return replace(x, video=video.float())


def hold_audio(x: JointLatents, audio: Tensor, grid: SamplingGrid) -> JointLatents:
    """The state with the clean latents `audio` [B, C, l, m], for a grid that holds the audio."""
    return replace(x, audio=audio.float() * audio_scale(grid))


def audio_scale(grid: SamplingGrid) -> float:
    """What clean audio latents are multiplied with in the state. AudioLDM2's are its variance-preserving state where
    the grid ends."""
    return math.hypot(float(grid.audio_sigmas[-1]), 1)


class FirstFrameHeld:
    """A denoiser whose video always starts with a known frame, `first` [B, C, h, w], scaled: the sampler's path of that
    frame is then the noised frame itself, and it ends there exactly."""

    def __init__(self, denoise: Denoise, first: Tensor) -> None:
        self.denoise, self.first = denoise, first

    def __call__(self, x: JointLatents, levels: Levels, keep: bool = False) -> tuple[JointLatents, AudioDenoise | None]:
        estimate, audio_again = self.denoise(x, levels, keep)
        video = torch.cat([self.first[:, None].to(estimate.video), estimate.video[:, 1:]], 1)
        return replace(estimate, video=video), audio_again


def euler(
    denoise: Denoise,
    x: JointLatents,
    grid: SamplingGrid,
    callback: Callback | None = None,
    fresh: FreshNoise = NO_FRESH_NOISE,
) -> JointLatents:
    """Euler's method on the probability flow (algorithm 1 of 2206.00364 without its corrector).

    It is diffusers' EulerDiscreteScheduler for the video and deterministic DDIM (2010.02502) for the audio.
    """
    return _multistep(denoise, x, grid, callback, fresh, order=1)


def dpmpp_2m(
    denoise: Denoise,
    x: JointLatents,
    grid: SamplingGrid,
    callback: Callback | None = None,
    fresh: FreshNoise = NO_FRESH_NOISE,
) -> JointLatents:
    """DPM-Solver++(2M) (algorithm 2 of 2211.01095): second order from the estimate of the step before, which the audio
    takes from its sub-steps. Where a step is longer than `LONGEST` the line through both estimates does not reach, and
    it is Euler's."""
    return _multistep(denoise, x, grid, callback, fresh, order=2)


def lcm(
    denoise: Denoise,
    x: JointLatents,
    grid: SamplingGrid,
    callback: Callback | None = None,
    fresh: FreshNoise = NO_FRESH_NOISE,
) -> JointLatents:
    """Multistep sampling of a consistency model (algorithm 1 of 2303.01469) for the video: its clean estimate, and so
    much fresh noise as the next level has. Euler for the audio, which is no such model.

    It is the sampler that AnimateLCM-SVD (2402.00769) was published with; `fresh` needs a draw, and its share is all.
    """
    return _multistep(denoise, x, grid, callback, replace(fresh, share=1.0), order=1)


def heun(
    denoise: Denoise,
    x: JointLatents,
    grid: SamplingGrid,
    callback: Callback | None = None,
    fresh: FreshNoise = NO_FRESH_NOISE,
) -> JointLatents:
    """Heun's method (algorithm 1 of 2206.00364): Euler, then again with the mean of the slopes at both ends.

    The slope at a step's end comes from a joint evaluation, for the last audio sub-step too. A step that is longer than
    `LONGEST` is Euler's: the slope at its end has little to do with the way there. So is a step to sigma 0, for both,
    and every step with fresh noise, whose end is no level of the grid.
    """
    video, audio = grid.video_sigmas.tolist(), grid.audio_sigmas.tolist()
    n = grid.substeps
    for step in range(grid.steps):
        levels = grid.levels(step)
        estimate, audio_again = denoise(x, levels, keep=n > 1 and not levels.audio_rests)
        sound, denoised = x.audio, estimate.audio
        for substep in range(n - 1):
            start, end = audio[step * n + substep : step * n + substep + 2]
            if start == end:  # the audio rests: its expert has nothing to do
                continue
            assert audio_again is not None
            levels = grid.levels(step, substep + 1)
            there = _toward(sound, denoised, start, end)
            sound = _mean_slope(sound, denoised, there, audio_again(there, levels), start, end)
            denoised = audio_again(sound, levels)
        audio_again = None  # frees the video that it keeps
        v_start, v_end = video[step : step + 2]
        a_start, a_end = audio[step * n + n - 1 : step * n + n + 1]
        v_goal, added = fresh.step(v_start, v_end)
        picture = fresh.add(_toward(x.video, estimate.video, v_start, v_goal), added)
        there = JointLatents(picture, _toward(sound, denoised, a_start, a_end))
        if v_end and a_end and not added and (_bends(v_start, v_end) or _bends(a_start, a_end)):
            ahead, _ = denoise(there, replace(grid.levels(step + 1), audio_rests=False))
            there = JointLatents(
                _mean_slope(x.video, estimate.video, there.video, ahead.video, v_start, v_end),
                _mean_slope(sound, denoised, there.audio, ahead.audio, a_start, a_end),
            )
        x = there
        if callback:
            callback(step + 1, grid.steps, estimate)
    return _leave(x, grid)


@dataclass(frozen=True)
class _Past:
    """The estimate of an earlier step, and its level."""

    denoised: Tensor
    sigma: float


def _multistep(
    denoise: Denoise, x: JointLatents, grid: SamplingGrid, callback: Callback | None, fresh: FreshNoise, order: int
) -> JointLatents:
    """One evaluation a step, of an order that the estimate of the step before can give."""
    video, audio = grid.video_sigmas.tolist(), grid.audio_sigmas.tolist()
    n = grid.substeps
    video_past = audio_past = None

    def advance(x: Tensor, denoised: Tensor, past: _Past | None, start: float, end: float) -> Tensor:
        if order == 1 or past is None or not _bends(start, end):
            return _toward(x, denoised, start, end)
        ratio = math.log(start / end) / math.log(past.sigma / start)
        if ratio > LONGEST:
            return _toward(x, denoised, start, end)
        return _toward(x, denoised + (denoised - past.denoised) * (ratio / 2), start, end)

    for step in range(grid.steps):
        levels = grid.levels(step)
        estimate, audio_again = denoise(x, levels, keep=n > 1 and not levels.audio_rests)
        sound, denoised = x.audio, estimate.audio
        for substep in range(n):
            start, end = audio[step * n + substep : step * n + substep + 2]
            if start == end:  # the audio rests: its expert has nothing to do
                continue
            if substep:
                assert audio_again is not None
                denoised = audio_again(sound, grid.levels(step, substep))
            sound = advance(sound, denoised, audio_past, start, end)
            audio_past = _Past(denoised, start)
        audio_again = None  # frees the video that it keeps
        goal, added = fresh.step(*video[step : step + 2])
        picture = fresh.add(advance(x.video, estimate.video, video_past, video[step], goal), added)
        video_past = _Past(estimate.video, video[step])
        x = JointLatents(picture, sound)
        if callback:
            callback(step + 1, grid.steps, estimate)
    return _leave(x, grid)


def _bends(start: float, end: float) -> bool:
    """Whether a step can be of second order: it moves, and is not too long, as one to 0 is."""
    return end < start <= end * math.exp(LONGEST)


def _toward(x: Tensor, denoised: Tensor, start: float, end: float) -> Tensor:
    """Euler's step from sigma `start` to `end`: on the line from the clean estimate to x. Exact at 0 and at rest."""
    return torch.lerp(denoised, x, end / start)


def _mean_slope(x: Tensor, denoised: Tensor, x_end: Tensor, denoised_end: Tensor, start: float, end: float) -> Tensor:
    """Heun's step: x moved by the mean of the slopes (x - denoised) / sigma at both ends. A step that is too long stays
    Euler's, x_end."""
    if not _bends(start, end):
        return x_end
    return x + ((x - denoised) / start + (x_end - denoised_end) / end) * ((end - start) / 2)


def _leave(x: JointLatents, grid: SamplingGrid) -> JointLatents:
    """AudioLDM2's table ends above sigma 0: its latents are the variance-preserving state there."""
    return replace(x, audio=x.audio / audio_scale(grid))
