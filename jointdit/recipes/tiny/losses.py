"""Losses of audio sub-steps: the sound of a clip at noise levels of its own, attending to one evaluation of its video.

A sampler takes several audio steps for one step of the video: the audio expert runs alone and attends to the keys and
values of the video that the joint evaluation kept. Training does the same, for the price of the small audio expert:
after each joint evaluation, and given a video that is nearly clean, from which the sound learns when things happen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...diffusion.denoiser import (
    JointDenoiser,
    add_noise,
    model_inputs,
    scale_audio,
    squared_errors,
    training_targets,
)
from ...diffusion.schedules import Levels
from ...latents import JointLatents
from ...models.joint_block import KeyValue
from ...models.model import Both, Conditioning, JointDiTModel, KeptVideo, Stem, split_isolated
from .noise_levels import draw_audio_levels


@dataclass(frozen=True)
class JointLosses:
    """Mean squared errors of the raw v, and of the raw epsilon with its weight. video, audio: [B].    substeps: [n P],
    of n audio sub-steps of the P samples that are not isolated."""

    video: Tensor
    audio: Tensor
    substeps: Tensor

    @property
    def mean(self) -> Tensor:
        """The sum of the means; sub-steps count as much as a modality where there are any."""
        mean = self.video.mean() + self.audio.mean()
        return mean + self.substeps.mean() if len(self.substeps) else mean


class AudioSubstepLosses:
    """The losses of a denoiser's model with audio sub-steps.

    heaviest: errors of epsilon weigh 1 + sigma^2, up to this. Where the noise is strong, and it is decided what sounds
    when, epsilon hardly errs while the clean estimate does.
    noise_power: of the sub-steps' levels, see `draw_audio_levels`.
    Noise comes from generators of the host.
    """

    def __init__(self, denoiser: JointDenoiser, heaviest: float, noise_power: float) -> None:
        self.model, self.clock = denoiser.model, denoiser.clock
        self.heaviest, self.noise_power = heaviest, noise_power

    def joint(
        self,
        clean: JointLatents,
        conditioning: Conditioning,
        isolated: Tensor,
        levels: Levels,
        generator: torch.Generator,
        substeps: int,
    ) -> JointLosses:
        """Both modalities at `levels` [B], and `substeps` audio sub-steps that attend to this video. isolated: [B]."""
        noise = _noise_of(clean, generator)
        inputs = model_inputs(add_noise(clean, noise, levels), levels, conditioning)
        raw, kept = self.model.trunk(self.model.stem(*inputs, conditioning), isolated, keep=True)
        video, audio = squared_errors(raw, training_targets(clean, noise, levels))
        full = (~isolated).nonzero()[:, 0]
        further = noise.audio.new_zeros(0)
        if len(full):
            further = self._substeps(clean.audio[full], conditioning.select(full), kept, generator, substeps)
        return JointLosses(video, audio * self._weight(levels.audio_sigma), further)

    def given_video(
        self, clean: JointLatents, conditioning: Conditioning, levels: Levels, generator: torch.Generator, substeps: int
    ) -> Tensor:
        """Errors [n B] of `substeps` audio sub-steps that attend to the video at `levels` [B]. The audio expert learns,
        and how it sees the video; the video expert does not, and its Out does not run."""
        inputs = model_inputs(add_noise(clean, _noise_of(clean, generator), levels), levels, conditioning)
        with torch.no_grad():
            stem = self.model.stem(*inputs, conditioning)
        return self._substeps(clean.audio, conditioning, video_keys(self.model, stem), generator, substeps)

    def audio_alone(self, clean: Tensor, conditioning: Conditioning, generator: torch.Generator) -> Tensor:
        """The isolated audio expert: clean [B, C, l, m] -> [B]."""
        return self._audio(
            clean, conditioning, generator, lambda x, timestep: self.model.audio_alone(x, timestep, conditioning)
        )

    def _substeps(
        self, clean: Tensor, conditioning: Conditioning, kept: KeptVideo, generator: torch.Generator, count: int
    ) -> Tensor:
        rows = torch.arange(len(clean), device=clean.device).repeat(count)
        repeated = KeptVideo(tuple(block and block.select(rows) for block in kept.blocks))
        cond = conditioning.select(rows)
        return self._audio(
            clean[rows],
            cond,
            generator,
            lambda x, timestep: self.model.audio_only(x, timestep, cond, repeated, isolated=False),
        )

    def _audio(
        self,
        clean: Tensor,
        conditioning: Conditioning,
        generator: torch.Generator,
        predict: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Weighted errors [B] of the epsilon that `predict` finds from the noisy audio and its timestep."""
        levels = draw_audio_levels(self.clock, len(clean), generator, self.noise_power)
        levels = levels.select(torch.arange(len(clean), device=clean.device))
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        noisy = clean + levels.audio_sigma.reshape(-1, 1, 1, 1) * noise
        raw = predict(scale_audio(noisy, levels).to(conditioning.audio_embeds.dtype), levels.audio_timestep)
        return (raw.float() - noise).square().flatten(1).mean(1) * self._weight(levels.audio_sigma)

    def _weight(self, audio_sigma: Tensor) -> Tensor:
        return (1 + audio_sigma**2).clamp(max=self.heaviest)


def video_keys(model: JointDiTModel, stem: Stem) -> KeptVideo:
    """What `JointDiTModel.trunk` keeps of samples that are not isolated, without Out. The experts get no gradient, the
    video's halves of the Joint Blocks do."""
    split = split_isolated(False, stem.fps.shape[0], stem.fps.device)
    kept: list[KeyValue] = []

    def run(states: Both, stage: int) -> Both:
        with torch.no_grad():
            return model.run_experts(states, stage)

    def join(states: Both, stage: int) -> Both:
        (video, audio), keys = model.apply_joint_block(states, stage, stem, split)
        kept.append(keys)
        return replace(video, hidden=video.hidden.detach()), replace(audio, hidden=audio.hidden.detach())

    model.through_stages((stem.video, stem.audio), run, join)
    return KeptVideo(tuple(kept))


def _noise_of(clean: JointLatents, generator: torch.Generator) -> JointLatents:
    return clean.map(lambda x: torch.randn(x.shape, generator=generator).to(x.device))
