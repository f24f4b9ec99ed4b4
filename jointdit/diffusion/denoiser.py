"""Both experts seen as clean estimates D(x; sigma) in variance-exploding coordinates, x = clean + sigma * noise.

The scalings of the pretrained UNets live here alone, for the training loss and for the samplers. Video: the EDM
scalings of Stable Video Diffusion with v-prediction (2206.00364), of a video that is measured from
`Conditioning.video_origin`. Audio: AudioLDM2's variance-preserving input is
x / sqrt(1 + sigma^2), and D = x - sigma * epsilon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import repeat
from torch import Tensor

from ..latents import JointLatents
from ..models.model import Conditioning, JointDiTModel, KeptVideo
from .reuse import Reuse
from .schedules import Levels, NoiseClock

AudioPasses = Callable[[Tensor, Levels], list[Tensor]]


@dataclass(frozen=True)
class Pass:
    """One evaluation of the model for all samples: its conditions, and whether the modalities see each other.

    audio_only: of an isolated pass, only the audio is wanted: the video expert does not run.
    """

    conditioning: Conditioning
    isolated: bool = False
    audio_only: bool = False


@dataclass(frozen=True)
class _Part:
    """An evaluated part of the batch of all passes; each of its R rows is a sample of a pass."""

    samples: Tensor  # [R], which sample of x
    conditioning: Conditioning
    isolated: Tensor  # [R]
    estimate: JointLatents
    video: KeptVideo  # of the latest full evaluation
    start: Tensor | None  # what went deeper than the cut then, if it matters
    age: int = 0  # evaluations since


class JointDenoiser:
    """The joint model behind the scalings of its experts. States and estimates are float32; the model runs in the dtype
    of its conditioning.

    max_batch: rows of a model evaluation (samples times passes) when memory is short; the numbers stay the same.
    reuse: which evaluations of `denoise` run in full; a denoiser with it is for one sampling run.
    """

    def __init__(
        self, model: JointDiTModel, clock: NoiseClock, max_batch: int | None = None, reuse: Reuse | None = None
    ) -> None:
        if max_batch is not None and max_batch < 1:
            raise ValueError(f"max_batch {max_batch}: give None or at least 1")
        self.model, self.clock, self.max_batch, self.reuse = model, clock, max_batch, reuse
        self._cut = None if reuse is None else model.cut(reuse.layers)
        self._kept: tuple[Sequence[Pass], Sequence[_Part]] = ((), ())  # of the evaluation before, for `reuse`

    def losses(
        self,
        clean: JointLatents,
        conditioning: Conditioning,
        isolated: bool | Tensor,
        generator: torch.Generator,
        levels: Levels | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean squared errors of the raw v and of the raw epsilon, [B] each.

        levels: [B], by default drawn from the clock. Noise comes from `generator`, of the host, the video's first.
        """
        samples = torch.arange(len(clean.video), device=clean.video.device)
        levels = (levels or self.clock.sample_levels(len(samples), generator)).select(samples)
        noise = clean.map(lambda x: torch.randn(x.shape, generator=generator).to(x.device))
        return self.losses_at(clean, noise, levels, conditioning, isolated)

    def losses_at(
        self,
        clean: JointLatents,
        noise: JointLatents,
        levels: Levels,
        conditioning: Conditioning,
        isolated: bool | Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`losses` of given noise and levels [B]."""
        noisy = add_noise(clean, noise, levels)
        raw = self.model(*model_inputs(noisy, levels, conditioning), conditioning, isolated)
        return squared_errors(raw, training_targets(clean, noise, levels, conditioning))

    def denoise(
        self, x: JointLatents, levels: Levels, passes: Sequence[Pass], keep: bool = False
    ) -> tuple[list[JointLatents], AudioPasses | None]:
        """Clean estimates of every pass, in one batch; In runs once for passes with the same conditioning object.

        Passes of the audio alone come in a batch of their own; their estimate of the video is x itself. With `keep`,
        also a function from the audio and its levels to the audio's clean estimates of every pass, which attend to the
        video as it is in this evaluation.
        """
        joint = [index for index, each in enumerate(passes) if not each.audio_only]
        alone = [index for index, each in enumerate(passes) if each.audio_only]
        found, joint_again = self._denoise_pairs(x, levels, [passes[index] for index in joint], keep)
        conditions = [passes[index].conditioning for index in alone]

        def in_order(pairs: list, sounds: list) -> list:
            placed = dict(zip((*joint, *alone), (*pairs, *sounds), strict=True))
            return [placed[index] for index in range(len(passes))]

        def audio_again(audio: Tensor, levels: Levels) -> list[Tensor]:
            return in_order(joint_again(audio, levels), self._denoise_audio(audio, levels, conditions))

        sounds = [JointLatents(x.video, audio) for audio in self._denoise_audio(x.audio, levels, conditions)]
        return in_order(found, sounds), audio_again if keep else None

    def _denoise_audio(self, audio: Tensor, levels: Levels, conditions: Sequence[Conditioning]) -> list[Tensor]:
        """Clean estimates of the isolated audio under each of the conditions."""
        if not conditions:
            return []
        samples = torch.arange(len(audio), device=audio.device).repeat(len(conditions))
        conditioning, levels, audio = Conditioning.cat(conditions), levels.select(samples), audio[samples]
        parts = []
        for rows in torch.arange(len(samples), device=audio.device).split(self.max_batch or len(samples)):
            cond, level, sound = conditioning.select(rows), levels.select(rows), audio[rows]
            raw = self.model.audio_alone(
                scale_audio(sound, level).to(cond.audio_embeds.dtype), level.audio_timestep, cond
            )
            parts.append(clean_audio(sound, raw, level))
        return list(torch.cat(parts).chunk(len(conditions)))

    def _denoise_pairs(
        self, x: JointLatents, levels: Levels, passes: Sequence[Pass], keep: bool
    ) -> tuple[list[JointLatents], AudioPasses]:
        batch = len(x.video)
        unique = list({id(each.conditioning): each.conditioning for each in passes}.values())
        number = {id(each): index for index, each in enumerate(unique)}
        conditioning = Conditioning.cat(unique)
        # Rows are counted on the host, which so never waits for the device.
        stem_rows = torch.tensor([number[id(each.conditioning)] for each in passes])
        stem_rows = (stem_rows[:, None] * batch + torch.arange(batch)).flatten()
        isolated = torch.tensor([each.isolated for each in passes]).repeat_interleave(batch)
        # Rows that share In stand together, so that a split batch shares it too.
        order = stem_rows.argsort(stable=True)
        back = order.argsort().to(x.video.device)
        rows = order.split(self.max_batch or len(order))
        past, kept = self._kept
        before = kept if _same(past, passes) else [None] * len(rows)
        parts = [
            self._evaluate(x, levels, conditioning, stem_rows[some], isolated[some], keep, part)
            for some, part in zip(rows, before, strict=True)
        ]
        if self.reuse is not None:
            self._kept = passes, parts

        def by_pass(tensors: list[Tensor]) -> list[Tensor]:
            return list(torch.cat(tensors).index_select(0, back).chunk(len(passes)))

        def audio_again(audio: Tensor, levels: Levels) -> list[Tensor]:
            return by_pass([self._evaluate_audio(audio, levels, part) for part in parts])

        video, audio = (
            by_pass([part.estimate.video for part in parts]),
            by_pass([part.estimate.audio for part in parts]),
        )
        return [JointLatents(*pair) for pair in zip(video, audio, strict=True)], audio_again

    def _evaluate(
        self,
        x: JointLatents,
        levels: Levels,
        conditioning: Conditioning,
        stem_rows: Tensor,
        isolated: Tensor,
        keep: bool,
        before: _Part | None,
    ) -> _Part:
        """stem_rows [R], on the host: the sample of x, plus B for each conditioning before its own; rising.

        before: the same rows in the evaluation before this one, if they can be reused.
        """
        batch, device = len(x.video), x.video.device
        unique, among = stem_rows.unique(return_inverse=True)
        first, among, samples = (index.to(device) for index in (unique % batch, among, stem_rows % batch))
        own = conditioning.select(unique.to(device))
        reuse, cut = self.reuse, self._cut
        stem = self.model.stem(*model_inputs(_select(x, first), levels.select(first), own), own, cut)
        start = stem.video.hidden if reuse is not None and reuse.moved is not None else None
        if reuse is not None and before is not None and not reuse.suffices(before.age, before.start, start):
            before = None
        if cut is not None and before is None:
            stem = self.model.rest_of_stem(stem, cut)
        if len(unique) < len(among):  # else every row has an In of its own
            stem, own = stem.select(among), own.select(among)
        if cut is not None and before is not None:
            raw, video = self.model.trunk_again(stem, isolated, before.video, cut), before.video
            start, age = before.start, before.age + 1
        else:
            (raw, video), age = self.model.trunk(stem, isolated, keep or cut is not None, cut), 0
        estimate = clean_estimates(_select(x, samples), raw, levels.select(samples), own)
        return _Part(samples, own, isolated, estimate, video, start, age)

    def _evaluate_audio(self, audio: Tensor, levels: Levels, part: _Part) -> Tensor:
        audio, levels = audio.index_select(0, part.samples), levels.select(part.samples)
        scaled = scale_audio(audio, levels).to(part.conditioning.audio_embeds.dtype)
        raw = self.model.audio_only(scaled, levels.audio_timestep, part.conditioning, part.video, part.isolated)
        return clean_audio(audio, raw, levels)


def model_inputs(x: JointLatents, levels: Levels, conditioning: Conditioning) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """State of B samples as both UNets take it: video [B, F, 2C, h, w], audio [B, C, l, m], c_noise [B] and t [B]."""
    image = conditioning.image_latents
    video = (x.video - _origin(conditioning)) * (_wide(levels.video_sigma, x.video) ** 2 + 1).rsqrt()
    # Not scaled: Stable Video Diffusion was trained with the picture's latents as its autoencoder gives them.
    picture = repeat(image, "b c h w -> b f c h w", f=video.shape[1])
    video = torch.cat((video.to(image.dtype), picture), dim=2)
    audio = scale_audio(x.audio, levels).to(conditioning.audio_embeds.dtype)
    return video, audio, levels.video_sigma.log() / 4, levels.audio_timestep


def scale_audio(audio: Tensor, levels: Levels) -> Tensor:
    """Variance-exploding [B, C, l, m] to the variance-preserving input of AudioLDM2."""
    return audio * (_wide(levels.audio_sigma, audio) ** 2 + 1).rsqrt()


def clean_estimates(x: JointLatents, raw: JointLatents, levels: Levels, conditioning: Conditioning) -> JointLatents:
    """Raw v and epsilon -> D(x; sigma) of both: c_skip x + c_out v from the origin, and x - sigma epsilon."""
    sigma, origin = _wide(levels.video_sigma, x.video), _origin(conditioning)
    video = (x.video - origin) / (sigma**2 + 1) - raw.video.float() * sigma * (sigma**2 + 1).rsqrt()
    return JointLatents(origin + video, clean_audio(x.audio, raw.audio, levels))


def clean_audio(audio: Tensor, epsilon: Tensor, levels: Levels) -> Tensor:
    """Raw epsilon -> D(x; sigma)."""
    return audio - _wide(levels.audio_sigma, audio) * epsilon.float()


def training_targets(
    clean: JointLatents, noise: JointLatents, levels: Levels, conditioning: Conditioning
) -> JointLatents:
    """What the raw predictions should be: v = (noise - sigma clean) / sqrt(sigma^2 + 1), from the origin, and epsilon,
    the noise."""
    sigma = _wide(levels.video_sigma, clean.video)
    video = (noise.video - sigma * (clean.video - _origin(conditioning))) * (sigma**2 + 1).rsqrt()
    return JointLatents(video, noise.audio)


def squared_errors(raw: JointLatents, target: JointLatents) -> tuple[Tensor, Tensor]:
    """Of raw predictions, the mean of each sample: [B] for the video and for the audio."""
    video, audio = (raw.video.float() - target.video).square(), (raw.audio.float() - target.audio).square()
    return video.flatten(1).mean(1), audio.flatten(1).mean(1)


def add_noise(clean: JointLatents, noise: JointLatents, levels: Levels) -> JointLatents:
    """clean + sigma * noise."""
    return JointLatents(
        clean.video + _wide(levels.video_sigma, clean.video) * noise.video,
        clean.audio + _wide(levels.audio_sigma, clean.audio) * noise.audio,
    )


def _origin(conditioning: Conditioning) -> Tensor:
    """[B, 1, C, h, w], the same in every frame."""
    return conditioning.video_origin[:, None]


def _wide(level: Tensor, x: Tensor) -> Tensor:
    return level.reshape(-1, *(1,) * (x.ndim - 1))


def _same(past: Sequence[Pass], passes: Sequence[Pass]) -> bool:
    """Whether these are the same passes, of the same conditioning objects."""
    kinds = [[(id(each.conditioning), each.isolated) for each in some] for some in (past, passes)]
    return kinds[0] == kinds[1]


def _select(x: JointLatents, index: Tensor) -> JointLatents:
    return x.map(lambda part: part.index_select(0, index))
