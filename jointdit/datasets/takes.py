"""Clips of one shape out of a recording at chosen places, as a test set needs them."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InputError
from ..latents import ClipShape
from ..media import Clip, fit_audio, fit_image, stream_clip
from .recordings import Recording

MAX_SECONDS = 60.0  # of a recording


def take_clips(recording: Recording, shape: ClipShape, sample_rate: int, count: int = 1) -> list[Clip]:
    """Clips of exactly `shape` with mono sound: the first begins with the recording, the last ends with it, the others
    lie evenly between; a single one begins with it. They overlap where the recording is short.

    Raises InputError for a recording that is too short, has no sound or cannot be read.
    """
    if recording.problem:
        raise InputError(f"{recording.name}: {recording.problem}")
    frames: list[np.ndarray] = []
    with stream_clip(recording.path, max_seconds=MAX_SECONDS, fps=shape.fps, sample_rate=sample_rate) as stream:
        if not stream.audio.size:
            raise InputError(f"{recording.name}: has no sound")
        mono = stream.audio.mean(0, keepdims=True)
        for picture, steps in stream.pictures:
            frames.extend([fit_image(picture, shape.height, shape.width)] * steps)
            if count == 1 and len(frames) >= shape.frames:
                break
    if len(frames) < shape.frames:
        seconds = float(len(frames) / shape.fps)
        raise InputError(f"{recording.name}: lasts {seconds:.2f} s, less than {float(shape.seconds):.2f} s")
    clips = []
    for first in np.linspace(0, len(frames) - shape.frames, count).round().astype(int).tolist():
        sound = mono[:, math.floor(first / shape.fps * sample_rate) :]
        audio = fit_audio(sound, shape.samples(sample_rate), fade=0)
        clips.append(Clip(np.stack(frames[first : first + shape.frames]), shape.fps, audio, sample_rate))
    return clips
