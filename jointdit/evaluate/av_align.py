"""AV-Align (Yariv et al. 2023, 2309.16429), computed as its authors' code does (av_align.py of
github.com/guyyariv/TempoTokens, as of 2025).

Peaks of OpenCV's Farneback flow at full size, of 0.1 pixels or more, at j / fps; librosa's onsets at 22.05 kHz; each
onset takes the first free peak less than a frame away; and what matched over all that there is. Needs the extra
`av-align`, OpenCV and librosa, because other implementations of either find other peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..media import Clip

RATE = 22_050  # Hz, to which librosa.load resamples
LEAST_FLOW = 0.1  # pixels

AVAILABLE = find_spec("cv2") is not None and find_spec("librosa") is not None


@dataclass(frozen=True, eq=False)
class Peaks:
    """What happens in one clip. seen, heard: seconds, rising."""

    seen: NDArray[np.float64]
    heard: NDArray[np.float64]
    fps: float


def find_peaks(clip: Clip) -> Peaks:
    """Raises ModuleNotFoundError without the extra `av-align`."""
    fps = float(clip.fps)
    return Peaks(np.array(flow_peaks(flow_speeds(clip.frames), fps)), _onsets(clip), fps)


def flow_speeds(frames: NDArray[np.uint8]) -> list[float]:
    """Mean length of the flow into each frame [T] in pixels; the first is that of the second."""
    import cv2  # pyright: ignore[reportMissingImports]

    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    speeds, room = [], np.zeros((*frames.shape[1:3], 2), np.float32)
    for before, after in pairwise(grey):
        flow = cv2.calcOpticalFlowFarneback(before, after, room, 0.5, 3, 15, 3, 5, 1.2, 0)
        speeds.append(float(cv2.mean(cv2.magnitude(flow[..., 0], flow[..., 1]))[0]))
    return speeds[:1] + speeds


def flow_peaks(speeds: list[float], fps: float) -> list[float]:
    """Times in seconds of strict local maxima that are fast enough."""
    inner = range(1, len(speeds) - 1)
    return [j / fps for j in inner if speeds[j - 1] < speeds[j] > speeds[j + 1] and speeds[j] >= LEAST_FLOW]


def _onsets(clip: Clip) -> NDArray[np.float64]:
    import librosa  # pyright: ignore[reportMissingImports]

    mono = librosa.to_mono(np.ascontiguousarray(clip.audio))
    sound = librosa.resample(mono, orig_sr=clip.sample_rate, target_sr=RATE)
    strength = librosa.onset.onset_strength(y=sound, sr=RATE)
    return librosa.frames_to_time(librosa.onset.onset_detect(onset_envelope=strength, sr=RATE), sr=RATE)


def av_align(picture: Peaks, sound: Peaks) -> float:
    """AV-Align, 0 to 1, of the picture of one clip and the sound of the same or another. NaN where nothing happens in
    either, of which the authors' code makes an error."""
    free = [True] * len(picture.seen)
    for heard in sound.heard:
        for index, seen in enumerate(picture.seen):
            if free[index] and seen - 1 / picture.fps < heard < seen + 1 / picture.fps:
                free[index] = False
                break
    matched = free.count(False)
    union = len(sound.heard) + len(picture.seen) - matched
    return matched / union if union else float("nan")
