"""What Joint Blocks gain: errors of the clean estimate beside the finished other modality, joint and isolated.

Where the noise is strong it is decided what happens when, and only the other modality can say it. The share of the
isolated error that joint evaluation takes away there tells whether sync is being learned, long before it can be seen
and heard, and with little noise: both evaluations have the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.schedules import Levels, NoiseClock
from ..latents import JointLatents
from ..models.model import Conditioning
from .cache import CachedClips, LatentCache
from .losses import AudioDraws
from .objective import JointObjective, to_device
from .seeds import generator_of

LEVELS = (0.6, 0.85, 0.95)  # shared noise levels u at which it is measured
PASSES = ("joint", "isolated")


@dataclass(frozen=True)
class Gain:
    """Errors of the clean estimates of N clips.

    errors: by modality, [N, levels, 2]: joint and isolated.
    """

    errors: Mapping[str, Tensor]

    @property
    def numbers(self) -> dict[str, float]:
        """For the log: by modality and level the mean errors, then the gain with its standard error over the clips."""
        found: dict[str, float] = {}
        for modality, errors in self.errors.items():
            for level, pair in zip(LEVELS, errors.mean(0).tolist(), strict=True):
                found |= {f"{modality}_{name}_{level:g}": error for name, error in zip(PASSES, pair, strict=True)}
            found[modality], found[f"{modality}_error"] = self.of(modality)
        return found

    @property
    def mean(self) -> float:
        """Over both modalities: by it the best weights of a run are chosen."""
        return sum(self.of(modality)[0] for modality in self.errors) / len(self.errors)

    def of(self, modality: str) -> tuple[float, float]:
        """The share of a modality's isolated error that joint evaluation takes away, and its standard error.

        Each level counts the same: 1 - mean(joint) / mean(isolated) there.
        """
        joint, isolated = self.errors[modality].unbind(-1)  # [N, levels]
        gained = (isolated - joint) / isolated.mean(0)
        by_clip = gained.mean(1)
        return by_clip.mean().item(), (by_clip.std() / math.sqrt(len(by_clip))).item() if len(by_clip) > 1 else math.inf

    @property
    def nothing(self) -> bool:
        """Whether the sound gains nothing from its picture beyond chance (two standard errors)."""
        gain, error = self.of("audio")
        return gain <= 2 * error


@torch.no_grad()
def measure_gain(
    objective: JointObjective, cache: LatentCache, numbers: Sequence[int], batch: int, device: torch.device
) -> Gain:
    """The gain of these clips of a cache, `batch` at once. The noise follows from a clip's name."""
    parts = []
    for first in range(0, len(numbers), batch):
        part = numbers[first : first + batch]
        clips = to_device(cache.batch(part), device)
        clean = JointLatents(clips.video, clips.audio)
        drawn = [_noise(clips, row, cache.names[number]) for row, number in enumerate(part)]
        noise = JointLatents(*(torch.cat(each).to(device) for each in zip(*drawn, strict=True)))
        no = torch.zeros(len(part), dtype=torch.bool, device=device)
        cond = objective.conditions(clips, no, no)
        parts.append((_video_errors(objective, clean, noise, cond), _audio_errors(objective, clean, noise, cond)))
    video, audio = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return Gain({"video": video, "audio": audio})


def _noise(clips: CachedClips, row: int, name: str) -> tuple[Tensor, Tensor]:
    generator = generator_of("gain", name)
    video, audio = (torch.randn(x[row : row + 1].shape, generator=generator) for x in (clips.video, clips.audio))
    return video, audio


def _video_errors(objective: JointObjective, clean: JointLatents, noise: JointLatents, cond: Conditioning) -> Tensor:
    """Of the video beside the clean sound, [B, levels, 2]."""
    found = []
    for u in LEVELS:
        levels = _levels(objective.denoiser.clock, [u], [0.0], len(noise.video), noise.video.device)
        square = levels.video_sigma**2 / (1 + levels.video_sigma**2)  # from v to the clean estimate
        for isolated in (False, True):
            found.append(objective.denoiser.losses_at(clean, noise, levels, cond, isolated)[0] * square)
    return rearrange(torch.stack(found), "(l p) b -> b l p", p=len(PASSES))


def _audio_errors(objective: JointObjective, clean: JointLatents, noise: JointLatents, cond: Conditioning) -> Tensor:
    """Of the sound beside the clean video, [B, levels, 2]."""
    pair, clock, batch, device = objective.pair, objective.denoiser.clock, len(noise.audio), noise.audio.device
    rows = torch.arange(batch, device=device).repeat(len(LEVELS))
    levels = _levels(clock, [0.0] * len(LEVELS), LEVELS, batch, device)
    draws = AudioDraws(levels, noise.audio[rows])
    joint = pair.given_video(clean, noise, _levels(clock, [0.0], [0.0], batch, device), cond, draws)
    isolated = pair.audio_alone(clean.audio[rows], draws, cond.select(rows))
    square = levels.audio_sigma**2 / pair.weight(levels)  # from weighted epsilon to the clean estimate
    return rearrange(torch.stack((joint, isolated)) * square, "p (l b) -> b l p", b=batch)


def _levels(
    clock: NoiseClock, video: Sequence[float], audio: Sequence[float], batch: int, device: torch.device
) -> Levels:
    """Levels [L B] at L shared noise levels u of each modality; those of a clip stand B apart."""
    sigma, timestep = (torch.tensor(each, dtype=torch.float64) for each in (video, audio))
    levels = clock.levels(clock.video_sigma(sigma), clock.audio_timestep(timestep))
    return levels.select(torch.arange(len(video), device=device).repeat_interleave(batch))
