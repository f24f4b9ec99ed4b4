"""What happens in pictures, and when. Frames are uint8 [T, H, W, 3]; frame j stands at j / fps seconds."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

LEAST_RISE = 3.0  # grey levels; compression and sampling noise stay below
LEAST_SHARE = 0.2  # of the strongest event of the clip
APART = 3  # frames at least between two events


def motion(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean absolute change [T] of each frame from the one before, in grey levels (0 to 255); 0 for the first."""
    as_float = [frame.astype(np.float32) for frame in frames]
    steps = [np.abs(frame - before).mean() for before, frame in pairwise(as_float)]
    return np.array([0.0, *steps], np.float32)


def level(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean absolute difference [T] of each frame from the first, in grey levels (0 to 255)."""
    first = frames[0].astype(np.float32)
    return np.array([np.abs(frame - first).mean() for frame in frames], np.float32)


def rise(change: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far `motion` [T] is above the lesser of the two frames before, in grey levels, at least 0.

    What moves evenly or fades away gives nothing; a blow, a flash or a start does, even spread over two frames. The
    first change has nothing before it to stand out from: a clip that always flickers does not start with an event.
    """
    before = np.concatenate([np.full(3, change[1:2].sum()), change[1:]])
    return np.maximum(change - np.minimum(before[1:-1], before[:-2]), 0)


def events_seen(frames: NDArray[np.uint8], fps: Fraction | float) -> NDArray[np.float64]:
    """Times in seconds, rising, at which something happens in sight: peaks of motion that rise high enough.

    An event that first shows in frame j was between frames j - 1 and j; its time is taken as (j - 1/2) / fps.
    """
    change = motion(frames)
    peaks, _ = find_peaks(np.append(change, 0), distance=APART)  # the last frame may be one
    height = rise(change)[peaks]
    least = max(LEAST_RISE, LEAST_SHARE * float(height.max(initial=0)))
    return (peaks[height >= least] - 0.5) / float(fps)
