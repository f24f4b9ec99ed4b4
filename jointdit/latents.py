"""The pair of modalities and the one place of shape arithmetic: pixels, latents, mel frames, samples, seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class JointLatents:
    """Video and audio travelling together; changed with `dataclasses.replace`.

    video: [B, F, C, h, w]    audio: [B, C, l, m], l along time and m along mel frequency.
    """

    video: Tensor
    audio: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> JointLatents:
        """Applies `function` to both modalities."""
        return JointLatents(function(self.video), function(self.audio))


@dataclass(frozen=True)
class ClipShape:
    """What the user asks for: `frames` pictures of `height` x `width` pixels at `fps` frames a second."""

    frames: int
    fps: Fraction
    height: int
    width: int

    @property
    def seconds(self) -> Fraction:
        """Exact duration: frames / fps."""
        return self.frames / self.fps

    @property
    def bytes(self) -> int:
        """Of all frames, 8 bits a channel."""
        return self.frames * self.height * self.width * 3

    def samples(self, sample_rate: int) -> int:
        """Samples of a waveform that lasts exactly as long as the frames."""
        return round(self.seconds * sample_rate)


@dataclass(frozen=True)
class Window:
    """A part of a clip that the model sees as a clip of its own. frame, audio: the first video and audio latent."""

    frame: int
    audio: int


@dataclass(frozen=True)
class Windows:
    """A clip as windows that overlap in time, all of the same size (`LatentLayout.windows`).

    shape: of each window, and audio_length: its audio latents.    starts: in order; every latent is in a window.
    """

    shape: ClipShape
    audio_length: int
    starts: tuple[Window, ...]

    @property
    def frames(self) -> int:
        """Of the whole clip."""
        return self.starts[-1].frame - self.starts[0].frame + self.shape.frames

    @property
    def audio_latents(self) -> int:
        """Of the whole clip."""
        return self.starts[-1].audio - self.starts[0].audio + self.audio_length

    def groups(self, count: int) -> list[Windows]:
        """The windows in groups of `count` neighbours, whose starts stay those in the whole clip."""
        return [replace(self, starts=self.starts[at : at + count]) for at in range(0, len(self.starts), count)]

    def places(self) -> list[tuple[slice, slice]]:
        """Where each window lies in the latents of the clip: its frames and its audio latents."""
        first = self.starts[0]
        return [
            (
                slice(start.frame - first.frame, start.frame - first.frame + self.shape.frames),
                slice(start.audio - first.audio, start.audio - first.audio + self.audio_length),
            )
            for start in self.starts
        ]


@dataclass(frozen=True)
class LatentLayout:
    """How the autoencoders of one model turn pixels and samples into latents (`encoders.autoencoders.layout_of`)."""

    video_channels: int
    video_factor: int  # pixels a side of one video latent
    audio_channels: int
    mel_factor: int  # mel frames, and mel bins, of one audio latent
    mel_bins: int
    hop: int  # samples of one mel frame
    sample_rate: int

    @property
    def audio_rate(self) -> Fraction:
        """Audio latents a second along time, 25 for AudioLDM2."""
        return Fraction(self.sample_rate, self.hop * self.mel_factor)

    @property
    def audio_latents_per_second(self) -> float:
        """The same as a number."""
        return float(self.audio_rate)

    def audio_length(self, clip: ClipShape) -> int:
        """Audio latents along time: AudioLDM2Pipeline's own rounding, whole mel frames padded up to whole latents."""
        mel_frames = int(clip.seconds * self.sample_rate / self.hop)
        return math.ceil(mel_frames / self.mel_factor)

    def audio_tokens(self, clip: ClipShape) -> int:
        """Audio latents along time and mel frequency together: what attends to each other."""
        return self.audio_length(clip) * (self.mel_bins // self.mel_factor)

    def video_shape(self, clip: ClipShape, batch: int) -> tuple[int, int, int, int, int]:
        """[B, F, C, h, w] of the video latents."""
        factor = self.video_factor
        return (batch, clip.frames, self.video_channels, clip.height // factor, clip.width // factor)

    def audio_shape(self, clip: ClipShape, batch: int) -> tuple[int, int, int, int]:
        """[B, C, l, m] of the audio latents."""
        return (batch, self.audio_channels, self.audio_length(clip), self.mel_bins // self.mel_factor)

    def windows(self, clip: ClipShape, frames: int, overlap: int) -> Windows:
        """A clip as windows of `frames` frames, of which neighbours share at least `overlap`; a clip that is not longer
        is one window.

        A window starts where a frame and an audio latent start together, if they do so between two windows, or else at
        the nearest audio latent (less than one away). The last window ends with the clip and shares more.
        Raises InputError for an overlap that leaves nothing between two windows, or is none.
        """
        if not 0 < overlap < frames:
            raise InputError(f"an overlap of {overlap} frames: give at least 1, and less than a window of {frames}")
        window = replace(clip, frames=min(frames, clip.frames))
        length, whole = self.audio_length(window), self.audio_length(clip)
        per_frame = self.audio_rate / clip.fps
        stride = frames - overlap
        stride -= stride % per_frame.denominator if stride >= per_frame.denominator else 0
        last = clip.frames - window.frames
        starts = [Window(frame, round(frame * per_frame)) for frame in range(0, last, stride)]
        return Windows(window, length, (*starts, Window(last, whole - length)))
