"""Clips longer than the model's window: windows that are denoised together, and parts of a clip that are known.

Both stand between the model and a sampler, which sees the whole clip as one state. At every evaluation each window's
clean estimates are blended over the overlaps, in both modalities, before the sampler moves (MultiDiffusion, 2302.08113,
along time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..latents import JointLatents, Windows
from .samplers import AudioDenoise, Denoise
from .schedules import Levels


class WindowedDenoiser:
    """A denoiser of a whole clip, [1, T, ...], from one of its windows, which it sees as a batch [K, F, ...]."""

    def __init__(self, denoise: Denoise, windows: Windows) -> None:
        self.denoise = denoise
        frames, latents = zip(*windows.places(), strict=True)
        self.frames, self.latents = _Blend(frames), _Blend(latents)

    def __call__(self, x: JointLatents, levels: Levels, keep: bool = False) -> tuple[JointLatents, AudioDenoise | None]:
        cut = JointLatents(self.frames.cut(x.video, 1), self.latents.cut(x.audio, 2))
        estimate, audio_again = self.denoise(cut, levels, keep)
        whole = JointLatents(self.frames.join(estimate.video, 1), self.latents.join(estimate.audio, 2))
        if audio_again is None:
            return whole, None

        def again(audio: Tensor, levels: Levels) -> Tensor:
            return self.latents.join(audio_again(self.latents.cut(audio, 2), levels), 2)

        return whole, again


class _Blend:
    """Places along time, in order, and how much each of them counts where they overlap."""

    def __init__(self, places: Sequence[slice]) -> None:
        self.places = places
        self.length = places[-1].stop
        weights = torch.zeros(len(places), self.length)
        for index, place in enumerate(places):
            weight = torch.ones(place.stop - place.start)
            if index:
                rising = ramp(places[index - 1].stop - place.start)
                weight[: len(rising)] *= rising
            if index + 1 < len(places):
                falling = ramp(place.stop - places[index + 1].start).flip(0)
                weight[len(weight) - len(falling) :] *= falling
            weights[index, place] = weight
        self.weights = weights / weights.sum(0)

    def cut(self, x: Tensor, axis: int) -> Tensor:
        """[1, ..., T, ...] -> [K, ..., F, ...]."""
        return torch.cat([x.narrow(axis, place.start, place.stop - place.start) for place in self.places])

    def join(self, parts: Tensor, axis: int) -> Tensor:
        """The reverse of `cut`: sums whose weights are one in all."""
        shape = [1, *parts.shape[1:]]
        shape[axis] = self.length
        whole = parts.new_zeros(shape)
        wide = [-1 if each == axis - 1 else 1 for each in range(parts.ndim - 1)]
        for part, weight, place in zip(parts, self.weights.to(parts.device), self.places, strict=True):
            within = whole[0].narrow(axis - 1, place.start, place.stop - place.start)
            within += part * weight[place].reshape(wide)
        return whole


def ramp(length: int) -> Tensor:
    """[length], rising smoothly from above 0 to below 1; with its reverse it sums to one."""
    return torch.sin((torch.arange(length) + 0.5) / max(length, 1) * (torch.pi / 2)) ** 2


@dataclass(frozen=True, eq=False)
class Known:
    """Parts of a clip that are not to be made.

    latents: of the whole clip, clean and scaled, [1, T, ...]; they count where a mask is true.
    video: bool [T].    audio: bool [l].
    """

    latents: JointLatents
    video: Tensor
    audio: Tensor

    def __post_init__(self) -> None:
        """Raises ValueError for masks of another length than the latents."""
        lengths = self.latents.video.shape[1], self.latents.audio.shape[2]
        if (len(self.video), len(self.audio)) != lengths:
            raise ValueError(f"masks of {len(self.video)} and {len(self.audio)} for latents of {lengths}")

    def put(self, x: JointLatents) -> JointLatents:
        """x with these parts in place of its own."""
        return JointLatents(self._put_video(x.video), self._put_audio(x.audio, self.latents.audio))

    def hold(self, denoise: Denoise, audio_scale: float) -> Denoise:
        """A denoiser that estimates these parts as they are: a sampler's path of them is then what is known, noised, at
        every level. audio_scale: of the clean audio in a sampler's state (`samplers.hold_audio`)."""
        audio = self.latents.audio * audio_scale

        def held(x: JointLatents, levels: Levels, keep: bool = False) -> tuple[JointLatents, AudioDenoise | None]:
            estimate, audio_again = denoise(x, levels, keep)
            estimate = JointLatents(self._put_video(estimate.video), self._put_audio(estimate.audio, audio))
            return estimate, None if audio_again is None else _after(audio_again, self._put_audio, audio)

        return held

    def map(self, function: Callable[[Tensor], Tensor]) -> Known:
        """Applies `function` to the latents and the masks."""
        return replace(self, latents=self.latents.map(function), video=function(self.video), audio=function(self.audio))

    def _put_video(self, video: Tensor) -> Tensor:
        return torch.where(self.video[:, None, None, None], self.latents.video, video)

    def _put_audio(self, audio: Tensor, known: Tensor) -> Tensor:
        return torch.where(self.audio[:, None], known, audio)


def _after(audio_again: AudioDenoise, put: Callable[[Tensor, Tensor], Tensor], known: Tensor) -> AudioDenoise:
    return lambda audio, levels: put(audio_again(audio, levels), known)
