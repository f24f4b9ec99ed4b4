"""How loud a training clip is, how much moves in it, and whether the two belong together."""

from __future__ import annotations

import numpy as np

from ..datasets.recordings import TrainingClip
from ..evaluate.heard import loudness, mean_loudness
from ..evaluate.seen import motion
from ..evaluate.sync import lagged_correlation
from ..latents import ClipShape
from .cache_index import Measures


def measure(clip: TrainingClip, shape: ClipShape, sample_rate: int) -> Measures:
    """Loudness, motion and sync of a clip. Sync is the correlation of motion with loudness, the best within one frame
    of lag, minus its mean over the same sound turned around in time by every other number of frames: a clip that is
    loud and moves all the time has none."""
    audio = clip.audio[None]
    moving = motion(clip.frames)[1:]
    loud = loudness(audio, sample_rate, shape.fps, shape.frames, offset=-0.5)[1:]
    by_chance = [lagged_correlation(moving, np.roll(loud, turn)) for turn in range(2, len(loud) - 1)]
    sync = lagged_correlation(moving, loud) - float(np.mean(by_chance or 0.0))
    return Measures(*(round(value, 4) for value in (mean_loudness(audio), float(moving.mean()), sync)))
