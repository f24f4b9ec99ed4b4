"""The pair of modalities and the one place of shape arithmetic: pixels, latents, mel frames, samples, seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

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
    def audio_latents_per_second(self) -> float:
        """Rate of audio latents along time, 25 for AudioLDM2."""
        return self.sample_rate / (self.hop * self.mel_factor)

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
