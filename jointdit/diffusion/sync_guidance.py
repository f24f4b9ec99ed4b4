"""Sync without training: at each step, the sound's clean estimate is pulled to when the picture's estimate moves.

How far each latent frame is from the one before (root mean square) should go with how loud the sound is in between (a
linear readout of its latents). The sound moves along the gradient of the correlation of the two curves. The gradient
goes through the estimate alone, not through the UNets, and has a closed form: it costs no more than a few sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import einsum, reduce
from torch import Tensor

from ..encoders.autoencoders import AudioAutoencoder
from ..encoders.mel import BINS
from ..errors import InputError
from ..latents import JointLatents
from .samplers import AudioDenoise, Denoise
from .schedules import Levels

STRONGEST = 10.0  # the root mean square of latents is about 1
TINY = 1e-8
LENGTH = 64  # latents along time over which the readout is averaged


@dataclass(frozen=True)
class SyncGuidance:
    """How strongly, and when, the sound is pulled.

    strength: root mean square of what is added to the sound's estimate in a step in which the two curves do not
    correlate; it goes to 0 as they agree. 0 is neutral and costs nothing; 0.5 is a good start.
    interval: lowest and highest video sigma at which it acts. Above 30 the picture does not know yet when it moves. A
    held video is always at the lowest sigma of all.
    Raises InputError for a value out of range.
    """

    strength: float = 0.5
    interval: tuple[float, float] = (0.0, 30.0)

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= STRONGEST:
            raise InputError(f"sync strength {self.strength}: give a number from 0 to {STRONGEST:g}; 0 is off")
        if not 0 <= self.interval[0] < self.interval[1] < math.inf:
            raise InputError(f"sync interval {self.interval}: give a lower and a higher video sigma")

    def acts(self, video_sigma: float) -> bool:
        """Whether there is anything to do at this noise level."""
        return self.strength > 0 and self.interval[0] <= video_sigma <= self.interval[1]

    def pull(self, audio: Tensor, video: Tensor, loudness: Tensor) -> Tensor:
        """The estimate audio [B, C, l, m], pulled to when video [B, F, C, h, w] moves.

        loudness [C, m]: how loud each latent of a time makes it (`loudness_readout`).
        """
        window = _windows(audio.shape[2], video.shape[1]).to(audio)
        moving = _unit(reduce(video.diff(dim=1).square(), "b f c h w -> b f", "mean").sqrt())
        loud = _unit(einsum(audio, loudness.to(audio), window, "b c l m, c m, f l -> b f"))
        agreement = (moving * loud).sum(1)
        slope = moving - agreement[:, None] * loud
        gradient = einsum(slope, loudness.to(audio), window, "b f, c m, f l -> b c l m")
        size = reduce(gradient.square(), "b c l m -> b", "mean").sqrt().clamp(min=TINY)
        return audio + gradient * (self.strength * (1 - agreement) / size)[:, None, None, None]


class SyncedDenoiser:
    """A denoiser whose sound is pulled, for a sampler. loudness: as in `SyncGuidance.pull`."""

    def __init__(self, denoise: Denoise, sync: SyncGuidance, loudness: Tensor) -> None:
        self.denoise, self.sync, self.loudness = denoise, sync, loudness

    def __call__(self, x: JointLatents, levels: Levels, keep: bool = False) -> tuple[JointLatents, AudioDenoise | None]:
        estimate, audio_again = self.denoise(x, levels, keep)
        if not self.sync.acts(levels.video_sigma.item()):
            return estimate, audio_again
        pulled = replace(estimate, audio=self.sync.pull(estimate.audio, estimate.video, self.loudness))
        if audio_again is None:
            return pulled, None

        def pulled_again(audio: Tensor, levels: Levels) -> Tensor:
            return self.sync.pull(audio_again(audio, levels), estimate.video, self.loudness)

        return pulled, pulled_again


def loudness_readout(codec: AudioAutoencoder) -> Tensor:
    """How loud each latent makes its time, [C, m]: the mean slope of the decoded log-mel at standard normal latents,
    which by Stein's lemma is its best linear fit on them. Read from the autoencoder's weights alone.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        channels = codec.vae.config["latent_channels"]
        latents = torch.randn(1, channels, LENGTH, BINS // codec.factor, generator=generator)
        latents = latents.to(codec.vae.device).requires_grad_()
        (slope,) = torch.autograd.grad(codec.decode_mel(latents).float().mean(), latents)
    return slope[0].sum(1)


def _windows(length: int, frames: int) -> Tensor:
    """[F - 1, l]: means of the audio latents between each frame and the next. Both span the whole clip."""
    return F.adaptive_avg_pool1d(torch.eye(length), frames).T[:-1]


def _unit(curve: Tensor) -> Tensor:
    """[B, F] without its mean, of length 1; zeros where it does not change."""
    centred = curve - curve.mean(1, keepdim=True)
    return centred / torch.linalg.vector_norm(centred, dim=1, keepdim=True).clamp(min=TINY)
