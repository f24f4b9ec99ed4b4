"""Sync without training: at each step, the clean estimates of picture and sound are pulled together.

When the picture moves (root mean square of each latent frame's change) should be when the sound is loud (a linear
readout of its latents). Each estimate moves along the gradient of the correlation of the two curves. The gradient goes
through the estimates alone, not through the UNets, and has a closed form: its cost is that of two sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, reduce
from torch import Tensor

from .autoencoders import AudioAutoencoder
from .errors import InputError
from .latents import JointLatents
from .mel import BINS
from .samplers import AudioDenoise, Denoise
from .schedules import Levels

HIGHEST = 10.0  # root mean square of latents is about 1
TINY = 1e-8
LENGTH = 64  # latents along time over which the readout is averaged


@dataclass(frozen=True)
class SyncGuidance:
    """How strongly, and when, the estimates are pulled together.

    audio_strength, video_strength: root mean square of what is added to this modality's estimate at a step where the
    two do not correlate; it goes to 0 as they agree. 0 is neutral and costs nothing.
    interval: lowest and highest video sigma at which it acts. A held video is always at the lowest sigma of all.
    Raises InputError for a value out of range.
    """

    audio_strength: float = 0.0
    video_strength: float = 0.0
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("audio_strength", "video_strength"):
            if not 0 <= getattr(self, name) <= HIGHEST:
                raise InputError(f"sync {name} {getattr(self, name)}: give a number from 0 to {HIGHEST:g}; 0 is off")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1] < math.inf:
            raise InputError(f"sync interval {self.interval}: give a lower and a higher video sigma")

    @property
    def neutral(self) -> bool:
        return self.audio_strength == 0 and self.video_strength == 0

    def acts(self, video_sigma: float) -> bool:
        """Whether there is anything to do at this noise level."""
        return not self.neutral and (self.interval is None or self.interval[0] <= video_sigma <= self.interval[1])

    def pull(self, estimate: JointLatents, loudness: Tensor) -> JointLatents:
        """Clean estimates, pulled together. loudness [C, m]: how loud each latent of a time makes it.

        The first frame, which is the given picture, stays.
        """
        video, audio = estimate.video, estimate.audio
        steps = video.diff(dim=1)
        moving = reduce(steps.square(), "b f c h w -> b f", "mean").sqrt()
        window = _windows(audio.shape[2], video.shape[1]).to(audio)
        loud = einsum(audio, loudness.to(audio), window, "b c l m, c m, f l -> b f")
        moving_unit, loud_unit = _unit(moving), _unit(loud)
        agreement = (moving_unit * loud_unit).sum(1)
        if self.audio_strength:
            slope = moving_unit - agreement[:, None] * loud_unit
            gradient = einsum(slope, loudness.to(audio), window, "b f, c m, f l -> b c l m")
            audio = audio + _sized(gradient, self.audio_strength * (1 - agreement))
        if self.video_strength:
            slope = (loud_unit - agreement[:, None] * moving_unit) / moving.clamp(min=TINY)
            each = steps * slope[:, :, None, None, None]
            gradient = torch.cat((torch.zeros_like(each[:, :1]), each - F.pad(each[:, 1:], (0,) * 7 + (1,))), dim=1)
            video = video + _sized(gradient, self.video_strength * (1 - agreement))
        return JointLatents(video, audio)


class SyncedDenoiser:
    """A denoiser whose estimates are pulled together, for a sampler. loudness: as in `SyncGuidance.pull`."""

    def __init__(self, denoise: Denoise, sync: SyncGuidance, loudness: Tensor) -> None:
        self.denoise, self.sync, self.loudness = denoise, sync, loudness

    def __call__(self, x: JointLatents, levels: Levels, keep: bool = False) -> tuple[JointLatents, AudioDenoise | None]:
        estimate, audio_again = self.denoise(x, levels, keep)
        if not self.sync.acts(levels.video_sigma.item()):
            return estimate, audio_again

        def pulled_again(audio: Tensor, levels: Levels) -> Tensor:
            return self.sync.pull(JointLatents(estimate.video, audio_again(audio, levels)), self.loudness).audio

        return self.sync.pull(estimate, self.loudness), pulled_again if keep else None


def _windows(length: int, frames: int) -> Tensor:
    """[F - 1, l]: means of the audio latents between each frame and the next. Both span the whole clip."""
    return F.adaptive_avg_pool1d(torch.eye(length), frames).T[:-1]


def _unit(curve: Tensor) -> Tensor:
    """[B, F] without its mean, of length 1; zeros where it does not change."""
    centred = curve - curve.mean(1, keepdim=True)
    return centred / torch.linalg.vector_norm(centred, dim=1, keepdim=True).clamp(min=TINY)


def _sized(gradient: Tensor, size: Tensor) -> Tensor:
    """Scaled to a root mean square of `size` [B]; zeros stay."""
    norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1) / math.sqrt(gradient[0].numel())
    return gradient * (size / norm.clamp(min=TINY)).reshape(-1, *(1,) * (gradient.ndim - 1))


def loudness_readout(codec: AudioAutoencoder) -> Tensor:
    """How loud each latent makes its time, [C, m]: the mean slope of the decoded log-mel at standard normal latents,
    which by Stein's lemma is its best linear fit on them. Read from the autoencoder's weights alone.
    """
    vae = codec.vae
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        latents = torch.randn(1, vae.config.latent_channels, LENGTH, BINS // codec.factor, generator=generator)
        latents = latents.to(vae.device).requires_grad_()
        (slope,) = torch.autograd.grad(codec.decode_mel(latents).float().mean(), latents)
    return slope[0].sum(1)
