"""A sounding video in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from os import PathLike

import numpy as np

from ..errors import InputError, in_one_line
from ..latents import ClipShape
from .encode import write_video

MIN_FPS, MAX_FPS = Fraction(1, 1000), 240
MAX_DENOMINATOR = 1_000_000  # so that the writers, which count in 32 bits, hold every ratio and its inverse


def exact_fps(fps: int | float | str | Fraction) -> Fraction:
    """Frames per second as the exact ratio that is meant: 12.5 and "25/2" -> 25/2, 23.976 -> 24000/1001.

    Raises InputError unless 1/1000 <= fps <= 240.
    """
    try:
        # Of text with an exponent, Fraction would compute all digits.
        value = Fraction(float(fps) if isinstance(fps, str) and "e" in fps.lower() else fps)
    except (ValueError, OverflowError, ZeroDivisionError):
        value = Fraction(0)
    if not MIN_FPS <= value <= MAX_FPS:
        shown = in_one_line(str(fps), 40)
        raise InputError(f"fps is {shown}, but must be from 1/1000 to {MAX_FPS}, for example 12.5 or 24000/1001")
    if isinstance(fps, Rational):
        return value.limit_denominator(MAX_DENOMINATOR)
    broadcast = Fraction(1000 * math.ceil(value), 1001)  # NTSC's 23.976, 29.97, 59.94 and their like
    if value.denominator != 1 and abs(value - broadcast) < Fraction(1, 1000):
        return broadcast
    return value.limit_denominator(1001)


@dataclass(frozen=True, eq=False)
class Clip:
    """A video with its sound, both from time zero and of the same duration.

    frames: uint8 [T, H, W, 3], sRGB.
    fps: frames per second; int, float or text are made exact (see `exact_fps`).
    audio: float32 [channels, samples] in -1..1 with samples == round(T / fps * sample_rate); [1, 0] means no sound.
    sample_rate: Hz.

    Raises ValueError where an array does not fit this description, and InputError for sound with NaN or infinite
    samples.
    """

    frames: np.ndarray
    fps: Fraction
    audio: np.ndarray
    sample_rate: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", exact_fps(self.fps))
        frames, audio = self.frames, self.audio
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}, but must be uint8 [T, H, W, 3]")
        if audio.dtype != np.float32 or audio.ndim != 2 or audio.shape[0] == 0:
            raise ValueError(f"audio is {audio.dtype} {list(audio.shape)}, but must be float32 [channels, samples]")
        if not np.isfinite(audio).all():
            raise InputError("the sound holds NaN or infinite samples; where a model made it, try bfloat16 or float32")
        if self.sample_rate <= 0:
            raise ValueError(f"sample_rate is {self.sample_rate}, but must be above 0")
        samples = round(self.seconds * self.sample_rate)
        if self.has_audio and audio.shape[1] != samples:
            raise ValueError(
                f"audio has {audio.shape[1]} samples, but {len(frames)} frames at {self.fps} fps last {samples} "
                f"samples at {self.sample_rate} Hz: use fit_audio(audio, {samples})"
            )

    @property
    def seconds(self) -> Fraction:
        """Exact duration."""
        return len(self.frames) / self.fps

    @property
    def shape(self) -> ClipShape:
        """Of its frames."""
        frames, height, width, _ = self.frames.shape
        return ClipShape(frames, self.fps, height, width)

    @property
    def has_audio(self) -> bool:
        return self.audio.shape[1] > 0

    def save(
        self, path: str | PathLike[str], *, crf: int | None = None, overwrite: bool = True, comment: str | None = None
    ) -> None:
        """Write an .mp4 (H.264 and AAC) or a .webm (VP9 and Opus); see `write_video`."""
        write_video(
            path,
            self.frames,
            self.fps,
            self.audio,
            self.sample_rate,
            crf=crf,
            overwrite=overwrite,
            comment=comment,
        )
