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
from einops import rearrange
from torch import Tensor, nn

from ..diffusion.denoiser import JointDenoiser
from ..diffusion.schedules import Levels, SamplingGrid
from ..encoders.conditioning import TextEmbeddings, training_conditions
from ..latents import JointLatents
from ..models.model import Conditioning
from .cache import TEXT, CachedClips, Encoding
from .losses import AudioDraws, PairLosses
from .noise_levels import draw_nearly_clean_video, levels_along
from .seeds import generator_of
from .stages import TrainingConfig


@dataclass(frozen=True)
class Draws:
    """What chance decides for B clips: noise as their latents, levels [B], and flags [B].

    substeps: of the audio alone after the joint evaluation, [n B].
    given_noise, given_levels: of the nearly clean video.    given_substeps: of the audio beside it, [m B].
    """

    noise: JointLatents
    levels: Levels
    substeps: AudioDraws
    given_noise: JointLatents
    given_levels: Levels
    given_substeps: AudioDraws
    isolated: Tensor
    without_prompt: Tensor
    unconditional: Tensor  # without text and image


@dataclass(frozen=True)
class Losses:
    """Errors of B clips, [B] each, and the levels [B] of the joint evaluation.

    video: of the raw v.    audio: of the raw epsilon, with its weight.
    substeps, given_video: the audio's mean over its sub-steps; 0 for isolated clips, which have none.
    """

    video: Tensor
    audio: Tensor
    substeps: Tensor
    given_video: Tensor
    levels: Levels

    @property
    def parts(self) -> dict[str, Tensor]:
        """The errors by name."""
        return {name: getattr(self, name) for name in ("video", "audio", "substeps", "given_video")}

    @property
    def mean(self) -> Tensor:
        """What is minimised."""
        return sum(part.mean() for part in self.parts.values())  # type: ignore[return-value]


class JointObjective(nn.Module):
    """The losses of cached clips. A module, so that it can be wrapped for several processes as a whole.

    path: the noise levels of a sampling run, along which a share of the levels is drawn.
    origin: as in `conditioning.join`.
    """

    def __init__(
        self,
        denoiser: JointDenoiser,
        path: SamplingGrid,
        encoding: Encoding,
        motion_bucket: float,
        config: TrainingConfig,
        origin: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = denoiser.model
        self.denoiser, self.path = denoiser, path
        self.pair = PairLosses(denoiser, config.audio_weight)
        self.encoding, self.motion_bucket, self.config, self.origin = encoding, motion_bucket, config, origin

    def forward(self, clips: CachedClips, draws: Draws) -> Losses:
        """Losses of B clips with their draws."""
        clean = JointLatents(clips.video, clips.audio)
        cond = self.conditions(clips, draws.without_prompt, draws.unconditional)
        full = (~draws.isolated).nonzero()[:, 0]
        substeps = _of_clips(draws.substeps, full, len(draws.isolated))
        joint = self.pair.joint(clean, draws.noise, draws.levels, cond, draws.isolated, substeps)
        nothing = torch.zeros_like(joint.audio)
        given = nothing
        if len(full) and self.config.given_video:
            errors = self.pair.given_video(
                _select(clean, full),
                _select(draws.given_noise, full),
                draws.given_levels.select(full),
                cond.select(full),
                _of_clips(draws.given_substeps, full, len(draws.isolated)),
            )
            given = _mean_by_clip(errors, full, nothing)
        return Losses(joint.video, joint.audio, _mean_by_clip(joint.substeps, full, nothing), given, draws.levels)

    def conditions(self, clips: CachedClips, without_prompt: Tensor, unconditional: Tensor) -> Conditioning:
        """Conditions of B clips: the empty text where either flag [B] is set, the null image where `unconditional`."""
        empty = without_prompt | unconditional
        text = TextEmbeddings(
            **{name: _choose(empty, getattr(clips.no_text, name), getattr(clips.text, name)) for name in TEXT}
        )
        return training_conditions(
            self.model.joint_blocks,
            clips.image_embeds,
            clips.image_latents,
            text,
            without_prompt,
            unconditional,
            Fraction(self.encoding.fps),
            self.motion_bucket,
            self.encoding.noise_augmentation,
            self.origin,
        )

    def draw(self, clips: CachedClips, numbers: Sequence[int], step: int) -> Draws:
        """Draws for the clips with these numbers in the cache; step -1 is that of validation."""
        drawn = [
            self._draw(clips.video[row : row + 1], clips.audio[row : row + 1], generator_of(self.config.seed, step, n))
            for row, n in enumerate(numbers)
        ]
        return _cat(drawn)

    def _draw(self, video: Tensor, audio: Tensor, generator: torch.Generator) -> Draws:
        config, clock = self.config, self.denoiser.clock
        levels = clock.sample_levels(1, generator)
        isolated, without_prompt, unconditional, on_path, position = torch.rand(5, 1, generator=generator)
        if on_path < config.path_share:
            levels = levels_along(self.path, position)

        def noise() -> JointLatents:
            return JointLatents(*(torch.randn(x.shape, generator=generator) for x in (video, audio)))

        def substeps(count: int) -> AudioDraws:
            return AudioDraws.draw(clock, audio.repeat(count, 1, 1, 1), generator, config.audio_noise_power)

        return Draws(
            noise(),
            levels,
            substeps(config.audio_substeps),
            noise(),
            draw_nearly_clean_video(clock, 1, generator, config.audio_noise_power),
            substeps(config.given_video),
            isolated < config.isolated,
            without_prompt < config.drop_text,
            unconditional < config.drop_all,
        )


def to_device(thing: Any, device: torch.device) -> Any:
    """A copy of nested frozen dataclasses with all tensors on `device`."""
    if isinstance(thing, Tensor):
        return thing.to(device)
    return replace(thing, **{name: to_device(value, device) for name, value in vars(thing).items()})


def _cat(things: Sequence[Any]) -> Any:
    """The draws of one clip each as those of all B; sub-steps of a clip stand B apart."""
    if isinstance(things[0], Tensor):
        return rearrange(torch.stack(list(things)), "b n ... -> (n b) ...")
    return replace(things[0], **{name: _cat([getattr(thing, name) for thing in things]) for name in vars(things[0])})


def _of_clips(draws: AudioDraws, clips: Tensor, count: int) -> AudioDraws:
    """Of sub-steps [n B] of B = `count` clips, those [n P] of the clips [P]."""
    repeats = len(draws.noise) // count
    rows = (torch.arange(repeats, device=clips.device)[:, None] * count + clips).flatten()
    return AudioDraws(draws.levels.select(rows), draws.noise[rows])


def _select(latents: JointLatents, clips: Tensor) -> JointLatents:
    return JointLatents(latents.video[clips], latents.audio[clips])


def _mean_by_clip(errors: Tensor, clips: Tensor, nothing: Tensor) -> Tensor:
    """Means [B] of errors [n P] of the clips [P]; 0 for the others."""
    if not len(errors):
        return nothing
    return nothing.index_add(0, clips, rearrange(errors, "(n p) -> n p", p=len(clips)).mean(0))


def _choose(flags: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(flags.reshape(-1, *(1,) * (yes.ndim - 1)), yes, no)
