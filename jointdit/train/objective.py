"""The objective of training on cached clips: which noise, levels and conditions a clip gets at a step.

All randomness of a clip at a step comes from a generator of its own, so that neither the number of processes nor the
size of a micro-batch changes what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..diffusion.denoiser import JointDenoiser
from ..diffusion.schedules import Levels
from ..encoders.conditioning import TextEmbeddings, training_conditions
from ..latents import JointLatents
from ..models.joint_block import JointBlocks
from ..models.model import Conditioning
from .cache import TEXT, CachedClips, Encoding
from .seeds import generator_of
from .stages import TrainingConfig


@dataclass(frozen=True)
class Draws:
    """What chance decides for B clips: noise as their latents, levels [B], and flags [B]."""

    noise: JointLatents
    levels: Levels
    isolated: Tensor
    without_prompt: Tensor
    unconditional: Tensor  # without text and image


@dataclass(frozen=True)
class Losses:
    """Mean squared errors of the raw predictions, [B] each, and the levels [B] they were made at."""

    video: Tensor
    audio: Tensor
    levels: Levels

    @property
    def mean(self) -> Tensor:
        """What is minimised."""
        return self.video.mean() + self.audio.mean()


class JointObjective:
    """The loss of cached clips under a denoiser, whose model may be wrapped for several processes."""

    def __init__(
        self,
        denoiser: JointDenoiser,
        joint_blocks: JointBlocks,
        encoding: Encoding,
        motion_bucket: float,
        config: TrainingConfig,
    ) -> None:
        self.denoiser, self.joint_blocks = denoiser, joint_blocks
        self.encoding, self.motion_bucket, self.config = encoding, motion_bucket, config

    def losses(self, clips: CachedClips, draws: Draws) -> Losses:
        """Losses of B clips with their draws."""
        clean = JointLatents(clips.video, clips.audio)
        cond = self.conditions(clips, draws.without_prompt, draws.unconditional)
        video, audio = self.denoiser.losses_at(clean, draws.noise, draws.levels, cond, draws.isolated)
        return Losses(video, audio, draws.levels)

    def conditions(self, clips: CachedClips, without_prompt: Tensor, unconditional: Tensor) -> Conditioning:
        """Conditions of B clips: the empty text where either flag [B] is set, the null image where `unconditional`."""
        empty = without_prompt | unconditional
        text = TextEmbeddings(
            **{name: _choose(empty, getattr(clips.no_text, name), getattr(clips.text, name)) for name in TEXT}
        )
        return training_conditions(
            self.joint_blocks,
            clips.image_embeds,
            clips.image_latents,
            text,
            without_prompt,
            unconditional,
            Fraction(self.encoding.fps),
            self.motion_bucket,
            self.encoding.noise_augmentation,
        )

    def draw(self, clips: CachedClips, numbers: Sequence[int], step: int) -> Draws:
        """Draws for the clips with these numbers in the cache; step -1 is that of validation."""
        levels, flags, video, audio = [], [], [], []
        for row, number in enumerate(numbers):
            generator = generator_of(self.config.seed, step, number)
            levels.append(self.denoiser.clock.sample_levels(1, generator))
            flags.append(torch.rand(3, generator=generator))
            video.append(torch.randn(clips.video[row].shape, generator=generator))
            audio.append(torch.randn(clips.audio[row].shape, generator=generator))
        isolated, without_prompt, unconditional = torch.stack(flags, 1)
        noise = JointLatents(torch.stack(video), torch.stack(audio))
        config = self.config
        return Draws(
            noise,
            Levels(*(torch.cat(parts) for parts in zip(*(vars(level).values() for level in levels), strict=True))),
            isolated < config.isolated,
            without_prompt < config.drop_text,
            unconditional < config.drop_all,
        )


def to_device(thing: Any, device: torch.device) -> Any:
    """A copy of nested frozen dataclasses with all tensors on `device`."""
    if isinstance(thing, Tensor):
        return thing.to(device)
    return replace(thing, **{name: to_device(value, device) for name, value in vars(thing).items()})


def _choose(flags: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(flags.reshape(-1, *(1,) * (yes.ndim - 1)), yes, no)
