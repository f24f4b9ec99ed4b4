"""Do picture and sound of any clips belong together? Scores that need no truth, against shuffled pairs of the same set.

The plain scores reward clips that are noisy all the time; only what exceeds the shuffled pairs tells of sync.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import argrelmax
from skimage.registration import optical_flow_ilk

from ..media import Clip
from .heard import events_heard, loudness
from .matching import match_events
from .scores import Margin
from .seen import motion
from .sync import lagged_correlation

PARTNERS = 32  # other clips whose sound each clip is compared with, at most
FLOW_SIDE = 64  # pixels of the longer side on which optical flow is computed


@dataclass(frozen=True)
class AlignScores:
    """Scores of a set of clips, each against shuffled pairs: onset alignment, and how motion and loudness correlate."""

    clips: int
    onset_align: Margin
    motion_loudness: Margin


@dataclass(frozen=True, eq=False)
class Curves:
    """What the scores need of one clip. flow_peaks, onsets: seconds.    motion: [T] in grey levels."""

    flow_peaks: NDArray[np.float64]
    onsets: NDArray[np.float64]
    motion: NDArray[np.float32]
    clip_audio: NDArray[np.float32]
    sample_rate: int
    fps: float

    @classmethod
    def of(cls, clip: Clip) -> Curves:
        """Raises ValueError for a clip without sound."""
        if not clip.has_audio:
            raise ValueError("the clip has no sound")
        flow = flow_speed(clip.frames)
        peaks = (argrelmax(flow)[0].astype(np.float64) - 0.5) / float(clip.fps)
        onsets = events_heard(clip.audio, clip.sample_rate)
        return cls(peaks, onsets, motion(clip.frames), clip.audio, clip.sample_rate, float(clip.fps))


def flow_speed(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean length [T] of the optical flow from the frame before; 0 for the first. The picture is 64 pixels long.

    The flow is scikit-image's iterative Lucas-Kanade on grey pictures.
    """
    height, width = frames.shape[1:3]
    scale = FLOW_SIDE / max(height, width)
    size = max(16, round(scale * width)), max(16, round(scale * height))
    grey = [np.asarray(Image.fromarray(frame).convert("L").resize(size), np.float32) / 255 for frame in frames]
    speeds = []
    for before, after in pairwise(grey):
        rows, columns = optical_flow_ilk(before, after, radius=5, num_warp=3)
        speeds.append(np.hypot(rows, columns).mean())
    return np.array([0.0, *speeds], np.float32)


def onset_align(picture: Curves, sound: Curves) -> float:
    """Onset alignment, 0 to 1: peaks of the optical flow and onsets of sound within one frame of each other, matched
    one to one, over the union of both. 0 where there is neither.

    The idea is that of AV-Align, by other means that need no further package; `av_align.py` has the published measure.
    """
    matched = len(match_events(picture.flow_peaks, sound.onsets, 1 / picture.fps))
    union = len(picture.flow_peaks) + len(sound.onsets) - matched
    return matched / union if union else 0.0


def motion_loudness(picture: Curves, sound: Curves) -> float:
    """Correlation of motion with loudness over frames, the best within one frame of lag."""
    moving = picture.motion[1:]
    loud = loudness(sound.clip_audio, sound.sample_rate, picture.fps, len(picture.motion), offset=-0.5)[1:]
    frames = min(len(moving), int(sound.clip_audio.shape[1] / sound.sample_rate * picture.fps) - 1)
    return lagged_correlation(moving[:frames], loud[:frames])


def align_clips(clips: Sequence[Curves], seed: int = 0) -> AlignScores:
    """Scores of two clips or more. `seed` chooses, in sets of more than 33, the clips to shuffle with."""
    count = len(clips)
    if count < 2:
        raise ValueError(f"{count} clips: shuffled pairs need at least 2")
    shifts = np.random.default_rng(seed).permutation(np.arange(1, count))[:PARTNERS]
    margins = []
    for score in (onset_align, motion_loudness):
        own = [score(clip, clip) for clip in clips]
        shuffled = [
            np.mean([score(clip, clips[(index + shift) % count]) for shift in shifts])
            for index, clip in enumerate(clips)
        ]
        margins.append(Margin.of(own, shuffled))
    return AlignScores(count, *margins)
