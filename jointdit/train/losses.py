"""What both experts and their Joint Blocks are trained with: by the stages, and by the recipe of the bundled model.

The plain loss, errors of the raw v and of the raw epsilon at common noise levels, hardly teaches sync: where the noise
is strong, and it is decided what sounds when, epsilon hardly errs while the clean estimate does. So errors of epsilon
weigh 1 + sigma^2 up to a limit, which is how v-prediction weighs the video's; and the sound also learns at noise levels
of its own beside one evaluation of its video, as samplers take several audio steps for one of the video: after each
joint evaluation, and beside a video that is nearly clean, in which it can be seen what happens when. Both cost little,
because the audio expert runs alone and attends to the video's keys and values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.denoiser import JointDenoiser, add_noise, model_inputs, scale_audio, squared_errors, training_targets
from ..diffusion.schedules import Levels, NoiseClock
from ..latents import JointLatents
from ..models.joint_block import KeyValue
from ..models.model import Both, Conditioning, JointDiTModel, KeptVideo, Stem, split_isolated
from .noise_levels import draw_audio_levels


@dataclass(frozen=True)
class AudioDraws:
    """What chance decides for N evaluations of the audio expert alone: levels [N], noise [N, C, l, m]."""

    levels: Levels
    noise: Tensor

    @classmethod
    def draw(cls, clock: NoiseClock, audio: Tensor, generator: torch.Generator, power: float) -> AudioDraws:
        """For sounds [N, C, l, m], from a generator of the host. power: of `draw_audio_levels`."""
        levels = draw_audio_levels(clock, len(audio), generator, power)
        noise = torch.randn(audio.shape, generator=generator).to(audio.device)
        return cls(levels.select(torch.arange(len(audio), device=audio.device)), noise)


@dataclass(frozen=True)
class PairErrors:
    """Mean squared errors of the raw v, and of the raw epsilon with its weight. video, audio: [B].    substeps: [n P],
    of n audio sub-steps of the P samples that are not isolated."""

    video: Tensor
    audio: Tensor
    substeps: Tensor


class PairLosses:
    """The losses of a denoiser's model.

    heaviest: errors of epsilon weigh 1 + sigma^2, up to this.
    """

    def __init__(self, denoiser: JointDenoiser, heaviest: float) -> None:
        self.denoiser, self.heaviest = denoiser, heaviest

    @property
    def model(self) -> JointDiTModel:
        return self.denoiser.model

    def joint(
        self,
        clean: JointLatents,
        noise: JointLatents,
        levels: Levels,
        conditioning: Conditioning,
        isolated: Tensor,
        substeps: AudioDraws,
    ) -> PairErrors:
        """Both modalities at `levels` [B], and sub-steps [n P] that attend to this video. isolated: [B]."""
        inputs = model_inputs(add_noise(clean, noise, levels), levels, conditioning)
        raw, kept = self.model.trunk(self.model.stem(*inputs, conditioning), isolated, keep=True)
        video, audio = squared_errors(raw, training_targets(clean, noise, levels, conditioning))
        full, _ = split_isolated(isolated, len(video), video.device)
        further = noise.audio.new_zeros(0)
        if len(full) and len(substeps.noise):
            further = self.beside(clean.audio[full], conditioning.select(full), kept, substeps)
        return PairErrors(video, audio * self.weight(levels), further)

    def given_video(
        self,
        clean: JointLatents,
        noise: JointLatents,
        levels: Levels,
        conditioning: Conditioning,
        substeps: AudioDraws,
    ) -> Tensor:
        """Errors [n B] of sub-steps [n B] that attend to the video at `levels` [B]. The audio expert learns, and how it
        sees the video; the video expert does not, and its Out does not run."""
        return self.beside(clean.audio, conditioning, self.see_video(clean, noise, levels, conditioning), substeps)

    def see_video(
        self, clean: JointLatents, noise: JointLatents, levels: Levels, conditioning: Conditioning
    ) -> KeptVideo:
        """What the sound attends to of the video at `levels` [B]."""
        inputs = model_inputs(add_noise(clean, noise, levels), levels, conditioning)
        with torch.no_grad():
            stem = self.model.stem(*inputs, conditioning)
        return video_keys(self.model, stem)

    def audio_alone(self, clean: Tensor, draws: AudioDraws, conditioning: Conditioning) -> Tensor:
        """The isolated audio expert: clean [B, C, l, m] -> [B]."""
        return self._audio(
            clean, draws, conditioning, lambda x, timestep: self.model.audio_alone(x, timestep, conditioning)
        )

    def weight(self, levels: Levels) -> Tensor:
        """Of errors of epsilon, [B]."""
        return (1 + levels.audio_sigma**2).clamp(max=self.heaviest)

    def beside(self, clean: Tensor, conditioning: Conditioning, kept: KeptVideo, draws: AudioDraws) -> Tensor:
        """Errors [n B] of sub-steps [n B] of the sounds [B, C, l, m] beside a video of which `kept` is known."""
        rows = torch.arange(len(clean), device=clean.device).repeat(len(draws.noise) // len(clean))
        repeated = KeptVideo(tuple(block and block.select(rows) for block in kept.blocks))
        cond = conditioning.select(rows)
        return self._audio(
            clean[rows],
            draws,
            cond,
            lambda x, timestep: self.model.audio_only(x, timestep, cond, repeated, isolated=False),
        )

    def _audio(
        self, clean: Tensor, draws: AudioDraws, conditioning: Conditioning, predict: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Weighted errors [B] of the epsilon that `predict` finds from the noisy audio and its timestep."""
        noisy = clean + draws.levels.audio_sigma.reshape(-1, 1, 1, 1) * draws.noise
        scaled = scale_audio(noisy, draws.levels).to(conditioning.audio_embeds.dtype)
        raw = predict(scaled, draws.levels.audio_timestep)
        return (raw.float() - draws.noise).square().flatten(1).mean(1) * self.weight(draws.levels)


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


def noise_like(clean: JointLatents, generator: torch.Generator) -> JointLatents:
    """Noise for both modalities from a generator of the host, the video's first."""
    return clean.map(lambda x: torch.randn(x.shape, generator=generator).to(x.device))
